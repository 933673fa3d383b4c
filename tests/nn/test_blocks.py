"""Worked examples of the layers and blocks, at every spatial rank where the definition has none of its own."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.nn.blocks import SHORTCUTS, BasicBlock, Bottleneck
from research.nn.conv import Conv, convolve
from research.nn.layers import NoNorm
from research.nn.pooling import average_pool, global_average_pool, max_pool, place_pool
from research.nn.preactivation import PreActivationBlock, PreActivationBottleneck, PreActivationStage
from research.nn.squeeze_excite import SqueezeExcite
from research.nn.trunk import Stage, Trunk
from research.testing.model_laws import fill

POOLED = jnp.array([[0, 2, 3, 5], [1, 0, 0, 0], [5, 6, 0, 7], [4, 1, 0, 2]], jnp.float32)
AVERAGED = jnp.array([[1, 1, 1, 0], [0, 2, 0, 1], [2, 2, 0, 0], [1, 1, 0, 2]], jnp.float32)


def traced(module, shape, **kwargs):
    """Shapes of (output, params) for a float32 input of `shape`."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    output, variables = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, **kwargs), x)
    return output.shape, variables


def count(variables):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("n", [6, 7, 32])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_output_size(n, kernel, padding, stride):
    shape, _ = traced(Conv(4, kernel, stride, padding), (1, n, n, 3))
    size = (n + 2 * padding - kernel) // stride + 1
    assert shape == (1, size, size, 4)


def test_output_size_and_parameters_of_the_notes():
    assert traced(Conv(1, 3, padding=1), (1, 6, 6, 1))[0] == (1, 6, 6, 1)
    shape, variables = traced(Conv(6, 5, padding=0, use_bias=True), (1, 32, 32, 3))
    assert (shape, count(variables)) == ((1, 28, 28, 6), 456)
    assert count(traced(Conv(10, 3, use_bias=True), (1, 8, 8, 3))[1]) == 280
    assert count(traced(Conv(64, 3), (1, 8, 8, 3))[1]) == 1728
    assert count(traced(Conv(3, 3, groups=3), (1, 8, 8, 3))[1]) == 27
    # A dense layer with the same input and output as the six 5x5 filters.
    assert count(traced(nn.Dense(28 * 28 * 6, use_bias=False), (1, 32 * 32 * 3))[1]) == 14_450_688


def test_convolution_is_the_sum_it_says():
    x = np.random.default_rng(0).standard_normal((1, 5, 5, 2)).astype(np.float32)
    conv = Conv(3, 3, stride=2, use_bias=True)
    variables = fill(traced(conv, x.shape)[1])
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)))
    windows = [[padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for j in range(3)] for i in range(3)]
    expected = np.einsum("ijhwc,hwcf->ijf", np.array(windows), kernel) + bias
    # Sums of 18 float32 products of order one.
    np.testing.assert_allclose(conv.apply(variables, jnp.asarray(x))[0], expected, atol=1e-5)


def test_kernel_larger_than_the_input_is_refused():
    with pytest.raises(UserError, match="smaller than a"):
        traced(Conv(1, 5, padding=0), (1, 4, 4, 1))
    with pytest.raises(UserError, match="spatial axes"):
        traced(Conv(1, (3, 3)), (1, 8, 1))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kernel", [3, 5])
def test_receptive_field_of_stacked_layers(layers, kernel):
    net = nn.Sequential([Conv(1, kernel, kernel_init=nn.initializers.ones) for _ in range(layers)])
    impulse = jnp.zeros((1, 31, 1)).at[0, 15, 0].set(1)
    seen = net.init_with_output(jax.random.key(0), impulse)[0]
    # The impulse reaches as many outputs as one output sees inputs.
    assert int((seen != 0).sum()) == 1 + layers * (kernel - 1)


def test_pooling():
    def pool(function, x, *args):
        return function(x[None, :, :, None], *args)[0, :, :, 0].tolist()

    assert pool(max_pool, POOLED, 2, 2) == [[2, 5], [6, 7]]
    assert pool(average_pool, AVERAGED, 2, 2) == [[1, 0.5], [1.5, 0.5]]
    # Padding never wins a maximum, and counts as zeros in a mean.
    assert pool(max_pool, -1 - POOLED, 2, 4, 1)[0] == [-1, -6]
    assert pool(average_pool, 1 + POOLED, 2, 4, 1)[0] == [0.25, 1.5]
    assert global_average_pool(POOLED[None, :, :, None]).tolist() == [[2.25]]


@pytest.mark.parametrize("block", [BasicBlock, functools.partial(Bottleneck, expansion=1)])
@pytest.mark.parametrize("option", ["A", "B"])
def test_residual_block_with_zero_function_is_the_identity_in_value_and_gradient(block, option):
    block = block(4, shortcut=option, act=lambda x: x)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 5, 4)), jnp.float32)
    variables = fill(traced(block, x.shape, train=False)[1])
    last = max(name for name in variables["params"] if name.startswith("norm"))
    variables["params"][last] = jax.tree.map(jnp.zeros_like, variables["params"][last])
    cotangent = jnp.cos(x)
    y, pull = jax.vjp(lambda x: block.apply(variables, x, train=False), x)
    assert np.array_equal(y, x)
    assert np.array_equal(pull(cotangent)[0], cotangent)


