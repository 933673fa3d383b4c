"""From words to objects: everything a config names is looked up and every contradiction refused, before any compile."""

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from research import data, models, probes, tasks, values
from research.config import Config, DataConfig
from research.data import DatasetInfo, augmentations
from research.errors import UserError, described
from research.training import groups, optimizer, parallel, schedule, sharing, transfer
from research.training.step import Frozen

PyTree = Any
# Steps from which on a run compiles its steps for itself instead of finding them in the cache of an earlier process:
# some seconds more at its start, for steps that may be half as long.
LASTING = 400
_COMPUTE = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclass(frozen=True)
class Resolved:
    """What a config means on this machine.

    Durations are in optimizer steps; periods are exact (see `research.values.due`), and 0 means never.
    """

    config: Config
    data: DataConfig  # the config's, with what its weights say of images
    info: DatasetInfo
    model: nn.Module
    task: tasks.Task
    optimizer: optax.GradientTransformation
    frozen: Frozen
    layout: parallel.Layout
    peak: float
    steps: int
    warmup: int
    decay_every: Fraction
    eval_every: Fraction
    log_every: Fraction
    save_every: Fraction
    probe_every: Fraction

    @property
    def image(self) -> jax.ShapeDtypeStruct:
        """Shape of one example as the model sees it, `"h w c"` float32."""
        return jax.ShapeDtypeStruct(self.info.shape, jnp.float32)

    @property
    def auxiliary_weight(self) -> float:
        """Weight of each auxiliary head's loss: the config's, else the network's own; 0 where it has no such heads."""
        if not getattr(self.model, "aux_heads", False):
            return 0.0
        asked = self.config.task.auxiliary_weight
        return float(getattr(self.model, "aux_weight", 0.0) if asked is None else asked)

    @functools.cached_property
    def hyperparameters(self) -> dict[str, float]:
        """Numbers that are on, but for the optimizer's, by name: values to the programs, kept in the state."""
        own = {"ema_decay": self.config.optimizer.ema_decay, "auxiliary_weight": self.auxiliary_weight}
        return {**self.task.hyperparameters, **{name: number for name, number in own.items() if number}}

    @functools.cached_property
    def signature(self) -> Hashable:
        """Equal for runs that share their compiled programs: all that shapes these."""
        numbers = (*self.hyperparameters, *optimizer.numbers(self.config.optimizer))
        return sharing.shaping(self.config), numbers, self.data, self.info, self.layout, self.frozen, repr(self.model)

    def rates(self) -> np.ndarray:
        """Learning rate of every step, float32."""
        return schedule.rates(
            self.config.schedule, peak=self.peak, steps=self.steps, warmup=self.warmup, every=self.decay_every
        )

    def due(self, period: Fraction, step: int) -> bool:
        """Whether what is done every `period` steps, and at the end, is done after `step` of them."""
        return step == self.steps or values.due(period, step)

    def epoch(self, step: int) -> float:
        """How often the training split has been seen after `step` steps."""
        return step * self.config.data.batch_size / self.info.train_examples


def matmul_precision(cfg: Config) -> AbstractContextManager[None]:
    """Context in which matrix products and convolutions have the precision that `cfg` asks for."""
    return jax.default_matmul_precision(None if cfg.precision.matmul == "default" else cfg.precision.matmul)


def compute_type(cfg: Config) -> dict[str, Any]:
    """The field of the network that says in what type it computes, if it has one. Raises `UserError`."""
    if "dtype" in models.fields(cfg.model.name):
        return {"dtype": _COMPUTE[cfg.precision.compute]}
    if cfg.precision.compute != "float32":
        raise UserError(f"model {cfg.model.name} has no field dtype; precision.compute must be float32")
    return {}


