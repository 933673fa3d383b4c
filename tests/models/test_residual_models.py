"""Worked examples of the residual networks' kin: what their papers' arithmetic and limits say of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research import models
from research.errors import UserError
from research.models.densenet import DenseLayer
from research.models.highway import HighwayBlock
from research.models.senet import Entry, excitation
from research.nn.conv import convolve
from research.scaling import complexity
from research.testing.model_laws import fill, paths


def initial(model, shape, **options):
    """Shapes of (output, variables) for a float32 input of `shape`."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False, **options), x)


def stage_shapes(name):
    """What each stage of a variant gives for one example of its own shape."""
    variables = initial(models.create(name), (1, *models.variant(name).input_shape), capture_intermediates=True)[1]
    found = variables["intermediates"]
    return [found[f"stage{n}"]["__call__"][0].shape[1:] for n in range(1, 5) if f"stage{n}" in found]


def parameters(name, **fields):
    return complexity.count(models.create(name, **fields), (1, *models.variant(name).input_shape)).params


def noise(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(("bias", "transforms"), [(-1e9, False), (1e9, True)])
def test_a_highway_layer_carries_or_transforms(bias, transforms):
    # Srivastava et al. 2015, eq. 4: y = x where T(x) = 0, and H(x) where T(x) = 1.
    x, block = noise(2, 5, 5, 4), HighwayBlock(4)
    variables = fill(initial(block, x.shape)[1])
    variables["params"]["transform_gate"]["bias"] = jnp.full(4, bias)
    y = block.apply(variables, x, train=False)
    if not transforms:
        assert np.array_equal(y, x)
        return
    norm = nn.BatchNorm(use_running_average=True)
    parts = {name: variables[name]["norm"] for name in ("params", "batch_stats")}
    expected = nn.relu(norm.apply(parts, convolve(x, variables["params"]["conv"]["kernel"])))
    np.testing.assert_allclose(y, expected, atol=1e-5)  # float32 sums of order one


def test_highway_gates_start_almost_shut_and_are_absent_where_the_shape_changes():
    model = models.create("highway19", gate_bias=-2.0)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)["params"]
    gates = {path: leaf for path, leaf in paths(params).items() if path.endswith("transform_gate/bias")}
    assert all(np.array_equal(leaf, jnp.full(leaf.shape, -2.0)) for leaf in gates.values())
    assert {path.split("/")[0] for path in gates} == {
        f"stage{stage}_block{block}" for stage in (1, 2, 3) for block in range(1, 7) if (stage, block) != (1, 6)
    } - {"stage2_block1", "stage3_block1"}


@pytest.mark.parametrize("depth", [7, 19, 20, 21, 32])
def test_highway_depth_counts_its_weighted_layers(depth):
    params = paths(initial(models.create(f"highway{depth}"), (1, 32, 32, 3))[1]["params"])
    layers = [path for path in params if path.endswith("kernel") and "transform_gate" not in path]
    assert len(layers) == depth


def test_highway_with_batch_norm_has_no_other_bias_but_the_gates():
    params = paths(initial(models.create("highway19", batch_norm=True), (1, 32, 32, 3))[1]["params"])
    biases = {path.split("/")[-2] for path in params if path.endswith("/bias")}
    assert biases == {"norm", "transform_gate", "head"}
    plain = paths(initial(models.create("highway19"), (1, 32, 32, 3))[1]["params"])
    assert {path.split("/")[-2] for path in plain if path.endswith("/bias")} == {"conv", "transform_gate", "head"}


@pytest.mark.parametrize("name", ["highway6", "preresnet21", "preresnet7"])
def test_depths_that_cannot_be(name):
    with pytest.raises(UserError, match=name):
        models.create(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet164", "resnet158, resnet170"),
        ("resnet200", "resnet194, resnet206"),
        ("plain152", "plain146, plain158"),
        ("preresnet164", "preresnet158, preresnet170"),
        ("preresnet50", "preresnet44, preresnet56"),
    ],
)
def test_names_of_bottleneck_networks_are_refused(name, nearest):
    with pytest.raises(UserError, match=f"'{name}'.*bottlenecks.*nearest: {nearest}$"):
        models.create(name)


# Of one block of inner width w at its resolution: 1x1, 3x3, 1x1 have r w^2 + 9 w^2 + r w^2 multiply-adds a pixel.
@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_bottleneck_ratio_widens_the_output_of_the_same_3x3(ratio):
    weights = paths(initial(models.create("resnet20", bottleneck_ratio=ratio), (1, 32, 32, 3))[1]["params"])
    block = {path: leaf for path, leaf in weights.items() if path.startswith("stage2_block2/")}
    kernels = {path.split("/")[1]: leaf.size for path, leaf in block.items() if path.endswith("kernel")}
    assert kernels == {"conv1": ratio * 32 * 32, "conv2": 9 * 32 * 32, "conv3": ratio * 32 * 32}
    assert models.create("resnet20", bottleneck_ratio=0) == models.create("resnet20")