def test_option_a_is_every_other_pixel_and_zeros():
    block = BasicBlock(5, stride=2, shortcut="A", act=lambda x: x)
    x = jnp.arange(2 * 5 * 5 * 3, dtype=jnp.float32).reshape(2, 5, 5, 3)
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), traced(block, x.shape, train=False)[1])
    y = block.apply(variables, x, train=False)
    assert np.array_equal(y[..., :3], x[:, ::2, ::2])
    assert not y[..., 3:].any()


@pytest.mark.parametrize(
    ("option", "changing", "same"),
    # Two 3x3 convolutions and their norms; a projection is 16 x 32 or 32 x 32 weights and a norm.
    [("A", 13_952, 18_560), ("none", 13_952, 18_560), ("B", 13_952 + 576, 18_560), ("C", 13_952 + 576, 18_560 + 1_088)],
)
def test_parameters_of_shortcut_options(option, changing, same):
    assert count(traced(BasicBlock(32, 2, option), (1, 8, 8, 16), train=False)[1]) == changing
    assert count(traced(BasicBlock(32, 1, option), (1, 8, 8, 32), train=False)[1]) == same


def test_unknown_shortcut_is_refused():
    with pytest.raises(UserError, match="unknown shortcut 'E'; expected one of: A, B, C, none"):
        traced(BasicBlock(4, 1, "E"), (1, 8, 8, 4), train=False)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("option", SHORTCUTS)
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_trunk_of_any_rank(block, option, rank):
    trunk = Trunk(4, (Stage(1, 4), Stage(2, 8, 2)), 5, functools.partial(block, shortcut=option))
    shape, variables = traced(trunk, (2, *(8,) * rank, 3), train=False)
    assert shape == (2, 5)
    assert set(variables["params"]) == {"stem", "stage1_block1", "stage2_block1", "stage2_block2", "head"}
    assert variables["params"]["stage2_block1"]["conv2"]["kernel"].shape == ((3,) * rank) + (8, 8)


@pytest.mark.parametrize(("stride_on", "middle"), [("3x3", 8), ("1x1", 4)])
def test_bottleneck_strides_where_it_says(stride_on, middle):
    block = Bottleneck(4, stride=2, stride_on=stride_on)
    x = jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32)
    _, variables = jax.eval_shape(
        lambda x: block.init_with_output(jax.random.key(0), x, train=False, capture_intermediates=True), x
    )
    shapes = {
        name: value["__call__"][0].shape for name, value in variables["intermediates"].items() if name != "__call__"
    }
    assert shapes["conv1"] == (1, middle, middle, 4)
    assert shapes["conv3"] == (1, 4, 4, 16)


def test_parameters_of_the_blocks_that_resnext_compares():
    # Xie et al. 2016, section 3.3: 256 64 + 3 3 64 64 + 64 256 weights, and 32 (256 4 + 3 3 4 4 + 4 256).
    assert count(traced(Bottleneck(64, norm=NoNorm), (1, 4, 4, 256), train=False)[1]) == 69_632
    grouped = Bottleneck(64, groups=32, base_width=4, norm=NoNorm)
    assert count(traced(grouped, (1, 4, 4, 256), train=False)[1]) == 70_144


def test_a_grouped_bottleneck_is_a_sum_of_narrow_ones():
    # Xie et al. 2016, figure 3: (a) and (c) are one function.
    groups, depth = 4, 2
    block = Bottleneck(8, groups=groups, base_width=depth * 64 // 8, expansion=1, norm=NoNorm)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 5, 8)), jnp.float32)
    variables = fill(traced(block, x.shape, train=False)[1])
    first, second, third = (variables["params"][name]["kernel"] for name in ("conv1", "conv2", "conv3"))
    paths = []
    for start in range(0, groups * depth, depth):
        own = slice(start, start + depth)
        y = nn.relu(convolve(x, first[..., own]))
        paths.append(convolve(nn.relu(convolve(y, second[..., own])), third[..., own, :]))
    # Sums of some tens of float32 products of order one, in another order.
    np.testing.assert_allclose(block.apply(variables, x, train=False), nn.relu(x + sum(paths)), atol=1e-5)


@pytest.mark.parametrize("block", [BasicBlock, functools.partial(Bottleneck, expansion=1)])
def test_a_block_whose_last_norm_starts_at_zero_starts_as_its_shortcut(block):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 5, 4)), jnp.float32)
    y, _ = block(4, zero_init=True).init_with_output(jax.random.key(0), x, train=True)
    assert np.array_equal(y, nn.relu(x))


