"""Update rules against their published formulas, schedules at their corners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import OptimizerConfig, ScheduleConfig
from research.errors import UserError
from research.training import optimizer

PARAMS = {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.array([0.1, -0.2])}
GRADIENT = {"kernel": jnp.array([[0.3, 0.1], [-0.2, 0.4]]), "bias": jnp.array([0.05, 0.5])}


def steps(cfg: OptimizerConfig, count: int, rate: float = 0.1):
    rule = optimizer.create(cfg)
    params, state = PARAMS, rule.init(PARAMS)
    for _ in range(count):
        state = optimizer.set_learning_rate(state, jnp.float32(rate))
        updates, state = rule.update(GRADIENT, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def by_hand(cfg: OptimizerConfig, name: str, count: int, rate: float = 0.1) -> np.ndarray:
    """The textbook recurrence in float64, one parameter array at a time."""
    weight, gradient = np.asarray(PARAMS[name], np.float64), np.asarray(GRADIENT[name], np.float64)
    velocity, first, second = np.zeros_like(weight), np.zeros_like(weight), np.zeros_like(weight)
    decay = cfg.weight_decay if weight.ndim >= 2 or cfg.decay_on == "all" else 0.0
    for t in range(1, count + 1):
        if cfg.name in ("adam", "adamw"):
            first = cfg.beta1 * first + (1 - cfg.beta1) * gradient
            second = cfg.beta2 * second + (1 - cfg.beta2) * gradient**2
            corrected = first / (1 - cfg.beta1**t), second / (1 - cfg.beta2**t)
            direction = corrected[0] / (np.sqrt(corrected[1]) + cfg.epsilon)
        else:
            velocity = cfg.momentum * velocity + gradient
            look_ahead = gradient + cfg.momentum * velocity
            direction = {"sgd": gradient, "momentum": velocity, "nesterov": look_ahead}[cfg.name]
        weight = weight - rate * (direction + decay * weight)
    return weight


@pytest.mark.parametrize("decay_on", ["kernels", "all"])
@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_every_rule_follows_its_formula(name, decay_on):
    cfg = OptimizerConfig(name, weight_decay=0.0 if name == "adam" else 0.01, decay_on=decay_on)
    got = steps(cfg, 4)
    for key in PARAMS:
        # float32 arithmetic over four steps: a few units in the last place.
        np.testing.assert_allclose(got[key], by_hand(cfg, key, 4), rtol=2e-6)


def test_hyperparameters_are_state_not_program():
    small, large = (
        optimizer.create(OptimizerConfig(weight_decay=d, learning_rate=r)) for d, r in ((0.1, 1.0), (0.2, 2.0))
    )
    programs = {str(jax.make_jaxpr(rule.update)(GRADIENT, rule.init(PARAMS), PARAMS)) for rule in (small, large)}
    assert len(programs) == 1


def test_schedules_at_their_corners():
    flat = optimizer.rates(ScheduleConfig("constant"), peak=0.3, steps=4, warmup=0)
    np.testing.assert_allclose(flat, [0.3] * 4, rtol=1e-6)
    stepped = optimizer.rates(ScheduleConfig("step", boundaries=(0.5, 0.75)), peak=1.0, steps=8, warmup=0)
    np.testing.assert_allclose(stepped, [1] * 4 + [0.1] * 2 + [0.01] * 2, rtol=1e-6)
    warm = optimizer.rates(ScheduleConfig("step", boundaries=(0.5, 0.75)), peak=1.0, steps=8, warmup=2)
    np.testing.assert_allclose(warm, [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)
    cosine = optimizer.rates(ScheduleConfig("cosine", final=0.1), peak=2.0, steps=101, warmup=0)
    expected = 2.0 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * np.arange(101) / 101)))
    np.testing.assert_allclose(cosine, expected, rtol=1e-5)
    # Peak and share times steps must not drift: float32 holds 0.1 + 0.9 x cos to 1e-6 or so.


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: optimizer.create(OptimizerConfig("adamm")),
        lambda: optimizer.create(OptimizerConfig("adam", weight_decay=0.1)),
        lambda: optimizer.schedule(ScheduleConfig("cosin"), peak=1.0, steps=5, warmup=0),
        lambda: optimizer.schedule(ScheduleConfig("cosine"), peak=1.0, steps=5, warmup=5),
        lambda: optimizer.schedule(ScheduleConfig("step", boundaries=(0.7, 0.5)), peak=1.0, steps=5, warmup=0),
    ],
)
def test_refusals(attempt):
    with pytest.raises(UserError) as caught:
        attempt()
    assert "expected" in str(caught.value) or "nearest" in str(caught.value)
