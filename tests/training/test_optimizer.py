"""Update rules against their published formulas in float64, over 100 steps; groups, freezing and clipping by law."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import OptimizerConfig
from research.errors import UserError
from research.training import groups, optimizer

STEPS = 100
RATES = (0.05 * (1 - np.arange(STEPS) / 150)).astype(np.float32)  # moves, so that its place in a rule is seen
RANDOM = np.random.default_rng(0)


def _normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return RANDOM.normal(0, scale, shape).astype(np.float32)


PARAMS = {
    "stem": {"conv": {"kernel": _normal(3, 3, 2, 4), "bias": _normal(4)}, "norm": {"scale": _normal(4) + 2}},
    "head": {"kernel": _normal(5, 3), "bias": np.zeros(3, np.float32)},
    "still": {"kernel": _normal(2, 3)},  # its gradient is always zero
    "risen": {"kernel": np.zeros((2, 3), np.float32)},  # starts at zero
}
GRADIENTS = [
    jax.tree.map(lambda p: _normal(*p.shape, scale=0.3), PARAMS) | {"still": {"kernel": np.zeros((2, 3), np.float32)}}
    for _ in range(STEPS)
]
# Every number off its default, and weight decay large enough to be seen beside the gradient.
NUMBERS = {"momentum": 0.8, "beta1": 0.85, "weight_decay": 0.03, "trust_coefficient": 0.02}


def config(name: str, **changed) -> OptimizerConfig:
    numbers = NUMBERS | ({"weight_decay": 0.0} if name == "adam" else {}) | changed
    return OptimizerConfig(name, **numbers)


def trained(cfg: OptimizerConfig, count: int = STEPS, params=PARAMS, gradients=GRADIENTS):
    """Parameters after `count` steps, and the optimizer state."""
    rule = optimizer.create(cfg)
    state = rule.init(jax.tree.map(jnp.asarray, params))

    @jax.jit
    def step(params, state, gradient, rate):
        updates, state = rule.update(gradient, optimizer.set_learning_rate(state, rate), params)
        return jax.tree.map(jnp.add, params, updates), state

    for gradient, rate in zip(gradients[:count], RATES[:count], strict=True):
        params, state = step(params, state, gradient, rate)
    return params, state


DEFAULTS = {  # of beta2 and epsilon, as the papers and frameworks have them
    "adam": (0.999, 1e-8),
    "adamw": (0.999, 1e-8),
    "rmsprop": (0.9, 1e-8),
    "rmsprop_tf": (0.9, 1e-3),
    "lamb": (0.999, 1e-6),
    "lion": (0.99, 0.0),
}


def by_hand(cfg: OptimizerConfig, weight: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """The published recurrence of one array in float64, from numbers rounded to float32 as the state holds them."""
    norm = np.linalg.norm
    beta2, epsilon = DEFAULTS.get(cfg.name, (0.0, 0.0))
    beta2 = float(np.float32(beta2 if cfg.beta2 is None else cfg.beta2))
    epsilon = float(np.float32(epsilon if cfg.epsilon is None else cfg.epsilon))
    beta1, momentum = float(np.float32(cfg.beta1)), float(np.float32(cfg.momentum))
    trust = float(np.float32(cfg.trust_coefficient))
    decay = float(np.float32(cfg.weight_decay)) if weight.ndim >= 2 or cfg.decay_on == "all" else 0.0
    kernel, w = weight.ndim >= 2, weight.astype(np.float64)
    first, buffer = np.zeros_like(w), np.zeros_like(w)
    second = np.ones_like(w) if cfg.name == "rmsprop_tf" else np.zeros_like(w)
    for t, (g, rate) in enumerate(zip(gradients, RATES.astype(np.float64), strict=False), start=1):
        g = g.astype(np.float64)
        if cfg.name == "sgd":
            w = w - rate * (g + decay * w)
        elif cfg.name in ("momentum", "nesterov"):
            buffer = momentum * buffer + g
            direction = g + momentum * buffer if cfg.name == "nesterov" else buffer
            w = w - rate * (direction + decay * w)
        elif cfg.name in ("adam", "adamw", "lamb"):
            first = beta1 * first + (1 - beta1) * g
            second = beta2 * second + (1 - beta2) * g**2
            r = (first / (1 - beta1**t)) / (np.sqrt(second / (1 - beta2**t)) + epsilon)
            ratio = 1.0
            if cfg.name == "lamb" and norm(w) > 0 and norm(r + decay * w) > 0:
                ratio = norm(w) / norm(r + decay * w)
            w = w - rate * ratio * (r + decay * w)
        elif cfg.name == "rmsprop":  # torch.optim.RMSprop, its documentation
            second = beta2 * second + (1 - beta2) * g**2
            buffer = momentum * buffer + g / (np.sqrt(second) + epsilon)
            w = w - rate * (buffer + decay * w)
        elif cfg.name == "rmsprop_tf":  # tf.compat.v1.train.RMSPropOptimizer, its documentation
            second = beta2 * second + (1 - beta2) * g**2
            buffer = momentum * buffer + rate * g / np.sqrt(second + epsilon)
            w = w - buffer - rate * decay * w
        elif cfg.name == "lars":  # algorithm 1
            below = norm(g) + decay * norm(w)
            local = trust * norm(w) / below if kernel and norm(w) > 0 and below > 0 else 1.0
            buffer = momentum * buffer + rate * local * (g + decay * w)
            w = w - buffer
        elif cfg.name == "lion":  # algorithm 2
            w = w - rate * (np.sign(beta1 * first + (1 - beta1) * g) + decay * w)
            first = beta2 * first + (1 - beta2) * g
    return w


@pytest.mark.parametrize("decay_on", ["kernels", "all"])
@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_every_rule_follows_its_formula(name, decay_on):
    cfg = config(name, decay_on=decay_on)
    got, _ = trained(cfg)
    expected = jax.tree.map(lambda w, *g: by_hand(cfg, w, list(g)), PARAMS, *GRADIENTS)
    for path, value in jax.tree_util.tree_leaves_with_path(expected):
        found = dict(jax.tree_util.tree_leaves_with_path(got))[path]
        # float32 weights of about 1 rounded at each of 100 steps, at 6e-8 each; adam's 1 - beta2^t adds as much.
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=5e-6, err_msg=jax.tree_util.keystr(path))
    moved = {jax.tree_util.keystr(path) for path, w in jax.tree_util.tree_leaves_with_path(expected) if np.any(w)}
    assert len(moved) == 7  # weights that start at zero leave it under every rule


def test_depthwise_kernels_are_spared_on_request():
    layer = {"conv": {"kernel": np.ones((3, 3, 1, 4))}, "norm": {"scale": np.ones(4)}}
    params = {"block": {"depthwise": layer, "pointwise": {"conv": {"kernel": np.ones((1, 1, 4, 8))}}}}
    kernels, spared = (optimizer.decay_mask(params, decay_on)["block"] for decay_on in ("kernels", "not_depthwise"))
    assert kernels["depthwise"] == {"conv": {"kernel": True}, "norm": {"scale": False}}
    assert spared["depthwise"] == {"conv": {"kernel": False}, "norm": {"scale": False}}
    assert spared["pointwise"] == kernels["pointwise"] == {"conv": {"kernel": True}}


@pytest.mark.parametrize("name", DEFAULTS)
def test_numbers_of_the_config_go_before_a_rules_own(name):
    own = {"beta2": 0.7} | ({} if name == "lion" else {"epsilon": 0.1})
    cfg = config(name, **own)
    got, _ = trained(cfg, 5)
    kernels = [g["head"]["kernel"] for g in GRADIENTS[:5]]
    # As above, over 5 steps.
    np.testing.assert_allclose(got["head"]["kernel"], by_hand(cfg, PARAMS["head"]["kernel"], kernels), rtol=1e-5)


def test_the_first_step_of_lars_and_of_lamb_by_hand():
    # |w| = 5, |g| = 1, decay 0.1: LARS has the local rate 0.01 x 5 / (1 + 0.5) = 1/30.
    weight, gradient = {"w": jnp.array([[3.0, 4.0]])}, {"w": jnp.array([[0.6, 0.8]])}
    lars = optimizer.create(OptimizerConfig("lars", learning_rate=3.0, trust_coefficient=0.01, weight_decay=0.1))
    update, _ = lars.update(gradient, lars.init(weight), weight)
    np.testing.assert_allclose(update["w"], [[-0.09, -0.12]], rtol=1e-6)  # 3 / 30 x (0.6 + 0.3, 0.8 + 0.4); one ulp
    # LAMB's first Adam direction is the sign of the gradient: r + 0.1 w = (1.3, 1.4), and the step has length |w|.
    lamb = optimizer.create(OptimizerConfig("lamb", learning_rate=1.0, weight_decay=0.1, epsilon=0.0))
    update, _ = lamb.update(gradient, lamb.init(weight), weight)
    direction = np.array([[1.3, 1.4]])
    # Adam's 1 - beta^1 costs a few units in the last place.
    np.testing.assert_allclose(update["w"], -5 * direction / np.linalg.norm(direction), rtol=1e-6)


def _program(cfg: OptimizerConfig) -> str:
    rule = optimizer.create(cfg)
    traced = str(jax.make_jaxpr(rule.update)(GRADIENTS[0], rule.init(PARAMS), PARAMS))
    return re.sub(r"0x[0-9a-f]+", "", traced)  # of functions, in the text of a custom derivative


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_hyperparameters_are_state_not_program(name):
    decay = 0.0 if name == "adam" else 0.2
    one = config(name, learning_rate=1.0, clip_norm=1.0)
    other = OptimizerConfig(
        name, learning_rate=2.0, momentum=0.1, beta1=0.2, beta2=0.3, epsilon=0.4, weight_decay=decay, clip_norm=5.0
    )
    assert _program(one) == _program(dataclasses.replace(other, trust_coefficient=0.5))


def test_changed_hyperparameters_trace_nothing_anew():
    rule = optimizer.create(config("lars", clip_norm=1.0))
    update = jax.jit(rule.update)
    state = rule.init(jax.tree.map(jnp.asarray, PARAMS))
    _, state = update(GRADIENTS[0], state, PARAMS)
    before = update._cache_size()
    numbers = {key: jnp.float32(0.5 + index) for index, key in enumerate(state.hyperparams)}
    update(GRADIENTS[1], state._replace(hyperparams=numbers), PARAMS)
    update(GRADIENTS[1], optimizer.set_learning_rate(state, jnp.float32(0.3)), PARAMS)
    assert update._cache_size() == before


# --- Groups


def equal(one, other) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), one, other))


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_frozen_parameters_have_no_update_no_memory_and_no_part_in_the_rest(name):
    cfg = config(name, groups=("stem=0",), clip_norm=0.5, decay_on="all")
    got, state = trained(cfg, 5)
    assert equal(got["stem"], PARAMS["stem"])
    assert not jax.tree.leaves(state.inner_state.inner_states["frozen"])
    rest = {key: value for key, value in PARAMS.items() if key != "stem"}
    without = [{key: gradient[key] for key in rest} for gradient in GRADIENTS]
    alone, small = trained(dataclasses.replace(cfg, groups=()), 5, rest, without)
    assert equal({key: got[key] for key in rest}, alone)  # to the bit: the clipping norm too is of these alone
    sizes = [[leaf.shape for leaf in jax.tree.leaves(s.inner_state)] for s in (state, small)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_a_factor_scales_the_whole_update(name):
    plain, _ = trained(config(name), 1)
    halved, _ = trained(config(name, groups=("*/bias=0.5", "head=0.25")), 1)
    moves = [jax.tree.map(lambda a, b: np.float64(a) - b, tree, PARAMS) for tree in (plain, halved)]
    for part, factor in ((("stem", "conv", "bias"), 0.5), (("head", "bias"), 0.5), (("head", "kernel"), 0.25)):
        full, scaled = moves
        for key in part:
            full, scaled = full[key], scaled[key]
        # Weights of up to 3 after a subtraction: two units in the last place of each.
        np.testing.assert_allclose(scaled, factor * full, atol=5e-7)
        assert np.any(scaled)
    assert equal(plain["risen"], halved["risen"])


def test_the_first_match_decides_and_a_prefix_stands_for_all_below():
    parsed = groups.parse(["stem/conv/kernel=0", "stem/*=0.1", "head = 2"])
    paths = {"stem/conv/kernel": 0.0, "stem/conv/bias": 0.1, "head/kernel": 2.0, "header/kernel": 1.0, "body/stem": 1.0}
    assert {path: groups.group_of(path, parsed).factor for path in paths} == paths


@pytest.mark.parametrize(
    ("entries", "hint"),
    [
        (("stem",), "PATTERN=FACTOR"),
        (("=0.1",), "PATTERN=FACTOR"),
        (("stem=fast",), "PATTERN=FACTOR"),
        (("stem=-1",), "at least 0"),
        (("stem=nan",), "at least 0"),
        (("stem=inf",), "at least 0"),
        (("stm/*=0.1",), "nearest: stem"),
        (("stem/conv/kernal=0.1",), "stem/conv/kernel"),
        (("stem=0", "stem/conv=0.1"), "narrower"),
        (("*=0",), "every parameter"),
    ],
)
def test_groups_that_mean_nothing_are_refused(entries, hint):
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, PARAMS))
    with pytest.raises(UserError, match=re.escape(hint)):
        optimizer.check_groups(OptimizerConfig(groups=entries), shapes)
    if "PATTERN" in hint or "least" in hint:
        with pytest.raises(UserError, match=re.escape(hint)):
            optimizer.create(OptimizerConfig(groups=entries))


def test_groups_that_mean_something_are_not_refused():
    cfg = OptimizerConfig(groups=("stem/conv/*=0", "stem=0.1", "*/bias=2"))
    optimizer.check_groups(cfg, jax.eval_shape(lambda: jax.tree.map(jnp.asarray, PARAMS)))


# --- Clipping, and the peak


def test_gradients_are_scaled_down_to_the_norm_and_never_up():
    params, gradient = (
        {"a": jnp.zeros(2), "b": jnp.zeros((1, 1))},
        {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])},
    )
    for norm, factor in ((1.0, 0.2), (10.0, 1.0), (5.0, 1.0)):  # |(3, 0, 4)| = 5
        rule = optimizer.create(OptimizerConfig("sgd", learning_rate=1.0, clip_norm=norm))
        update, _ = rule.update(gradient, rule.init(params), params)
        # One rounding of a quotient and one of a product.
        np.testing.assert_allclose(update["a"], [-3 * factor, 0], rtol=2e-7)
        np.testing.assert_allclose(update["b"], [[-4 * factor]], rtol=2e-7)


def test_the_peak_follows_the_batch():
    peaks = {
        scaling: optimizer.peak(OptimizerConfig(learning_rate=0.1, batch_scaling=scaling, reference_batch=256), 8192)
        for scaling in ("none", "linear", "sqrt")
    }
    # Goyal et al. 2017, section 2.1: 0.1 for 256 images is 3.2 for 8192; the root of 32 is 5.657.
    assert peaks == {"none": 0.1, "linear": pytest.approx(3.2), "sqrt": pytest.approx(0.5657, rel=1e-4)}


@pytest.mark.parametrize("cfg", [OptimizerConfig("adamm"), OptimizerConfig("adam", weight_decay=0.1)])
def test_refusals(cfg):
    with pytest.raises(UserError, match="nearest"):
        optimizer.create(cfg)
