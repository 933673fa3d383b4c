"""Plans: the runs a study or a sweep wants, each with the label (arm/budget/seed) by which people speak of it."""

import dataclasses
import fnmatch
import hashlib
import itertools
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from research.config import Config, ModelConfig, digest, replace
from research.errors import UserError, nearest, unknown
from research.values import LARGEST, annotations, decode

MOST_VALUES = 10_000  # of one axis: more is a slip of the keyboard
MOST_RUNS = 100_000  # of a sweep: ten times the largest that is known to be looked at in seconds


@dataclass(frozen=True)
class Planned:
    """One run of a plan. `target_macs`: the multiply-adds its arm was to have; `reason`: why it cannot have them."""

    arm: str
    budget: str
    seed: int
    config: Config
    target_macs: int | None = None
    reason: str = ""

    @property
    def label(self) -> str:
        """`arm/budget/seed`, what `--filter` matches."""
        return f"{self.arm}/{self.budget}/{self.seed}"


def check(planned: Sequence[Planned]) -> None:
    """Raise `UserError` where a plan is empty, two runs share a label, or a label's seed is not its config's."""
    if not planned:
        raise UserError("the plan has no runs")
    twice = [label for label, count in Counter(p.label for p in planned).items() if count > 1]
    if twice:
        raise UserError(f"run label {twice[0]!r} is planned twice; expected labels (arm/budget/seed) to be unique")
    for p in planned:
        if p.seed != p.config.seed:
            raise UserError(f"run {p.label!r} has config seed {p.config.seed}; expected the seed of its label")


def check_population(asked: str) -> int | None:
    """How many runs are to train in one step; None for `auto`. Raises `UserError`."""
    if asked == "auto":
        return None
    if not (asked.isdigit() and int(asked) >= 1):
        raise UserError(f"--population is {asked!r}; expected auto, or how many runs to train in one step (1: none)")
    return int(asked)


def matches(run: Planned, pattern: str | None) -> bool:
    """Whether its label is one of the shell pattern's; any is without one."""
    return pattern is None or fnmatch.fnmatchcase(run.label, pattern)


def select(planned: Sequence[Planned], pattern: str | None) -> list[Planned]:
    """The runs whose label matches the shell pattern (`*` crosses `/`); all without one. Raises `UserError` on none."""
    if pattern is None:
        return list(planned)
    chosen = [p for p in planned if matches(p, pattern)]
    if not chosen:
        labels = [p.label for p in planned]
        close = nearest(pattern.replace("*", ""), labels) or labels[:3]
        raise UserError(f"filter {pattern!r} matches none of {len(labels)} runs; nearest: {', '.join(close)}")
    return chosen


def grid(config: Config, axes: Iterable[str], *, seeds: int = 1) -> list[Planned]:
    """Every combination of the axes (`KEY=VALUES`, see `axis`) on `config`, each at `seeds` seeds from the config's on.

    The arm names what is varied (`learning_rate=0.1,width=8`), the budget how long it trains. Raises `UserError`
    naming the key for an unknown key, a value of the wrong type or range, or an axis that changes nothing.
    """
    named = [axis(config, text) for text in axes]
    keys = [key for key, _ in named]
    if len(set(keys)) < len(keys):
        raise UserError(f"grid key {Counter(keys).most_common(1)[0][0]!r} is given twice; expected one list of values")
    if seeds < 1:
        raise UserError(f"seeds is {seeds}; expected at least 1")
    if seeds > MOST_VALUES:
        raise UserError(f"seeds is {seeds}; expected at most {MOST_VALUES}")
    if "seed" not in keys:
        named.append(("seed", [config.seed + offset for offset in range(seeds)]))
    elif seeds > 1:
        raise UserError("grid key 'seed' and --seeds both choose the seeds; expected one of them")
    if (count := math.prod(len(values) for _, values in named)) > MOST_RUNS:
        raise UserError(f"grid over {', '.join(keys)} has {count} runs; expected at most {MOST_RUNS}")
    planned = []
    for values in itertools.product(*(values for _, values in named)):
        chosen = dict(zip([key for key, _ in named], values, strict=True))
        cell = config
        for key, value in chosen.items():
            cell = _replace(cell, key, value)
        arm = ",".join(f"{_short(key, keys)}={value}" for key, value in chosen.items() if key != "seed").replace(
            " ", ""
        )
        planned.append(Planned(arm or "base", str(cell.budget.train).replace(" ", ""), cell.seed, cell))
    _refuse_equal(planned, keys)
    check(planned)
    return planned