@pytest.mark.parametrize("depth", [14, 26, 110])
def test_preactivation_moves_parameters_and_adds_none(depth):
    # The norm after the last block is what the first blocks of two stages and the stem have less.
    assert parameters(f"preresnet{depth}") == parameters(f"resnet{depth}")


def test_resnext_and_wide_resnets_are_options_of_one_table():
    assert models.create("resnet50", groups=32, base_width=4) == models.create("resnext50_32x4d")
    assert models.create("resnet101", base_width=128) == models.create("wide_resnet101_2")
    # Half the middle: 3x3 convolutions of a quarter, 1x1 convolutions of half.
    assert parameters("resnet50", base_width=32) < parameters("resnet50")
    assert {"groups", "base_width"} <= models.options("resnet50").keys() - models.options("resnet18").keys()


@pytest.mark.parametrize("reduction", [4, 8, 16, 32])
def test_parameters_of_squeeze_and_excitation(reduction):
    # Hu et al. 2017, eq. 5: 2 / r times the sum over stages of blocks x channels^2; the released layers have biases.
    rows = [(3, 256), (4, 512), (6, 1024), (3, 2048)]
    extra = sum(n * (2 * c * c // reduction + c // reduction + c) for n, c in rows)
    assert parameters("se_resnet50", reduction=reduction) == parameters("resnet50") + extra


def test_excitation_keeps_a_unit_however_narrow_the_block():
    assert excitation(8, reduction=16, dtype=jnp.float32, name="excite").reduced == 1


def test_the_pool_of_senets_hangs_over_the_end():
    x = jnp.zeros((1, 224, 224, 3))
    assert initial(Entry(8), x.shape)[0].shape == (1, 56, 56, 8)


@pytest.mark.parametrize(("bottleneck", "weights"), [(True, 24 * 48 + 9 * 48 * 12), (False, 9 * 24 * 12)])
def test_a_dense_layer_keeps_its_input_and_adds_channels(bottleneck, weights):
    layer, x = DenseLayer(12, bottleneck=bottleneck), noise(2, 4, 4, 24)
    variables = fill(initial(layer, x.shape)[1])
    y = layer.apply(variables, x, train=False)
    assert y.shape == (2, 4, 4, 36)
    assert np.array_equal(y[..., :24], x)
    assert sum(leaf.size for path, leaf in paths(variables["params"]).items() if path.endswith("kernel")) == weights


def test_a_transition_compresses_and_halves():
    layer = DenseLayer(12, stride=2, compression=0.5)
    output, variables = initial(layer, (1, 8, 8, 25))
    assert output.shape == (1, 4, 4, 12 + 12)
    assert variables["params"]["transition"]["conv"]["kernel"].shape == (1, 1, 25, 12)


def test_channels_of_densenet121():
    # Huang et al. 2016, table 1: 64 + 6 x 32, half of it + 12 x 32, + 24 x 32, + 16 x 32.
    assert stage_shapes("densenet121") == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 1024)]
    assert stage_shapes("densenet_bc_100_12") == [(32, 32, 216), (16, 16, 300), (8, 8, 342)]
    assert stage_shapes("densenet_40_12") == [(32, 32, 160), (16, 16, 304), (8, 8, 448)]


@pytest.mark.parametrize(("name", "dropped"), [("densenet_40_12", 12 * 3 + 2), ("densenet_bc_100_12", 16 * 3 * 2 + 2)])
def test_dropout_follows_every_convolution_but_the_first(name, dropped):
    def trace(x):
        model = models.create(name, dropout=0.2)
        return model.init_with_output(jax.random.key(0), x, train=False, capture_intermediates=True)[1]

    found = jax.eval_shape(trace, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))["intermediates"]
    calls = [path for path in paths(found) if "/dropout" in path]
    assert len(calls) == dropped


def test_video_halves_time_after_space():
    # Hara et al. 2017, table 1: 16 frames of 112 pixels become 1 of 4 (rounded up, as the convolutions pad).
    assert stage_shapes("resnet18_3d") == [(8, 28, 28, 64), (4, 14, 14, 128), (2, 7, 7, 256), (1, 4, 4, 512)]
    assert stage_shapes("resnet18_1d") == [(256, 64), (128, 128), (64, 256), (32, 512)]


def test_a_sequence_is_an_image_one_pixel_high():
    sequence, image = models.create("resnet18_1d"), models.create("resnet18", num_classes=10)
    x = noise(1, 1, 64, 1)
    flat = fill(initial(image.clone(minimum=1), x.shape)[1])
    narrow = jax.tree.map(lambda leaf: leaf[leaf.shape[0] // 2] if leaf.ndim == 4 else leaf, flat)
    expected = sequence.apply(narrow, x[:, 0], train=False)
    # Sums of some thousand float32 products, through 18 layers.
    np.testing.assert_allclose(image.clone(minimum=1).apply(flat, x, train=False), expected, rtol=1e-4, atol=1e-4)
