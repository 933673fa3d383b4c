"""What the inception networks promise beyond the laws: auxiliary heads, features, scaling, small images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import models
from research.models.googlenet import adaptive_average_pool
from research.nn.conv import Conv
from research.scaling import complexity

# With auxiliary heads. GoogLeNet's have 128 c, 2048 x 1024 and 1024 x 1000 weights for c channels, and biases or norms.
WITH_AUXILIARY = [
    ("googlenet", {}, 13_378_280),
    ("googlenet_bn", {}, 13_004_888),
    ("inception_v2", {}, 17_693_912),  # 11,295,240 + (576 + 608) 128 + 2 (3 x 128 + 2,098,176 + 1,025,000)
    ("inception_v3", {}, 27_161_264),
    ("inception_v3", {"aux_batch_norm": False}, 27_161_264 - 768),  # 768 biases in the place of scales and shifts
]
AUXILIARY = {"googlenet": ["aux1", "aux2"], "inception_v2": ["aux1", "aux2"], "inception_v3": ["aux1"]}
WEIGHTS = {"googlenet": 0.3, "googlenet_bn": 0.3, "inception_v2": 0.3, "inception_v3": 0.4}
# Pixels and channels of the last maps at each resolution, from the papers' tables and figures.
FEATURES = {
    "googlenet": [(112, 64), (56, 192), (28, 480), (14, 832), (7, 1024)],
    "googlenet_bn": [(112, 64), (56, 192), (28, 480), (14, 832), (7, 1024)],
    "inception_v2": [(112, 64), (56, 192), (28, 320), (14, 608), (7, 1024)],
    "inception_v3": [(147, 64), (71, 192), (35, 288), (17, 768), (8, 2048)],
    "inception_v4": [(147, 64), (71, 192), (35, 384), (17, 1024), (8, 1536)],
    "inception_resnet_v1": [(147, 64), (71, 192), (35, 256), (17, 896), (8, 1792)],
    "inception_resnet_v2": [(147, 64), (71, 192), (35, 320), (17, 1088), (8, 1536)],
}


def shapes(model, shape, *, train=False):
    """Shapes of (variables, what was sown and captured)."""
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)
    apply = functools.partial(model.apply, train=train, mutable=["batch_stats", "intermediates"])
    given = {
        "rngs": {"dropout": jax.random.key(0)},
        "capture_intermediates": lambda m, _: (m.name or "")[:5] == "stage",
    }
    _, state = jax.eval_shape(lambda v, x: apply(v, x, **given), variables, x)
    return variables, state["intermediates"]


@pytest.mark.parametrize(("name", "fields", "params"), WITH_AUXILIARY)
def test_parameters_with_auxiliary_heads(name, fields, params):
    model = models.create(name, aux_heads=True, **fields)
    assert complexity.count(model, (1, *models.variant(name).input_shape)).params == params


@pytest.mark.parametrize("name", AUXILIARY)
def test_auxiliary_logits_are_sown_at_any_resolution(name):
    found = models.variant(name)
    model = models.create(name, aux_heads=True, num_classes=7)
    assert model.aux_weight == WEIGHTS[name]
    for side in (found.minimum, found.input_shape[0]):
        _, sown = shapes(model, (side, side, 3), train=True)
        assert sorted(key for key in sown if key.startswith("aux")) == AUXILIARY[name]
        assert [sown[key][0].shape for key in AUXILIARY[name]] == [(2, 7)] * len(AUXILIARY[name])


@pytest.mark.parametrize("name", FEATURES)
def test_features_at_each_resolution(name):
    _, captured = shapes(models.create(name), models.variant(name).input_shape)
    found = [captured[f"stage{number}"]["__call__"][0].shape for number in range(1, 6)]
    assert found == [(2, side, side, channels) for side, channels in FEATURES[name]]


@pytest.mark.parametrize("name", ["googlenet", "googlenet_bn", "inception_v2"])
def test_stem_for_small_images(name):
    model = models.create(name, stem="cifar", num_classes=10)
    assert model.minimum == 4
    _, captured = shapes(model, (32, 32, 3))
    sides = [captured[f"stage{number}"]["__call__"][0].shape[1] for number in (1, 2, 3)]
    assert sides == [32, 16, 8]
    assert "stage4" not in captured


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_half_the_width_is_a_quarter_of_the_cost(name):
    shape = (1, *models.variant(name).input_shape)
    whole, half = (complexity.count(models.create(name, width_multiplier=w), shape).macs for w in (1.0, 0.5))
    # But for the 3 colours, and widths such as 24 that are rounded to multiples of 8.
    assert 0.24 < half / whole < 0.28


@pytest.mark.parametrize("name", FEATURES)
def test_depth_multiplier_repeats_modules(name):
    blocks = [stage.blocks for stage in models.create(name).stages]
    assert [stage.blocks for stage in models.create(name, depth_multiplier=2.0).stages] == [2 * n for n in blocks]


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_ablations_cost_more(name):
    shape = (1, *models.variant(name).input_shape)
    fields = [{}, {"reductions": "pool"}, {"factorised": False}]
    costs = [complexity.count(models.create(name, **f), shape).macs for f in fields if f.keys() <= models.fields(name)]
    assert costs[0] == min(costs)
    assert len(set(costs)) == len(costs)


def test_the_face_network_gives_embeddings():
    model = models.create("inception_resnet_v1_face", num_classes=0)
    images = jax.ShapeDtypeStruct((2, 160, 160, 3), jnp.float32)
    features, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), images)
    assert features.shape == (2, 512)
    assert variables["params"]["neck"]["dense"]["kernel"].shape == (1792, 512)
    assert "stage5_closing" in variables["params"]


@pytest.mark.parametrize(("name", "biased"), [("googlenet", True), ("googlenet_bn", False), ("inception_v2", True)])
def test_biases_are_the_networks_and_not_of_what_builds_its_convolutions(name, biased):
    own, other = (shapes(models.create(name, **fields), (32, 32, 3))[0] for fields in ({}, {"conv": Conv}))
    assert own == other
    assert ("bias" in own["params"]["stage1_layer1"]["conv"]) == biased


@pytest.mark.parametrize("n", [3, 4, 7, 14])
def test_adaptive_average_pool(n):
    x = np.random.default_rng(0).standard_normal((1, n, n, 2)).astype(np.float32)
    pooled = adaptive_average_pool(jnp.asarray(x))
    windows = [slice(i * n // 4, -(-(i + 1) * n // 4)) for i in range(4)]
    expected = [[x[0, rows, columns].mean((0, 1)) for columns in windows] for rows in windows]
    np.testing.assert_allclose(pooled[0], expected, atol=1e-6)  # means of at most 16 float32 values of order one
