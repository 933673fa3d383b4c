"""How should a network grow?

Tan and Le 2019 (arXiv:1905.11946) grow depth, width and resolution together, with coefficients found by a search at
twice the cost; Dollar et al. 2021 (arXiv:2103.06877) grow mostly the width, which keeps activations and so time low;
MobileNets (Howard et al. 2017, arXiv:1704.04861) grow the width or the resolution alone. Here one small network of
inverted residuals (of EfficientNet-B0's table, narrow and shallow) grows by every rule of `launch.py list rules` to the
same multiply-adds, solved for and within 1%, or with the distance and its reason.

    python launch.py study compound_scaling --scale smoke --workdir runs/compound_scaling
    python launch.py bench --workdir runs/compound_scaling          # what each arm's step takes, alone

Step 1, `search_...`: depth x alpha, width x beta, resolution x gamma with alpha beta^2 gamma^2 about 2, over a grid of
alpha and beta. Step 2: the base grows by every rule, to about 2, 4, 8, ... times its cost; the exact growths are those
that blocks, channels and pixels in whole numbers can reach. When step 1 is done, what it found (the least mean test
error, each arm at its best setting) is one more rule, `found`, and its runs follow.

smoke  digits, growth about 2 and 4, two rules, a search of two, three seeds.
small  Fashion-MNIST: 2,500 examples, from 8 pixels on, growth about 2, 4 and 8, all nine rules, a search of nine, five
       seeds, two learning rates. The base is three stages of EfficientNet-Lite0 (no squeeze-and-excitation, ReLU6),
       which compile sooner. A micro regime: networks of few channels, trained for six epochs.
full   CIFAR-10, growth about 2 to 64 from 16 pixels on, all rules, a search of nine, five seeds, 200 epochs. Images of
       more than 32 pixels are enlarged: what resolution then gives is the receptive field of a layer, not detail.

ResNet-RS (Bello et al. 2021, arXiv:2103.07579, section 4) found that the best rule depends on the length of training:
width for short runs, depth for long ones. A verdict holds for the regime its report states.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from research.config import (
    BudgetConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    replace,
)
from research.errors import unknown
from research.reports import arms, growth, tables
from research.reports.arms import Cells, Judged
from research.reports.comparison import BySeed, Claim, Errors
from research.reports.document import Document, Section, Table
from research.scaling import rules
from research.scaling.paired import paired_difference
from research.scaling.rules import Rule
from research.sweeps import design, predict
from research.sweeps.design import Grid
from research.sweeps.plan import Planned
from research.values import Duration, Options

if TYPE_CHECKING:
    from research.sweeps.results import Result

SCALES = ("smoke", "small", "full")
# Config keys, beside the seed, in which runs of one scale differ: how the network grew, and the tuning grid.
VARIES = (
    "model.options.width_multiplier",
    "model.options.depth_multiplier",
    "data.resolution",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
)
BASE, FOUND, SEARCH, STANDARD = "base", "found", "search_", "efficientnet"


@dataclass(frozen=True)
class Setting:
    """One scale: the base with the recipe that all share, rules, growth, the search of step 1, seeds, tuning grid.

    `resolution`: pixels from which it grows, those of the base before they are rounded. This and the growths are such
    that rules reach them: of maps that are halved three times, the smallest grows by whole pixels.
    """

    recipe: Config
    resolution: float
    rules: tuple[str, ...]
    growth: tuple[float, ...]
    search: tuple[tuple[float, float], ...]  # alpha, beta
    seeds: int
    grid: Grid = field(default_factory=dict)

    @property
    def step(self) -> float:
        """Growth at which step 1 searches: the first."""
        return self.growth[0]


_PLAIN: dict[str, Any] = {"stem": "cifar", "channel_divisor": 1, "dropout": 0.0, "stochastic_depth": 0.0}


_SMOKE = Config(
    model=ModelConfig(
        "efficientnet_lite0",
        options=Options(_PLAIN, keep_stages=(2, 3, 4), width_multiplier=0.1797, depth_multiplier=0.5),
    ),
    data=DataConfig("digits", batch_size=64, resolution=8, eval_on_train=True),
    optimizer=OptimizerConfig("momentum", learning_rate=0.1, weight_decay=1e-3),
    schedule=ScheduleConfig("cosine", warmup=Duration(1, "epochs")),
    budget=BudgetConfig(train=Duration(6, "epochs"), eval_every=Duration(3, "epochs")),
    evaluation=EvaluationConfig(batch_norm_batches=8),
    checkpointing=CheckpointConfig(every=Duration(0, "steps"), keep_last=1, keep_best=False),
)


def _every(alphas: Iterable[float], betas: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple((alpha, beta) for alpha in alphas for beta in betas)


SETTINGS = {
    "smoke": Setting(
        _SMOKE,
        resolution=7.78,
        rules=("width", STANDARD),
        growth=(1.83, 4.008),
        search=((1.18, 1.09), (1.0, 1.3)),
        seeds=3,
    ),
    "small": Setting(
        replace(
            _SMOKE,
            **{
                "data.name": "fashion_mnist",
                "data.train_examples": 2_500,
                "budget.train": Duration(6, "epochs"),
                "budget.eval_every": Duration(6, "epochs"),
                "checkpointing.every": Duration(6, "epochs"),
            },
        ),
        resolution=7.78,
        rules=tuple(rules.RULES),
        growth=(1.83, 4.008, 8.328),
        search=_every((1.0, 1.15, 1.3), (1.0, 1.08, 1.16)),
        seeds=5,
        grid={"optimizer.learning_rate": (0.05, 0.1)},
    ),
    "full": Setting(
        replace(
            _SMOKE,
            **{
                "model": ModelConfig(
                    "efficientnet_b0", options=Options(_PLAIN, width_multiplier=0.37, depth_multiplier=0.6)
                ),
                "data.name": "cifar10",
                "data.batch_size": 128,
                "data.resolution": 16,
                "augmentation.flip": True,
                "augmentation.pad_and_crop": 2,
                "schedule.warmup": Duration(5, "epochs"),
                "budget.train": Duration(200, "epochs"),
                "budget.eval_every": Duration(10, "epochs"),
                "evaluation.batch_norm_batches": 50,
                "checkpointing.every": Duration(10, "epochs"),
            },
        ),
        resolution=16.21,
        rules=tuple(rules.RULES),
        growth=(2.01, 4.26, 8.93, 17.79, 31.04, 69.8),
        search=_every((1.0, 1.2, 1.4), (1.0, 1.1, 1.19)),
        seeds=5,
        grid={"optimizer.learning_rate": (0.05, 0.1, 0.2), "optimizer.weight_decay": (5e-4, 1e-3)},
    ),
}


def runs(scale: str) -> list[Planned]:
    """The base, the search of step 1, and the base grown by every rule. Raises `UserError`."""
    if scale not in SETTINGS:
        raise unknown("scale", scale, SCALES)
    return list(_planned(scale))


def follow_up(scale: str, results: "Sequence[Result]") -> list[Planned]:
    """When step 1 is done: the base grown by the rule that it found, to every budget."""
    best = found(results)
    return [] if best is None else list(_grown(scale, FOUND, *best))


def found(results: "Iterable[Result]") -> tuple[float, float] | None:
    """Alpha and beta of the least mean test error in step 1, each arm at its best setting; None until it is done."""
    searched = [r for r in results if r.arm.startswith(SEARCH)]
    if not searched or any(r.status in ("waiting", "running", "preempted") for r in searched):
        return None
    errors = Errors(searched, arms.METRICS[arms.TEST])
    means = {arm: growth.mean(errors.best(arm, budget).errors) for arm, budget in errors.cells}
    finite = {arm: mean for arm, mean in means.items() if mean is not None}
    return _coefficients(min(finite, key=finite.__getitem__)) if finite else None


def _search(alpha: float, beta: float) -> str:
    return f"{SEARCH}{alpha:g}_{beta:g}"


def _coefficients(arm: str) -> tuple[float, float]:
    alpha, beta = arm.removeprefix(SEARCH).split("_")
    return float(alpha), float(beta)


def _gamma(alpha: float, beta: float, step: float) -> float:
    """Such that all three together cost `step` times as much (Tan and Le 2019, equation 3)."""
    return math.sqrt(step / (alpha * beta**2))


def _rule(alpha: float, beta: float, step: float) -> Rule:
    return rules.of_coefficients(alpha, beta, _gamma(alpha, beta, step), "the coefficients that were found")


@functools.cache
def _planned(scale: str) -> tuple[Planned, ...]:
    setting = SETTINGS[scale]
    made = design.planned(BASE, "x1", setting.recipe, seeds=range(setting.seeds), grid=setting.grid)
    for alpha, beta in setting.search:
        made += _arm(setting, _search(alpha, beta), _rule(alpha, beta, setting.step), setting.step)
    for name in setting.rules:
        for times in setting.growth:
            made += _arm(setting, name, rules.rule(name), times)
    return tuple(made)


@functools.cache
def _grown(scale: str, name: str, alpha: float, beta: float) -> tuple[Planned, ...]:
    setting = SETTINGS[scale]
    _planned(scale)  # where what is found is the same network as another arm's, it has that arm's config
    by = _rule(alpha, beta, setting.step)
    return tuple(run for times in setting.growth for run in _arm(setting, name, by, times))


def _arm(setting: Setting, name: str, by: Rule, times: float) -> list[Planned]:
    """The base grown by a rule to `times` its multiply-adds. Where networks are the same, so are their runs."""
    target = round(times * predict.macs(setting.recipe))
    solved = design.search(__file__).grown(setting.recipe, by, times, target, resolution=setting.resolution)
    add = functools.partial(design.planned, seeds=range(setting.seeds), grid=setting.grid)
    return add(name, f"x{times:g}", solved.config, target_macs=target, reason=solved.reason)


def report(results: "Sequence[Result]") -> Document:
    """Every rule against the standard one at every budget; power laws, fronts, exponents, and the search."""
    question = (__doc__ or "").splitlines()[0]
    return arms.document("Scaling rules", question, results, _claims, _sections)


def _times(budget: str) -> float:
    return float(budget.partition(",")[0].removeprefix("x"))


def _growth_of(result: "Result") -> float:
    return _times(result.budget)


def _claims(group: "Sequence[Result]", metric: str, errors: Cells) -> list[Claim]:
    """Every rule against compound scaling at every budget; on the first screen test errors at the largest."""
    present = list(dict.fromkeys((arms.name(r), _growth_of(r)) for r in group if _is_rule(r)))
    largest, seeds = max((times for _, times in present), default=1), len({r.seed for r in group})
    return [
        Claim(
            f"{arm} against {STANDARD}, {times:g} times the cost",
            metric,
            errors(arm, f"x{times:g}"),
            errors(STANDARD, f"x{times:g}"),
            seeds,
            first_screen=metric == arms.TEST and times == largest,
            family=f"x{times:g}",
        )
        for arm, times in present
        if arm != STANDARD
    ]


def _is_rule(result: "Result") -> bool:
    return arms.name(result) != BASE and not result.arm.startswith(SEARCH)


def _with_base(results: "Sequence[Result]") -> "list[Result]":
    """Every rule's runs, and the base as the first of each."""
    base = [r for r in results if arms.name(r) == BASE]
    others = [r for r in results if arms.name(r) != BASE]
    return [dataclasses.replace(r, arm=arm) for arm in dict.fromkeys(r.arm for r in others) for r in base] + others


