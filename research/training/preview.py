"""What a config's learning rate will be, before any run: no example is read, no weight made, no device asked for.

The data set is only described; where it is not here, lengths given in steps and examples still say all but the epochs.
"""

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research import data, tasks
from research.config import Config, TransferConfig
from research.data import DatasetInfo
from research.errors import UserError
from research.training import groups, optimizer, resolve, schedule, transfer
from research.values import Duration, nearest_step


@dataclass(frozen=True)
class PreviewGroup:
    """Parameters that share a factor on the rate, and how many numbers they are (None where that is not known)."""

    label: str
    factor: float
    parameters: int | None


@dataclass(frozen=True)
class Preview:
    """The rate of every step, float32 `"steps"`, before the factors of the groups; lengths in steps."""

    config: Config
    peak: float
    steps: int
    warmup: int
    rates: np.ndarray
    groups: tuple[PreviewGroup, ...]
    examples: int | None  # of the training split; None: not known
    note: str  # why something is not known, or empty

    def epoch(self, step: int) -> float | None:
        """How often the training split has been seen after `step` steps."""
        return None if self.examples is None else step * self.config.data.batch_size / self.examples

    @property
    def heading(self) -> str:
        """The schedule in one line."""
        epochs = self.epoch(self.steps)
        cfg = self.config
        length = f"{self.steps:,} steps of {cfg.data.batch_size} images"
        length += "" if epochs is None else f", {epochs:.4g} epochs of {cfg.data.name}"
        rise = f", warmup of {self.warmup:,} steps" if self.warmup else ""
        return f"{cfg.schedule.name}, peak {self.peak:.4g}, {length}{rise}"

    def moments(self) -> dict[str, int]:
        """The steps that say most, counted from 1 as in a run's records: the rate that step was taken with."""
        quarters = {"1/4": 1, "half": 2, "3/4": 3}
        return {
            "start": 1,
            **({"end of warmup": self.warmup} if self.warmup else {}),
            "peak": int(np.argmax(self.rates)) + 1,
            **{name: max(round(part * self.steps / 4), 1) for name, part in quarters.items()},
            "end": self.steps,
        }

    def as_dict(self) -> dict[str, Any]:
        """All that the table shows, as JSON values."""
        rows = [
            {
                "at": at,
                "step": step,
                "epoch": self.epoch(step),
                "rates": {group.label: float(self.rates[step - 1]) * group.factor for group in self.groups},
            }
            for at, step in self.moments().items()
        ]
        return {
            "schedule": self.config.schedule.name,
            "peak": self.peak,
            "steps": self.steps,
            "warmup": self.warmup,
            "epochs": self.epoch(self.steps),
            "note": self.note,
            "groups": [
                {"group": group.label, "factor": group.factor, "parameters": group.parameters} for group in self.groups
            ],
            "rows": rows,
        }

    def table(self) -> str:
        """The moments as rows and the groups as columns."""
        shown = self.as_dict()
        single = not self.config.optimizer.groups
        heads = ["learning rate"] if single else [group.label for group in self.groups]
        lines = [("", "step", "epoch", *heads)]
        if not single:
            lines.append(("factor", "", "", *(f"{g.factor:g}" if g.factor else "frozen" for g in self.groups)))
            known = [group.parameters for group in self.groups]
            if None not in known:
                lines.append(("parameters", "", "", *(f"{count:,}" for count in known)))
        for row in shown["rows"]:
            epoch = "-" if row["epoch"] is None else f"{row['epoch']:.4g}"
            lines.append((row["at"], f"{row['step']:,}", epoch, *(f"{rate:.4g}" for rate in row["rates"].values())))
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        body = [
            "  ".join(
                [line[0].ljust(widths[0]), *(word.rjust(w) for word, w in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        ]
        return "\n".join([self.heading, *([self.note] if self.note else []), "", *(line.rstrip() for line in body)])


def preview(cfg: Config) -> Preview:
    """The learning rate that `cfg` means. Raises `UserError`, one line, as a run of it would."""
    info, note = _info(cfg)
    every = cfg.schedule.every if cfg.schedule.name == "exponential" else Duration(1)
    steps = _exact(cfg.budget.train, cfg, info)
    warmup = _exact(cfg.schedule.warmup, cfg, info)
    count, rise = nearest_step(steps), nearest_step(warmup)
    if count < 1:
        raise UserError(f"budget.train is {cfg.budget.train}, less than one step of {cfg.data.batch_size} examples")
    optimizer.create(cfg.optimizer)
    peak = optimizer.peak(cfg.optimizer, cfg.data.batch_size)
    rates = schedule.rates(cfg.schedule, peak=peak, steps=count, warmup=rise, every=_exact(every, cfg, info))
    return Preview(cfg, peak, count, rise, rates, _groups(cfg, info), info.train_examples if info else None, note)


def _info(cfg: Config) -> tuple[DatasetInfo | None, str]:
    """The data set's description; where there is none and no length needs it, None and why."""
    lengths = {"budget.train": cfg.budget.train, "schedule.warmup": cfg.schedule.warmup}
    if cfg.schedule.name == "exponential":
        lengths["schedule.every"] = cfg.schedule.every
    try:
        return data.info(transfer.data_config(cfg)), ""
    except UserError as error:
        needing = [key for key, length in lengths.items() if length.unit == "epochs" and length.count]
        if needing:
            verb = "is" if len(needing) == 1 else "are"
            raise UserError(f"{error}; or lengths in steps, as {' and '.join(needing)} {verb} in epochs") from None
        return None, f"(epochs are not known: {error})"


def _exact(length: Duration, cfg: Config, info: DatasetInfo | None) -> Fraction:
    return length.exact(examples=info.train_examples if info else 0, batch_size=cfg.data.batch_size)


def _groups(cfg: Config, info: DatasetInfo | None) -> tuple[PreviewGroup, ...]:
    """The config's groups and the rest, held against the network's shapes where the data set says what they are."""
    entries = cfg.optimizer.groups
    sizes: list[tuple[str, int]] | None = None
    if info is not None and (entries or cfg.transfer != TransferConfig()):
        model = resolve.build_model(cfg, num_classes=tasks.create(cfg.task, info).num_outputs)
        params = _shapes(cfg, model, info)
        frozen = transfer.frozen(cfg.transfer, model, info.shape, info.train_examples).weights
        entries = groups.freezing(entries, frozen & params.keys())
        optimizer.check_groups(dataclasses.replace(cfg.optimizer, groups=entries), params)
        sizes = [(path, leaf.size) for path, leaf in groups.paths(params).items()]
    named = groups.parse(entries)
    if not named:
        return (PreviewGroup("all", 1.0, None),)

    def count(group: groups.Group) -> int | None:
        return None if sizes is None else sum(size for path, size in sizes if groups.group_of(path, named) is group)

    rows = [PreviewGroup(group.pattern, group.factor, count(group)) for group in named]
    rest = PreviewGroup("the rest", groups.REST.factor, count(groups.REST))
    return (*rows, *([] if rest.parameters == 0 else [rest]))


def _shapes(cfg: Config, model: nn.Module, info: DatasetInfo) -> Any:
    """Shapes of the network's parameters: it is traced, and nothing computed. Raises `UserError`."""
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    image = jax.ShapeDtypeStruct((1, *info.shape), jnp.float32)
    try:
        return jax.eval_shape(lambda k, x: model.init({"params": k, "dropout": k}, x, train=False), key, image)[
            "params"
        ]
    except Exception as error:  # whatever a user's own network raises while its shapes are traced
        raise UserError(f"model {cfg.model.name} cannot take images of {info.shape}: {error}") from error