def test_squeeze_and_excitation_by_hand():
    x = jnp.array([[1, 10], [3, 30]], jnp.float32)[None]  # two pixels of two channels, whose means are 2 and 20
    params = {
        "reduce": {"kernel": jnp.array([[1.0], [-0.05]]), "bias": jnp.array([0.5])},  # 2 - 1 + 0.5 = 1.5
        "expand": {"kernel": jnp.array([[2.0, -2.0]]), "bias": jnp.array([-3.0, 3.0])},  # 0 and 0
    }
    module = SqueezeExcite(1)
    np.testing.assert_array_equal(module.apply({"params": params}, x), x / 2)
    params["expand"]["bias"] = jnp.array([-1e9, 1e9])  # one gate shut, one open
    np.testing.assert_array_equal(module.apply({"params": params}, x), x * jnp.array([[[0.0, 1.0]]]))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, PreActivationBlock, PreActivationBottleneck])
def test_excitation_weights_the_residual_and_not_the_shortcut(block):
    def halved(channels, *, dtype, name):
        return Conv(channels, 1, groups=channels, kernel_init=nn.initializers.constant(0.5), dtype=dtype, name=name)

    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 5, 8)), jnp.float32)
    options = {"shortcut": "A", "act": lambda x: x}
    options |= {"expansion": 1} if "expansion" in block.__dataclass_fields__ else {}
    variables = fill(traced(block(8, **options), x.shape, train=False)[1])
    plain = block(8, **options).apply(variables, x, train=False)
    variables["params"]["excite"] = {"kernel": jnp.full((1, 1, 1, 8), 0.5)}
    excited = block(8, excite=halved, **options).apply(variables, x, train=False)
    np.testing.assert_allclose(excited - x, (plain - x) / 2, atol=1e-5)  # float32 sums of order one


@pytest.mark.parametrize("block", [PreActivationBlock, functools.partial(PreActivationBottleneck, expansion=1)])
def test_preactivation_carries_x_itself_through(block):
    # He et al. 2016, eq. 4: with F = 0 the input, negative values too, and the gradient pass unchanged.
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 5, 4)), jnp.float32)
    variables = fill(traced(block(4), x.shape, train=False)[1])
    last = max(name for name in variables["params"] if name.startswith("conv"))
    variables["params"][last] = jax.tree.map(jnp.zeros_like, variables["params"][last])
    y, pull = jax.vjp(lambda x: block(4).apply(variables, x, train=False), x)
    assert np.array_equal(y, x)
    assert np.array_equal(pull(jnp.cos(x))[0], jnp.cos(x))
    activated = block(4, activate_shortcut=True).apply(variables, x, train=False)
    norm = nn.BatchNorm(use_running_average=True)
    parts = {name: variables[name]["norm1"] for name in ("params", "batch_stats")}
    np.testing.assert_allclose(activated, nn.relu(norm.apply(parts, x)), atol=1e-6)  # one rounding of order one


def test_only_the_first_block_of_a_stage_activates_its_shortcut():
    row = PreActivationStage(3, 8, 2)
    assert [row.arguments(index)["activate_shortcut"] for index in range(3)] == [True, False, False]
    assert [row.arguments(index)["stride"] for index in range(3)] == [2, 1, 1]


def test_dropout_is_within_the_block_and_for_training_only():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 5, 4)), jnp.float32)
    variables = fill(traced(PreActivationBlock(4), x.shape, train=False)[1])
    kept, dropped = PreActivationBlock(4), PreActivationBlock(4, dropout=1.0)
    assert np.array_equal(dropped.apply(variables, x, train=False), kept.apply(variables, x, train=False))
    rngs = {"dropout": jax.random.key(0)}
    y, _ = dropped.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats"])
    assert np.array_equal(y, x)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, PreActivationBlock, PreActivationBottleneck])
@pytest.mark.parametrize("stride", [1, 2])
def test_one_definition_at_every_rank(block, stride):
    # Of an image one pixel high only the middle row of each kernel meets anything but padding.
    net = block(8, stride=stride, excite=lambda channels, **keywords: SqueezeExcite(3, **keywords))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 1, 9, 4)), jnp.float32)
    flat = fill(traced(net, x.shape, train=False)[1])
    narrow = jax.tree.map(lambda leaf: leaf[leaf.shape[0] // 2] if leaf.ndim == 4 else leaf, flat)
    expected = net.apply(narrow, x[:, 0], train=False)
    np.testing.assert_allclose(net.apply(flat, x, train=False)[:, 0], expected, atol=1e-5)  # float32 sums
    deep = jax.tree.map(lambda leaf: jnp.stack([leaf] * leaf.shape[0]) if leaf.ndim == 4 else leaf, flat)
    np.testing.assert_allclose(net.apply(deep, x[:, None], train=False)[:, 0, 0], expected, atol=1e-5)


def test_place_pool_says_where_each_channel_is_highest():
    maps = np.zeros((1, 5, 3, 2), np.float32)
    maps[0, 0, 2, 0] = maps[0, 4, 1, 1] = 50  # top right; bottom middle
    features = place_pool(jnp.asarray(maps))
    np.testing.assert_allclose(features, [[50 / 15, 50 / 15, -1, 1, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(
        place_pool(jnp.zeros((1, 4, 4, 4, 1))), np.zeros((1, 4)), atol=1e-6
    )  # nowhere: the middle