def _known(arm: str) -> Rule | None:
    return rules.RULES.get(arm.partition("@")[0])


def _sections(group: "Sequence[Result]", judged: Judged) -> list[Section]:
    grown = [r for r in group if not r.arm.startswith(SEARCH)]
    alone, best = arms.locked(grown), arms.best_settings(group)
    locked = _with_base(alone)
    curves = [
        arms.error_figure(locked, metric, _growth_of, title_x="growth of multiply-adds", log_x=True)
        for metric in arms.METRICS
    ]
    ranks = growth.ranks([r for r in alone if arms.name(r) != BASE], _growth_of, arms.TEST)
    names = dict.fromkeys(name for _, _, name in judged)
    differences = [table for name in names for table in arms.difference_tables(judged, name)]
    every = arms.table(group, lambda arm, budget: {"arm": arm, "growth": _times(budget)})
    return [
        Section("Error against growth", arms.states(group), [*curves, *ranks]),
        Section("Power laws", growth.ABOUT_LAWS, growth.laws(locked, _growth_of, arms.TEST)),
        Section("Cheapest for its error", growth.ABOUT_FRONTS, growth.cheapest(alone, arms.TEST)),
        Section("What grows with the cost", growth.ABOUT_EXPONENTS, growth.exponents(locked, _growth_of, _known)),
        _searched([r for r in group if r.arm.startswith(SEARCH)]),
        arms.clock(grown, lambda arm, budget: (STANDARD, budget), lambda arm: arm),
        Section("Every comparison", "", [*([best] if best else []), *differences, every]),
    ]