def build_model(cfg: Config, *, num_classes: int) -> nn.Module:
    """The network of `cfg`, before any device layout. Raises `UserError`."""
    known = models.fields(cfg.model.name)
    if "num_classes" not in known:
        raise UserError(
            f"model {cfg.model.name} has no field num_classes; expected one, with __call__(images, *, train)"
        )
    fields = {"num_classes": num_classes, **compute_type(cfg), **transfer.model_fields(cfg)}
    return headed(models.create(cfg.model.name, **fields), cfg)


def headed(model: nn.Module, cfg: Config) -> nn.Module:
    """The network with the features that its task's head asks for. Raises `UserError`: it has no say in them."""
    if cfg.task.pool == "average":
        return model
    if getattr(model, "pool", None) is None:
        raise UserError(
            f"task.pool is {cfg.task.pool!r}, and model {cfg.model.name} has no field pool; expected average"
        )
    return model.clone(pool=cfg.task.pool)


def resolve(cfg: Config, *, devices: Sequence[jax.Device] | None = None, stored: data.Stored | None = None) -> Resolved:
    """Look up and check all that `cfg` names; nothing is loaded or compiled. Raises `UserError`, one line.

    `devices` to compile for, by default this machine's; `stored`: the data set, by default as its files say.
    """
    prepared = transfer.data_config(cfg)
    info = data.info(prepared, stored)
    if cfg.model.num_classes is not None and cfg.model.num_classes != info.num_classes:
        relation = "more" if cfg.model.num_classes > info.num_classes else "fewer"
        raise UserError(
            f"model.num_classes is {cfg.model.num_classes}, {relation} than {cfg.data.name} has; "
            f"expected {info.num_classes}, or leave it out"
        )
    models.check_input(cfg.model.name, info.shape, **transfer.model_fields(cfg))
    data.check_batch_size(prepared, info.train_examples)
    data.input_of(prepared, cfg.augmentation, stored)
    augmentations.check(cfg.augmentation, info.shape, places=info.labels != "class")
    task = tasks.create(cfg.task, info)
    model = build_model(cfg, num_classes=task.num_outputs)
    layout = parallel.layout(cfg, devices)
    frozen = transfer.frozen(cfg.transfer, model, info.shape, info.train_examples)
    length = {"examples": info.train_examples, "batch_size": cfg.data.batch_size}
    factors = groups.freezing(cfg.optimizer.groups, frozen.weights)
    steps = cfg.budget.train.steps(**length)
    if steps < 1:
        raise UserError(f"budget.train is {cfg.budget.train}, less than one step of {cfg.data.batch_size} examples")
    layout = dataclasses.replace(layout, lasting=steps >= LASTING)
    resolved = Resolved(
        config=cfg,
        data=prepared,
        info=info,
        model=layout.model(_rematerialised(model, cfg)),
        task=task,
        optimizer=optimizer.create(dataclasses.replace(cfg.optimizer, groups=factors)),
        frozen=frozen,
        layout=layout,
        peak=optimizer.peak(cfg.optimizer, cfg.data.batch_size),
        steps=steps,
        warmup=cfg.schedule.warmup.steps(**length),
        decay_every=cfg.schedule.every.exact(**length),
        eval_every=cfg.budget.eval_every.exact(**length),
        log_every=cfg.budget.log_every.exact(**length) or Fraction(1),
        save_every=cfg.checkpointing.every.exact(**length),
        probe_every=cfg.probes.every.exact(**length),
    )
    schedule.schedule(cfg.schedule, peak=resolved.peak, steps=steps, warmup=resolved.warmup, every=resolved.decay_every)
    network = cfg.model, repr(model), cfg.transfer, cfg.precision, info.shape, task.num_outputs
    held_by = layout.axis_name, layout.per_replica
    variables = sharing.once(("variables", network, held_by), lambda: _check_model(resolved))
    held = groups.freezing(cfg.optimizer.groups, frozen.weights & variables["params"].keys())
    optimizer.check_groups(dataclasses.replace(cfg.optimizer, groups=held), variables["params"])
    if (weights := transfer.weights_of(cfg)) is not None:
        transfer.start(variables, weights, keep_head=cfg.transfer.head == "auto")
    if cfg.evaluation.batch_norm_batches and "batch_stats" not in variables:
        raise UserError(
            f"evaluation.batch_norm_batches is {cfg.evaluation.batch_norm_batches}, and {cfg.model.name} has no batch "
            "statistics; expected 0"
        )
    sharing.once(("loss", resolved.signature), lambda: _check_loss(resolved))
    _check_probes(resolved)
    return resolved


