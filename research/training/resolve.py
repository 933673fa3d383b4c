"""From words to objects: everything a config names is looked up and every contradiction refused, before any compile."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from research import data, models, tasks
from research.config import Config
from research.data import DatasetInfo
from research.errors import UserError
from research.training import optimizer, parallel

PyTree = Any
_COMPUTE = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclass(frozen=True)
class Resolved:
    """What a config means on this machine. Durations are in optimizer steps; 0 for a period means never."""

    config: Config
    info: DatasetInfo
    model: nn.Module
    task: tasks.Task
    optimizer: optax.GradientTransformation
    layout: parallel.Layout
    steps: int
    steps_per_epoch: int
    warmup: int
    eval_every: int
    log_every: int
    save_every: int

    @property
    def image(self) -> jax.ShapeDtypeStruct:
        """Shape of one example as the model sees it, `"h w c"` float32."""
        return jax.ShapeDtypeStruct(self.info.shape, jnp.float32)

    def rates(self) -> np.ndarray:
        """Learning rate of every step, float32."""
        cfg = self.config
        return optimizer.rates(cfg.schedule, peak=cfg.optimizer.learning_rate, steps=self.steps, warmup=self.warmup)


def matmul_precision(cfg: Config) -> AbstractContextManager[None]:
    """Context in which matrix products and convolutions have the precision that `cfg` asks for."""
    return jax.default_matmul_precision(None if cfg.precision.matmul == "default" else cfg.precision.matmul)


def build_model(cfg: Config, *, num_classes: int) -> nn.Module:
    """The network of `cfg`, before any device layout. Raises `UserError`."""
    known = models.fields(cfg.model.name)
    if "num_classes" not in known:
        raise UserError(
            f"model {cfg.model.name} has no field num_classes; expected one, with __call__(images, *, train)"
        )
    dtype = {"dtype": _COMPUTE[cfg.precision.compute]} if "dtype" in known else {}
    if not dtype and cfg.precision.compute != "float32":
        raise UserError(f"model {cfg.model.name} has no field dtype; precision.compute must be float32")
    return models.create(cfg.model.name, num_classes=num_classes, **dtype, **dict(cfg.model.options))


def resolve(cfg: Config) -> Resolved:
    """Look up and check all that `cfg` names; nothing is loaded or compiled. Raises `UserError`, one line."""
    info = data.info(cfg.data)
    if cfg.model.num_classes is not None and cfg.model.num_classes != info.num_classes:
        relation = "more" if cfg.model.num_classes > info.num_classes else "fewer"
        raise UserError(
            f"model.num_classes is {cfg.model.num_classes}, {relation} than {cfg.data.name} has; "
            f"expected {info.num_classes}, or leave it out"
        )
    models.check_input(cfg.model.name, info.shape)
    task = tasks.create(cfg.task, info)
    model = build_model(cfg, num_classes=task.num_outputs)
    layout = parallel.layout(cfg.parallelism, batch_size=cfg.data.batch_size)
    if cfg.data.batch_size > info.train_examples:
        raise UserError(
            f"data.batch_size is {cfg.data.batch_size}, more than the {info.train_examples} training examples of "
            f"{cfg.data.name}; expected at most that"
        )
    length = {"examples": info.train_examples, "batch_size": cfg.data.batch_size}
    steps = cfg.budget.train.steps(**length)
    if steps < 1:
        raise UserError(f"budget.train is {cfg.budget.train}, less than one step of {cfg.data.batch_size} examples")
    resolved = Resolved(
        config=cfg,
        info=info,
        model=layout.model(model),
        task=task,
        optimizer=optimizer.create(cfg.optimizer),
        layout=layout,
        steps=steps,
        steps_per_epoch=info.train_examples // cfg.data.batch_size,
        warmup=cfg.schedule.warmup.steps(**length),
        eval_every=cfg.budget.eval_every.steps(**length),
        log_every=max(cfg.budget.log_every.steps(**length), 1),
        save_every=cfg.checkpointing.every.steps(**length),
    )
    optimizer.schedule(cfg.schedule, peak=1.0, steps=steps, warmup=resolved.warmup)
    _check_model(resolved)
    _check_loss(resolved)
    return resolved


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _check_loss(resolved: Resolved) -> None:
    """Trace the loss's shapes once: a user's own must give one value per example."""
    name, count, batch = resolved.config.task.loss, resolved.task.num_outputs, 3
    outputs = jax.ShapeDtypeStruct((batch, count), jnp.float32)
    several = resolved.info.multi_label
    label = jax.ShapeDtypeStruct((batch, count) if several else (batch,), jnp.float32 if several else jnp.int32)
    try:
        loss = jax.eval_shape(lambda o, y: resolved.task.loss(o, {"label": y}), outputs, label)
    except Exception as error:  # whatever a user's own loss raises while its shapes are traced
        raise UserError(f"loss {name} cannot take outputs {outputs.shape}: {_first_line(error)}") from error
    if getattr(loss, "shape", None) != (batch,):
        raise UserError(f"loss {name} gives {getattr(loss, 'shape', type(loss))}; expected one value per example")


def _check_model(resolved: Resolved) -> None:
    """Trace the network's shapes once: a user's own model must give one float32 logit per class."""
    name, image = resolved.config.model.name, resolved.image
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    example = jax.ShapeDtypeStruct((1, *image.shape), image.dtype)
    plain = build_model(resolved.config, num_classes=resolved.task.num_outputs)

    def forward(key: jax.Array, images: jax.Array) -> tuple[jax.Array, PyTree]:
        return plain.init_with_output({"params": key, "dropout": key}, images, train=False)

    try:
        outputs, variables = jax.eval_shape(forward, key, example)
    except Exception as error:  # whatever a user's own network raises while its shapes are traced
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