def _searched(results: "Sequence[Result]") -> Section:
    """Step 1: mean test error of every alpha and beta, at each arm's best."""
    best = found(results)
    step = _growth_of(results[0]) if results else math.nan
    text = f"Growth by {step:g}: alpha of depth, beta of width, gamma = sqrt({step:g} / (alpha beta^2)) of resolution."
    if best is None:
        return Section("The search for coefficients", f"{text} Not done yet.")
    alpha, beta = best
    text += f" Least mean test error: alpha {alpha:g}, beta {beta:g}, gamma {_gamma(alpha, beta, step):.3g}."
    text += " That is the best of several: chance has a share in it, and the table says how near the others are."
    errors = Errors(results, arms.METRICS[arms.TEST])
    rows = []
    for arm, budget in errors.cells:
        of_arm = errors.best(arm, budget)
        first, second = _coefficients(arm.partition("@")[0])
        row: dict[str, Any] = {"alpha": first, "beta": second, "gamma": _gamma(first, second, step)}
        row |= {"setting": of_arm.setting or "locked", arms.TEST: tables.spread(list(of_arm.errors.values()))}
        row |= {"against the best": _distance(of_arm.errors, errors.best(_search(alpha, beta), budget).errors)}
        rows.append(row)
    note = "Against the best: mean and 95% interval of the paired difference, in percentage points; not corrected."
    table = Table("Step 1", tables.frame(rows), note, formats={"gamma": ".3f", "alpha": ".2f", "beta": ".2f"})
    return Section("The search for coefficients", text, [table])


def _distance(errors: BySeed, best: BySeed) -> str:
    difference = paired_difference(errors, best)
    if difference.mean is None or difference.low is None or difference.high is None:
        return ""
    return f"{100 * difference.mean:+.2f} ({100 * difference.low:+.2f} to {100 * difference.high:+.2f})"