def axis(config: Config, text: str) -> tuple[str, list[Any]]:
    """One axis of a grid as (dotted key, values in the type of that key).

    `KEY=0.1,0.2` a list; `KEY=4:16:4` from, to (reached where the steps land on it) and step; `KEY=range(0,1,5)` that
    many evenly spaced values, ends included; `KEY=log(1e-3,1e-1,5)` that many log-uniform draws, always the same for
    the same key and bounds, and a longer row of draws begins with the shorter one. Raises `UserError` naming the key.
    """
    key, separator, values = text.partition("=")
    key = key.strip().lstrip("-").replace("-", "_")
    if not separator or not key or not values.strip():
        raise UserError(f"grid {text!r}: expected KEY=V1,V2 or KEY=LOW:HIGH:STEP, KEY=range(..) or KEY=log(..)")
    expanded = [_typed(config, key, value) for value in _expand(key, values.strip())]
    if len({repr(value) for value in expanded}) < len(expanded):
        raise UserError(f"grid key {key!r} has a value twice in {values!r}; expected different values")
    return key, expanded


_CALL = re.compile(r"(range|log)\((.*)\)")


def _expand(key: str, text: str) -> list[Any]:
    """The values of one axis, still of no type: text, or numbers where they were computed."""
    call, parts = _CALL.fullmatch(text), text.split(":")
    try:
        if call:
            return _spaced(key, call[1], *call[2].split(","))
        if len(parts) == 3 and all(_is_number(part) for part in parts):
            return _stepped(*(Decimal(part.strip()) for part in parts))
    except (ValueError, TypeError, ArithmeticError) as error:
        expected = "LOW:HIGH:STEP with LOW <= HIGH and STEP > 0, range(LOW,HIGH,N), or log(LOW,HIGH,N) with LOW > 0"
        raise UserError(f"grid key {key!r}: {text!r} is not a range; expected {expected}") from error
    return [part.strip() for part in re.split(r",(?![^\[(]*[\])])", text)]  # commas outside brackets


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", text, re.IGNORECASE) is not None


def _stepped(low: Decimal, high: Decimal, step: Decimal) -> list[int | float]:
    """Decimal arithmetic: 0.1:0.3:0.1 is 0.1, 0.2, 0.3 and not 0.30000000000000004."""
    if not (step > 0 and 0 <= (high - low) / step < MOST_VALUES):
        raise ValueError("none, or too many values")
    count = int((high - low) / step) + 1
    return [_plain(low + index * step) for index in range(count)]


def _plain(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _spaced(key: str, kind: str, low: str, high: str, count: str) -> list[int | float]:
    first, last, values = Decimal(low.strip()), Decimal(high.strip()), int(count)
    if max(abs(first), abs(last)) > Decimal(LARGEST):
        raise ValueError("no number")
    if not 1 <= values <= MOST_VALUES or last <= first or (values == 1 and kind == "range"):
        raise ValueError("bounds")
    if kind == "range":
        return [_plain((first + (last - first) * index / (values - 1)).normalize()) for index in range(values)]
    a, b = math.log(first), math.log(last)  # raises ValueError for bounds that are not positive
    seed = hashlib.sha256(f"{key} {a!r} {b!r}".encode()).digest()
    draws = random.Random(seed)  # the one generator whose `random()` Python promises to keep
    return [float(f"{math.exp(a + (b - a) * draws.random()):.4g}") for _ in range(values)]


def _typed(config: Config, key: str, raw: Any) -> Any:
    """`raw` in the type of `key`: as a number or JSON value where that fits, else as text. Raises `UserError`."""
    candidates: list[Any] = []
    if isinstance(raw, str):
        try:
            candidates.append(json.loads(raw))
        except (ValueError, RecursionError):  # no JSON, too many digits, lists in lists without end
            candidates.append({"true": True, "false": False, "none": None}.get(raw.lower(), raw))
        candidates.append(raw)
    else:
        candidates += [raw, round(raw), str(raw)]
    first: UserError | None = None
    for candidate in candidates:
        try:
            return _value_at(_replace(config, key, candidate), key)
        except UserError as error:
            first = first or error
    assert first is not None
    raise first


def _replace(config: Config, key: str, value: Any) -> Config:
    """`config.replace` that also knows the names and types of the model's own fields."""
    section, _, field = key.partition(".")
    if section == "model" and field and field not in annotations(ModelConfig):
        from research import models  # needs jax: only an axis over a model's own field pays for it

        own = models.options(config.model.name)
        if field not in own:
            raise unknown("config key", key, [f"model.{name}" for name in (*annotations(ModelConfig), *own)])
        value = decode(own[field][0], value, key)
    return replace(config, **{key: value})


def _value_at(config: Config, key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        is_field = dataclasses.is_dataclass(node) and hasattr(node, name)
        node = getattr(node, name) if is_field else getattr(node, "options", node)[name]
    return node


def _short(key: str, keys: Sequence[str]) -> str:
    """The last word of a dotted key, or the whole key where two axes share the last word."""
    last = [k.rpartition(".")[2] for k in keys]
    word = key.rpartition(".")[2]
    return word if last.count(word) == 1 else key


def _refuse_equal(planned: Sequence[Planned], keys: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for p in planned:
        other = seen.setdefault(digest(p.config), p.label)
        if other != p.label:
            raise UserError(f"grid over {', '.join(keys)}: runs {other!r} and {p.label!r} would be the same run")
