"""Depthwise-separable convolutions and inverted residuals, worked by hand, at every spatial rank."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.nn.conv import Conv
from research.nn.inverted_residual import DepthwiseSeparable, Excite, InvertedResidual, InvertedStage, padded
from research.nn.layers import identity
from research.nn.trunk import Stage, Trunk, divisible, scale_width
from research.testing.model_laws import fill, paths


def traced(module, shape):
    """Shape of the output, and shapes of the variables, for a float32 input of `shape`."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    output, variables = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, train=False), x)
    return output.shape, variables


def kernels(variables):
    """Weights of the kernels, without biases and norms, by path."""
    return {path: math.prod(a.shape) for path, a in paths(variables["params"]).items() if path.endswith("kernel")}


def filled(module, shape):
    x = jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)
    return x, fill(traced(module, shape)[1])


def test_depthwise_separable_weights_of_the_notes():
    dense = jax.eval_shape(Conv(64, 3).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
    assert sum(kernels(dense).values()) == 3 * 3 * 3 * 64 == 1_728
    shape, separable = traced(DepthwiseSeparable(64), (1, 8, 8, 3))
    assert shape == (1, 8, 8, 64)
    assert kernels(separable) == {"depthwise/conv/kernel": 27, "pointwise/conv/kernel": 192}
    assert 27 + 192 == 219


def test_a_depthwise_convolution_sees_each_channel_alone():
    block = DepthwiseSeparable(4, act=identity)
    x, variables = filled(block, (1, 5, 5, 4))
    eye = jnp.eye(4).reshape(1, 1, 4, 4)
    variables["params"]["pointwise"]["conv"]["kernel"] = eye
    changed = x.at[..., 2].add(1.0)
    moved = np.abs(block.apply(variables, changed, train=False) - block.apply(variables, x, train=False)).sum((0, 1, 2))
    assert moved[2] > 0
    assert not moved[[0, 1, 3]].any()


@pytest.mark.parametrize(
    ("channels", "rounded"),
    # The rule of MobileNet's and EfficientNet's releases: the nearest multiple of 8, half upwards, never below 90%.
    [(3, 8), (8, 8), (11.2, 16), (12, 16), (18, 24), (19.2, 24), (22.4, 24), (33.6, 32), (35.2, 32), (44, 48)],
)
def test_divisible(channels, rounded):
    assert divisible(channels) == rounded
    assert rounded >= 0.9 * channels


def test_a_multiplier_of_one_keeps_widths_that_are_no_multiple():
    assert scale_width(14, 1.0) == 14
    assert scale_width(14, 1.0 + 1e-9) == 16


@pytest.mark.parametrize(("stride", "width", "added"), [(1, 6, True), (2, 6, False), (1, 8, False), ((1, 1), 6, True)])
@pytest.mark.parametrize("fused", [False, True])
def test_the_input_is_added_only_where_stride_and_widths_allow(stride, width, added, fused):
    block = InvertedResidual(width, stride, fused=fused, expansion=2)
    x, variables = filled(block, (2, 6, 6, 6))
    zeroed = jax.tree.map(jnp.zeros_like, variables["params"]["project"]["norm"])
    variables["params"]["project"]["norm"] = zeroed
    y = block.apply(variables, x, train=False)
    assert np.array_equal(y, x) if added else not y.any()
    without = InvertedResidual(width, stride, fused=fused, expansion=2, shortcut=False)
    assert not without.apply(variables, x, train=False).any()


def test_weights_of_each_form():
    # 6 channels in and out: 1x1 to 24, 3x3 for each of them, 1x1 back.
    ordinary = {"expand/conv/kernel": 6 * 24, "depthwise/conv/kernel": 9 * 24, "project/conv/kernel": 24 * 6}
    assert kernels(traced(InvertedResidual(6, expansion=4), (1, 4, 4, 6))[1]) == ordinary
    fused = {"fused/conv/kernel": 9 * 6 * 24, "project/conv/kernel": 24 * 6}
    assert kernels(traced(InvertedResidual(6, expansion=4, fused=True), (1, 4, 4, 6))[1]) == fused
    # An expansion of 1 has nothing to expand.
    one = {"depthwise/conv/kernel": 25 * 6, "project/conv/kernel": 6 * 10}
    assert kernels(traced(InvertedResidual(10, kernel=5, expansion=1), (1, 4, 4, 6))[1]) == one
    assert kernels(traced(InvertedResidual(10, expansion=1, fused=True), (1, 4, 4, 6))[1]) == {
        "fused/conv/kernel": 9 * 6 * 10
    }
    # 2.3 times 80 is 184; of 24 channels 55.2, a multiple of 8 is 56.
    assert (
        kernels(traced(InvertedResidual(24, expansion=2.3, divisor=8), (1, 4, 4, 24))[1])["project/conv/kernel"]
        == 56 * 24
    )


@pytest.mark.parametrize(
    ("excite", "reduced"),
    # A quarter of the 16 channels that enter, or of the 96 in the middle; of the latter, 19.2 is 24 as a multiple of 8.
    [(Excite(0.25), 4), (Excite(0.25, of="expanded"), 24), (Excite(0.2, of="expanded", divisor=8), 24)],
)
def test_what_squeeze_and_excitation_squeezes_to(excite, reduced):
    block = InvertedResidual(16, excite=excite)
    assert kernels(traced(block, (1, 4, 4, 16))[1])["excite/reduce/kernel"] == 96 * reduced


def test_a_linear_bottleneck_can_be_negative_and_a_relu_one_cannot():
    shape = (2, 6, 6, 4)
    linear, relu = (InvertedResidual(8, bottleneck=bottleneck) for bottleneck in ("linear", "relu"))
    x, variables = filled(linear, shape)
    y = linear.apply(variables, x, train=False)
    assert y.min() < 0
    assert np.array_equal(relu.apply(variables, x, train=False), np.clip(y, 0, 6))


def test_stochastic_depth_leaves_the_input_or_scales_the_residual():
    block = InvertedResidual(4, drop_path=0.5)
    x, variables = filled(block, (64, 2, 2, 4))
    still = InvertedResidual(4).apply(variables, x, train=True, mutable=["batch_stats"])[0]
    rngs = {"dropout": jax.random.key(0)}
    y = block.apply(variables, x, train=True, mutable=["batch_stats"], rngs=rngs)[0]
    dropped = np.array([np.array_equal(a, b) for a, b in zip(x, y, strict=True)])
    assert 0 < dropped.sum() < 64
    np.testing.assert_allclose((y - x)[~dropped], 2 * (still - x)[~dropped], atol=1e-5)  # float32 sums of order one


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("fused", [False, True])
def test_trunk_of_inverted_residuals_of_any_rank(fused, rank):
    block = functools.partial(InvertedResidual, fused=fused, excite=Excite(0.25))
    rows = (InvertedStage(1, 4, expansion=1), InvertedStage(2, 8, 2, kernel=5))
    shape, variables = traced(Trunk(4, rows, 5, block, conv=padded(Conv, "same")), (2, *(8,) * rank, 3))
    assert shape == (2, 5)
    name = "fused" if fused else "depthwise"
    kernel = variables["params"]["stage2_block1"][name]["conv"]["kernel"]
    assert kernel.shape == (5,) * rank + ((4, 24) if fused else (1, 24))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_trunk_of_depthwise_separable_blocks_of_any_rank(rank):
    shape, variables = traced(Trunk(4, (Stage(2, 8, 2),), 5, DepthwiseSeparable), (2, *(8,) * rank, 3))
    assert shape == (2, 5)
    assert variables["params"]["stage1_block2"]["depthwise"]["conv"]["kernel"].shape == (3,) * rank + (1, 8)


def test_sizes_that_do_not_fit_the_rank_are_refused():
    with pytest.raises(UserError, match="spatial axes"):
        traced(InvertedResidual(4, stride=(1, 1)), (1, 8, 4))