def _check_probes(resolved: Resolved) -> None:
    """Raise `UserError` for a probe that nobody knows, or what probes cannot look at."""
    cfg, has = resolved.config, resolved.info.train_examples
    for name in cfg.probes.names:
        probes.get(name)
    if cfg.probes.names and resolved.layout.axis_name is not None:
        mode = cfg.parallelism.mode
        raise UserError(f"probes.names with parallelism.mode {mode}: expected jit, whose step sees the whole batch")
    if cfg.probes.names and cfg.probes.examples > has:
        raise UserError(
            f"probes.examples is {cfg.probes.examples}, and {cfg.data.name} trains on {has}; expected fewer"
        )


def _first_line(error: BaseException) -> str:
    return described(error).splitlines()[0]


def _check_loss(resolved: Resolved) -> None:
    """Trace the loss's shapes once: a user's own must give one value per example."""
    name, count, batch = resolved.config.task.loss, resolved.task.num_outputs, 3
    outputs = jax.ShapeDtypeStruct((batch, count), jnp.float32)
    mixing = resolved.config.augmentation.mixup or resolved.config.augmentation.cutmix
    label = data.label_shape(resolved.info, batch)
    if mixing:  # mixed labels are shares of classes
        label = jax.ShapeDtypeStruct((batch, count), jnp.float32)
    try:
        loss = jax.eval_shape(lambda o, y: resolved.task.loss(o, {"label": y}), outputs, label)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's own loss raises while its shapes are traced
        raise UserError(
            f"loss {name} cannot take outputs {outputs.shape} and labels {label.shape}: {_first_line(error)}"
        ) from error
    if getattr(loss, "shape", None) != (batch,):
        raise UserError(f"loss {name} gives {getattr(loss, 'shape', type(loss))}; expected one value per example")


def _rematerialised(model: nn.Module, cfg: Config) -> nn.Module:
    if not cfg.parallelism.remat:
        return model
    if getattr(model, "remat", None) is None:
        raise UserError(f"parallelism.remat is true, and model {cfg.model.name} has no field remat; expected false")
    return model.clone(remat=True)


def _check_model(resolved: Resolved) -> PyTree:
    """Trace the network's shapes once: a user's own model must give one float32 logit per class. Its variables."""
    name, image = resolved.config.model.name, resolved.image
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    example = jax.ShapeDtypeStruct((1, *image.shape), image.dtype)
    plain = build_model(resolved.config, num_classes=resolved.task.num_outputs)

    def forward(key: jax.Array, images: jax.Array) -> tuple[jax.Array, PyTree]:
        return plain.init_with_output({"params": key, "dropout": key}, images, train=False)

    try:
        outputs, variables = jax.eval_shape(forward, key, example)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's own network raises while its shapes are traced
        raise UserError(f"model {name} cannot take images of {image.shape}: {_first_line(error)}") from error
    expected = (1, resolved.task.num_outputs)
    if getattr(outputs, "shape", None) != expected:
        raise UserError(f"model {name} gives {getattr(outputs, 'shape', type(outputs))}; expected logits {expected}")
    axis = resolved.layout.axis_name
    if axis and not resolved.layout.per_replica and "batch_stats" in variables and getattr(plain, "norm", None) is None:
        raise UserError(
            f"model {name} has batch statistics but no field `norm`, so pmap cannot synchronise them; expected "
            "parallelism.mode jit, or parallelism.batch_norm per_replica"
        )
    return variables
