"""Worked examples of atrous convolution, its pyramid and transposed convolution."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from research.errors import UserError
from research.nn.atrous import AtrousSpatialPyramid, ConvTranspose
from research.nn.conv import Conv
from research.scaling import complexity
from research.testing.model_laws import fill


def variables_for(module, x, **kwargs):
    return fill(jax.eval_shape(lambda: module.init(jax.random.key(0), x, **kwargs)))


def noise(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("rate", [1, 2, 6])
def test_an_atrous_kernel_sees_every_rate_th_pixel(rate):
    impulse = jnp.zeros((1, 31, 1)).at[0, 15, 0].set(1)
    conv = Conv(1, 3, dilation=rate, kernel_init=jax.nn.initializers.ones)
    seen = conv.init_with_output(jax.random.key(0), impulse)[0]
    assert np.flatnonzero(seen).tolist() == [15 - rate, 15, 15 + rate]


def test_parameters_of_the_pyramid_of_deeplab_v3():
    # 2,048 channels to 256: a 1x1, three 3x3, the image's 1x1, and 1,280 to 256; each with a norm of 512.
    weights = 2048 * 256 * (1 + 3 * 9 + 1) + 5 * 256 * 256
    x = jax.ShapeDtypeStruct((1, 33, 33, 2048), jnp.float32)
    output, variables = jax.eval_shape(
        lambda x: AtrousSpatialPyramid().init_with_output(jax.random.key(0), x, train=False), x
    )
    assert output.shape == (1, 33, 33, 256)
    assert set(variables["params"]) == {"pointwise", "atrous6", "atrous12", "atrous18", "image", "project"}
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == weights + 6 * 512


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pyramid_of_any_rank_and_what_each_branch_sees(rank):
    pyramid = AtrousSpatialPyramid(width=3, rates=(2, 3))
    x = noise(2, *(7,) * rank, 4)
    variables = variables_for(pyramid, x, train=False)
    assert pyramid.apply(variables, x, train=False).shape == (2, *(7,) * rank, 3)
    _, state = pyramid.apply(variables, x, train=False, capture_intermediates=True)
    branches = {name: value["__call__"][0] for name, value in state["intermediates"].items() if name != "__call__"}
    assert branches["image"].shape == (2, *(1,) * rank, 3)
    # The other image of the batch is no part of the mean.
    alone = pyramid.apply(variables, x[:1], train=False)
    np.testing.assert_allclose(alone, pyramid.apply(variables, x, train=False)[:1], atol=1e-5)


def stamped(x, kernel, strides, padding):
    """Each pixel's multiple of the kernel added to an output without padding, which is then cut off."""
    rank = x.ndim - 2
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[1:-1], strides, kernel.shape, strict=False)]
    result = np.zeros((x.shape[0], *full, kernel.shape[-1]))
    for place in itertools.product(*map(range, x.shape[1:-1])):
        window = tuple(slice(i * s, i * s + k) for i, s, k in zip(place, strides, kernel.shape, strict=False))
        result[(slice(None), *window)] += np.tensordot(x[(slice(None), *place)], kernel, (-1, rank))
    inner = tuple(slice(p, n - p) for p, n in zip(padding, full, strict=True))
    return result[(slice(None), *inner)]


CASES = [
    ((5,), (3,), (1,), (1,)),
    ((4,), (4,), (2,), (1,)),
    ((4, 3), (3, 3), (2, 2), (1, 1)),
    ((4, 3), (4, 2), (2, 3), (0, 1)),
    ((3, 2), (1, 1), (2, 2), (0, 0)),
    ((2, 3, 2), (3, 2, 3), (2, 1, 3), (1, 0, 2)),
]


@pytest.mark.parametrize(("space", "kernel", "stride", "padding"), CASES)
def test_transposed_convolution_stamps_its_kernel(space, kernel, stride, padding):
    module = ConvTranspose(5, kernel, stride, padding, use_bias=True)
    x = noise(2, *space, 3)
    variables = variables_for(module, x)
    y = module.apply(variables, x)
    rows = zip(space, kernel, stride, padding, strict=True)
    assert y.shape == (2, *((n - 1) * s - 2 * p + k for n, k, s, p in rows), 5)
    expected = stamped(np.asarray(x), np.asarray(variables["params"]["kernel"]), stride, padding)
    # Sums of at most some tens of float32 products of order one.
    np.testing.assert_allclose(y, expected + np.asarray(variables["params"]["bias"]), atol=1e-5)


@pytest.mark.parametrize(("space", "kernel", "stride", "padding"), CASES)
def test_transposed_convolution_is_the_gradient_of_convolution(space, kernel, stride, padding):
    module = ConvTranspose(5, kernel, stride, padding)
    x = noise(2, *space, 3)
    variables = variables_for(module, x)
    y = module.apply(variables, x)
    conv = {"params": {"kernel": jnp.swapaxes(variables["params"]["kernel"], -1, -2)}}
    forward, pull = jax.vjp(functools.partial(Conv(3, kernel, stride, padding).apply, conv), jnp.zeros(y.shape))
    assert forward.shape == x.shape
    np.testing.assert_allclose(y, pull(x)[0], atol=1e-5)


def test_transposed_convolution_doubles_an_image_and_counts_by_its_input():
    module = ConvTranspose(6, 4, 2, 1)
    cost = complexity.count(module, (1, 8, 8, 3))
    assert (cost.params, cost.macs) == (4 * 4 * 3 * 6, 8 * 8 * 4 * 4 * 3 * 6)


def test_gradient_of_transposed_convolution():
    module = ConvTranspose(2, 3, 2)
    x = noise(1, 3, 3, 2)
    variables = variables_for(module, x)
    # Linear in each: finite differences are exact but for rounding.
    check_grads(jax.jit(module.apply), (variables, x), order=1, modes=["rev"], rtol=1e-2)


def test_nothing_left_is_refused():
    with pytest.raises(UserError, match="come out of this transposed convolution as"):
        ConvTranspose(1, 1, 1, 1).init(jax.random.key(0), noise(1, 2, 2, 1))
