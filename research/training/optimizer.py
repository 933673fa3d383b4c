"""Update rules, on optax.

The numbers of a rule (learning rate, decay, momentum, clipping norm) live in the optimizer state, not in the compiled
step: runs that differ only in them share one compilation. Weight decay is decoupled (Loshchilov and Hutter 2019,
arXiv:1711.05101): each step subtracts learning rate x decay x weight, masked. LARS and LAMB have it inside the rule, as
their papers do. `research.training.schedule` moves the learning rate, `research.training.groups` scales it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.config import OptimizerConfig
from research.errors import UserError, unknown
from research.training import groups

PyTree = Any
Number = float | jax.Array  # inject_hyperparams builds the rule anew from the arrays in its state
Mask = Callable[[PyTree], PyTree]


class Numbers(NamedTuple):
    """The hyperparameters of a rule, as they stand in the optimizer state."""

    learning_rate: Number
    momentum: Number
    beta1: Number
    beta2: Number
    epsilon: Number
    weight_decay: Number
    trust_coefficient: Number


@dataclass(frozen=True)
class Rule:
    """A row of `OPTIMIZERS`: what it is, how it is built, and what `beta2` and `epsilon` are where a config has None.

    `build` takes the numbers and the mask of what decays; what it gives is added to the parameters.
    """

    summary: str
    build: Callable[[Numbers, Mask], optax.GradientTransformation]
    beta2: float = 0.0
    epsilon: float = 0.0


def _decoupled(numbers: Numbers, mask: Mask, direction: optax.GradientTransformation) -> optax.GradientTransformation:
    """Minus learning rate x (direction + decay x weight)."""
    return optax.chain(
        direction,
        optax.add_decayed_weights(numbers.weight_decay, mask),
        optax.scale_by_learning_rate(numbers.learning_rate),
    )


def _sgd(n: Numbers, mask: Mask) -> optax.GradientTransformation:
    return _decoupled(n, mask, optax.identity())


def _momentum(n: Numbers, mask: Mask) -> optax.GradientTransformation:
    return _decoupled(n, mask, optax.trace(n.momentum))


def _nesterov(n: Numbers, mask: Mask) -> optax.GradientTransformation:
    return _decoupled(n, mask, optax.trace(n.momentum, nesterov=True))


def _adam(n: Numbers, mask: Mask) -> optax.GradientTransformation:
    return _decoupled(n, mask, optax.scale_by_adam(b1=n.beta1, b2=n.beta2, eps=n.epsilon))


def _rmsprop(n: Numbers, mask: Mask) -> optax.GradientTransformation:
    """PyTorch's form: the average starts at 0, epsilon is outside the root, the rate outside the momentum."""
    scaled = optax.scale_by_rms(n.beta2, n.epsilon, initial_scale=0.0, eps_in_sqrt=False)
    return _decoupled(n, mask, optax.chain(scaled, optax.trace(n.momentum)))


def _rmsprop_tf(n: Numbers, mask: Mask) -> optax.GradientTransformation:
    """TensorFlow's form: the average starts at 1, epsilon is inside the root, the rate inside the momentum.

    The decay stays outside the momentum, so that it is decoupled here as well.
    """
    return optax.chain(
        optax.scale_by_rms(n.beta2, n.epsilon, initial_scale=1.0, eps_in_sqrt=True),
        optax.scale_by_learning_rate(n.learning_rate),
        optax.trace(n.momentum),
        optax.add_decayed_weights(-n.learning_rate * n.weight_decay, mask),
    )


def _lars(n: Numbers, mask: Mask) -> optax.GradientTransformation:
    """Algorithm 1: v <- momentum v + rate x local x (g + decay w), w <- w - v; local rate as in `_local_rate`.

    Written out: optax's `lars` divides by |g + decay w| where the paper has |g| + decay |w|. Deviation, as in most
    implementations: biases and norm parameters (rank below 2) are updated without the local rate.
    """

    def scaled(gradients: PyTree, params: PyTree) -> PyTree:
        def one(g: jax.Array, w: jax.Array, decays: bool) -> jax.Array:
            decayed = g + n.weight_decay * w if decays else g
            return decayed if w.ndim < 2 else decayed * _local_rate(g, w, n.trust_coefficient, n.weight_decay)

        return jax.tree.map(one, gradients, params, mask(params))

    return optax.chain(optax.stateless(scaled), optax.scale_by_learning_rate(n.learning_rate), optax.trace(n.momentum))


def _local_rate(gradient: jax.Array, weight: jax.Array, trust: Number, decay: Number) -> jax.Array:
    """You et al. 2017, equation 6: trust x |w| / (|g| + decay |w|), [].

    1 where that is 0 (weights that start at zero would stay there) or 0 / 0.
    """
    gradients, weights = jnp.linalg.norm(gradient.ravel()), jnp.linalg.norm(weight.ravel())
    below = gradients + decay * weights
    defined = (weights > 0) & (below > 0)
    return jnp.where(defined, trust * weights / jnp.where(defined, below, 1.0), 1.0)


def _lamb(n: Numbers, mask: Mask) -> optax.GradientTransformation:
    """Algorithm 2, with the identity for its phi: w <- w - rate x |w| / |r + decay w| x (r + decay w), r Adam's.

    Every array is a layer of its own, biases too, as in the algorithm. Where a norm is 0 the ratio is 1.
    """
    return optax.chain(
        optax.scale_by_adam(b1=n.beta1, b2=n.beta2, eps=n.epsilon),
        optax.add_decayed_weights(n.weight_decay, mask),
        optax.scale_by_trust_ratio(),
        optax.scale_by_learning_rate(n.learning_rate),
    )


