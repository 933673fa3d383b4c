"""Update rules and learning-rate schedules, on optax.

The numbers of a rule (learning rate, decay, momentum) live in the optimizer state, not in the compiled step: runs
that differ only in them share one compilation. Weight decay is decoupled (Loshchilov and Hutter 2019,
arXiv:1711.05101): each step subtracts learning rate x decay x weight, masked.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.config import OptimizerConfig, ScheduleConfig
from research.errors import UserError, unknown

PyTree = Any
Number = float | jax.Array  # inject_hyperparams builds the rule anew from the arrays in its state

_MOMENTUM = ("sgd", "momentum", "nesterov")
OPTIMIZERS = {
    "sgd": "gradient descent without momentum",
    "momentum": "gradient descent with heavy-ball momentum (Polyak 1964)",
    "nesterov": "gradient descent with Nesterov's momentum (Sutskever 2013)",
    "adam": "Adam (Kingma and Ba 2014, arXiv:1412.6980), no weight decay",
    "adamw": "Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)",
}
SCHEDULES = {
    "constant": "the same rate throughout",
    "step": "multiplied by `factor` at each of `boundaries`",
    "cosine": "half a cosine from the peak to `final` (Loshchilov and Hutter 2016, arXiv:1608.03983)",
}


def decay_mask(params: PyTree, decay_on: str) -> PyTree:
    """Which parameters decay, as booleans: all, or `kernels` (rank 2 and more: no biases, no norm scales)."""
    return jax.tree.map(lambda p: decay_on == "all" or p.ndim >= 2, params)


def create(cfg: OptimizerConfig) -> optax.GradientTransformation:
    """The transformation of `cfg`, whose state carries `hyperparams` (`set_learning_rate`). Raises `UserError`."""
    if cfg.name not in OPTIMIZERS:
        raise unknown("optimizer", cfg.name, OPTIMIZERS)
    if cfg.weight_decay and cfg.name == "adam":
        raise UserError(f"optimizer.weight_decay is {cfg.weight_decay} but adam has none; expected 0, nearest: adamw")

    def build(
        learning_rate: Number, momentum: Number, beta1: Number, beta2: Number, epsilon: Number, weight_decay: Number
    ) -> optax.GradientTransformation:
        if cfg.name in _MOMENTUM:
            rule = optax.identity() if cfg.name == "sgd" else optax.trace(momentum, nesterov=cfg.name == "nesterov")
        else:
            rule = optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon)
        decay = optax.add_decayed_weights(weight_decay, mask=lambda params: decay_mask(params, cfg.decay_on))
        return optax.chain(rule, decay, optax.scale_by_learning_rate(learning_rate))

    return optax.inject_hyperparams(build)(
        learning_rate=cfg.learning_rate,
        momentum=cfg.momentum,
        beta1=cfg.beta1,
        beta2=cfg.beta2,
        epsilon=cfg.epsilon,
        weight_decay=cfg.weight_decay,
    )


def set_learning_rate(opt_state: Any, learning_rate: jax.Array) -> Any:
    """The optimizer state with the rate of the coming step (traced)."""
    return opt_state._replace(hyperparams={**opt_state.hyperparams, "learning_rate": learning_rate})


def schedule(cfg: ScheduleConfig, *, peak: float, steps: int, warmup: int) -> Callable[[Any], Any]:
    """Learning rate as a function of the step (0 is the first), on optax. Raises `UserError`."""
    if cfg.name not in SCHEDULES:
        raise unknown("schedule", cfg.name, SCHEDULES)
    if warmup >= steps and warmup > 0:
        raise UserError(f"schedule.warmup is {warmup} steps of a budget of {steps}; expected fewer")
    rest = steps - warmup
    if cfg.name == "constant":
        main = optax.constant_schedule(peak)
    elif cfg.name == "step":
        if list(cfg.boundaries) != sorted(set(cfg.boundaries)):
            raise UserError(f"schedule.boundaries are {list(cfg.boundaries)}; expected increasing shares of the budget")
        drops: dict[int, float] = {}
        for share in cfg.boundaries:  # in a short budget two may fall on one step
            at = round(share * steps) - warmup
            drops[at] = drops.get(at, 1.0) * cfg.factor
        main = optax.piecewise_constant_schedule(peak, drops)
    else:
        main = optax.cosine_decay_schedule(peak, max(rest, 1), alpha=cfg.final)
    if not warmup:
        return main
    # The first step moves: it has rate peak / warmup, and step `warmup` has the peak.
    rising = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([rising, main], [warmup])


def rates(cfg: ScheduleConfig, *, peak: float, steps: int, warmup: int) -> np.ndarray:
    """The learning rate of every step of the run, float32 `"steps"`."""
    values = jax.vmap(schedule(cfg, peak=peak, steps=steps, warmup=warmup))(jnp.arange(steps))
    return np.asarray(values, np.float32)