def _lion(n: Numbers, mask: Mask) -> optax.GradientTransformation:
    return _decoupled(n, mask, optax.scale_by_lion(b1=n.beta1, b2=n.beta2))


_RULES = {
    "sgd": Rule("gradient descent without momentum", _sgd),
    "momentum": Rule("gradient descent with heavy-ball momentum (Polyak 1964)", _momentum),
    "nesterov": Rule("gradient descent with Nesterov's momentum (Sutskever 2013)", _nesterov),
    "adam": Rule("Adam (Kingma and Ba 2014, arXiv:1412.6980), no weight decay", _adam, 0.999, 1e-8),
    "adamw": Rule(
        "Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)", _adam, 0.999, 1e-8
    ),
    "rmsprop": Rule("RMSProp (Hinton 2012, lecture 6e) with momentum, as in PyTorch", _rmsprop, 0.9, 1e-8),
    "rmsprop_tf": Rule(
        "RMSProp as in TensorFlow, as EfficientNet needs it (Tan and Le 2019, arXiv:1905.11946)",
        _rmsprop_tf,
        0.9,
        1e-3,
    ),
    "lars": Rule("layer-wise rates for large batches, with momentum (You et al. 2017, arXiv:1708.03888)", _lars),
    "lamb": Rule("layer-wise rates on Adam (You et al. 2019, arXiv:1904.00962)", _lamb, 0.999, 1e-6),
    "lion": Rule("sign of the momentum (Chen et al. 2023, arXiv:2302.06675)", _lion, 0.99),
}
OPTIMIZERS = {name: rule.summary for name, rule in _RULES.items()}


def decay_mask(params: PyTree, decay_on: str) -> PyTree:
    """Which parameters decay, as booleans: all, or `kernels` (rank 2 and more: no biases, no norm scales).

    `not_depthwise`: kernels, but none of a layer called "depthwise" (Howard et al. 2017, arXiv:1704.04861, section
    3.2).
    """

    def decays(keys: Any, leaf: Any) -> bool:
        spared = decay_on == "not_depthwise" and "depthwise" in groups.path_of(keys).split("/")
        return decay_on == "all" or (leaf.ndim >= 2 and not spared)

    return jax.tree_util.tree_map_with_path(decays, params)


def create(cfg: OptimizerConfig) -> optax.GradientTransformation:
    """The transformation of `cfg`, whose state carries `hyperparams` (`set_learning_rate`). Raises `UserError`.

    Gradients are clipped first, over all that trains (Pascanu et al. 2012, arXiv:1211.5063).
    """
    values = numbers(cfg)
    if cfg.weight_decay and cfg.name == "adam":
        raise UserError(f"optimizer.weight_decay is {cfg.weight_decay} but adam has none; expected 0, nearest: adamw")
    rule, factors = _RULES[cfg.name], groups.parse(cfg.groups)

    def build(
        learning_rate: Number,
        momentum: Number,
        beta1: Number,
        beta2: Number,
        epsilon: Number,
        weight_decay: Number,
        trust_coefficient: Number,
        clip_norm: Number | None = None,
    ) -> optax.GradientTransformation:
        own = Numbers(learning_rate, momentum, beta1, beta2, epsilon, weight_decay, trust_coefficient)
        clip = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
        whole = optax.chain(*clip, rule.build(own, lambda params: decay_mask(params, cfg.decay_on)))
        return groups.scaled(whole, factors) if factors else whole

    return optax.inject_hyperparams(build)(**values)


def numbers(cfg: OptimizerConfig) -> dict[str, float]:
    """The hyperparameters of `cfg` that are on, by name: what its state begins with. Raises `UserError`."""
    if cfg.name not in _RULES:
        raise unknown("optimizer", cfg.name, _RULES)
    rule = _RULES[cfg.name]
    values = {
        "learning_rate": cfg.learning_rate,
        "momentum": cfg.momentum,
        "beta1": cfg.beta1,
        "beta2": rule.beta2 if cfg.beta2 is None else cfg.beta2,
        "epsilon": rule.epsilon if cfg.epsilon is None else cfg.epsilon,
        "weight_decay": cfg.weight_decay,
        "trust_coefficient": cfg.trust_coefficient,
        "clip_norm": cfg.clip_norm,
    }
    return {name: value for name, value in values.items() if value is not None}


def with_numbers(opt_state: Any, values: Mapping[str, float]) -> Any:
    """The optimizer state of any run of the same rule with the hyperparameters `numbers` of one's own, float32."""
    own = {name: jnp.asarray(values[name], old.dtype) for name, old in opt_state.hyperparams.items()}
    return opt_state._replace(hyperparams=own)


def set_learning_rate(opt_state: Any, learning_rate: jax.Array) -> Any:
    """The optimizer state with the rate of the coming step (traced)."""
    return opt_state._replace(hyperparams={**opt_state.hyperparams, "learning_rate": learning_rate})


def peak(cfg: OptimizerConfig, batch_size: int) -> float:
    """The schedule's peak at a batch of `batch_size` images.

    `learning_rate` times batch / reference_batch (linear: Goyal et al. 2017, arXiv:1706.02677, section 2.1), or times
    the root of that (sqrt: Krizhevsky 2014, arXiv:1404.5997, section 5).
    """
    power = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}[cfg.batch_scaling]
    return cfg.learning_rate * (batch_size / cfg.reference_batch) ** power


def check_groups(cfg: OptimizerConfig, params: PyTree) -> None:
    """Hold `cfg.groups` against the parameters, or their shapes. Raises `UserError` as `groups.check`."""
    groups.check(cfg.groups, params)
