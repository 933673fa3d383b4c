"""Worked examples of the networks before residual ones: what papers print, and the parts of spatial transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from research import models
from research.models.alexnet import AlexNet, ConvRow
from research.models.nin import MlpConv
from research.models.spatial_transformer import SpatialTransformer, affine_grid, bilinear_sample
from research.nn.layers import identity
from research.nn.normalisation import local_response_norm
from research.nn.pooling import max_pool
from research.testing.model_laws import fill, initial_shapes, paths


def maps(name, **fields):
    """Sides of what each convolution of a variant gives, in order."""
    model = models.create(name, **fields)
    images = jax.ShapeDtypeStruct((1, *models.variant(name).input_shape), jnp.float32)
    _, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False, capture_intermediates=True), images
    )
    shapes = {path: leaf[0].shape for path, leaf in paths(variables["intermediates"]).items() if "conv" in path}
    return {path.removesuffix("/__call__"): shape[1] for path, shape in shapes.items() if len(shape) == 4}


def test_sides_of_the_maps_are_the_printed_ones():
    sides = {"alexnet": [55, 27, 13, 13, 13], "alexnet_owt": [55, 27, 13, 13, 13], "zfnet": [110, 26, 13, 13, 13]}
    for name, printed in sides.items():
        found = maps(name)
        assert [found[f"conv{number}"] for number in range(1, 6)] == printed
    found = maps("nin")
    assert [found[f"mlpconv{number}"] for number in range(1, 5)] == [54, 27, 13, 6]
    found = maps("vgg11")
    assert [found[f"stage{number}_conv1"] for number in range(1, 6)] == [224, 112, 56, 28, 14]


@pytest.mark.parametrize(("name", "inputs"), [("alexnet", 9216), ("zfnet", 9216), ("vgg11", 25_088)])
def test_dense_layers_see_the_printed_maps(name, inputs):
    variables = initial_shapes(models.create(name), models.variant(name).input_shape)[1]
    assert variables["params"]["dense1"]["kernel"].shape == (inputs, 4096)
    features, _ = initial_shapes(models.create(name, num_classes=0), models.variant(name).input_shape)
    assert features.shape[1:] == (4096,)


@pytest.mark.parametrize("order", [("norm", "pool"), ("pool", "norm")])
def test_a_row_says_in_which_order_norm_and_pool_follow(order):
    net = AlexNet((ConvRow(8, 1, after=order),), 1, num_classes=0, hidden=8, act=identity)
    variables = fill(initial_shapes(net, (7, 7, 3))[1])
    # Kernels that pass on what they are given, where they can.
    params = {name: jax.tree.map(jnp.zeros_like, layer) for name, layer in variables["params"].items()}
    params["conv1"]["kernel"] = variables["params"]["conv1"]["kernel"]
    params["dense1"]["kernel"] = jnp.eye(72, 8)
    params["dense2"]["kernel"] = jnp.eye(8)
    x = 30 * jnp.asarray(np.random.default_rng(0).standard_normal((1, 7, 7, 3)), jnp.float32)
    y = jnp.einsum("bhwc,cd->bhwd", x, params["conv1"]["kernel"][0, 0], precision="highest")
    for step in order:
        y = local_response_norm(y) if step == "norm" else max_pool(y, 3, 2)
    np.testing.assert_allclose(net.apply({"params": params}, x, train=False)[0], y[0, 0, 0], rtol=1e-4)


def test_towers_see_each_other_in_the_third_convolution_only():
    shapes = initial_shapes(models.create("alexnet"), (227, 227, 3))[1]["params"]
    assert [shapes[f"conv{number}"]["kernel"].shape[2] for number in range(1, 6)] == [3, 48, 256, 192, 192]


def test_dropout_is_where_the_papers_have_it():
    def draws(name, **fields):
        model = models.create(name, hidden=64, **fields)
        images = jnp.ones((1, 67, 67, 3))
        variables = fill(initial_shapes(model, (67, 67, 3))[1])
        seen = model.apply(
            variables, images, train=True, rngs={"dropout": jax.random.key(0)}, capture_intermediates=True
        )[1]["intermediates"]
        return sorted(layer for layer in seen if "dropout" in layer)

    assert draws("alexnet") == ["dense2_dropout", "dropout"]
    assert draws("alexnet_owt") == ["dense1_dropout", "dense2_dropout"]
    assert draws("alexnet_owt", dropout=0.0) == []


def test_mlpconv_is_a_perceptron_at_every_pixel():
    block = MlpConv((5, 4, 3), 3)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 4, 2)), jnp.float32)
    variables = fill(jax.eval_shape(lambda: block.init(jax.random.key(0), x)))
    layers = [(np.asarray(v["kernel"]), np.asarray(v["bias"])) for _, v in sorted(variables["params"].items())]
    padded = np.pad(np.asarray(x[0]), ((1, 1), (1, 1), (0, 0)))
    for row, column in ((0, 0), (1, 2), (3, 3)):
        hidden = padded[row : row + 3, column : column + 3].ravel()
        for kernel, bias in layers:
            hidden = np.maximum(hidden @ kernel.reshape(-1, kernel.shape[-1]) + bias, 0)
        # Sums of 18 float32 products of order one.
        np.testing.assert_allclose(block.apply(variables, x)[0, row, column], hidden, atol=1e-5)


@pytest.mark.parametrize(("mixings", "widths"), [(0, (192,)), (1, (192, 160)), (2, (192, 160, 96))])
def test_mixings_are_the_1x1_layers_of_each_row(mixings, widths):
    found = paths(initial_shapes(models.create("nin_cifar", mixings=mixings), (32, 32, 3))[1]["params"])
    kernels = [leaf.shape for path, leaf in sorted(found.items()) if path.startswith("mlpconv1/") and leaf.ndim > 1]
    assert tuple(shape[-1] for shape in kernels) == widths
    assert [shape[:2] for shape in kernels] == [(5, 5)] + [(1, 1)] * mixings


@pytest.mark.parametrize("rank", [1, 3])
def test_mlpconv_has_any_rank(rank):
    shape = jax.eval_shape(
        lambda x: MlpConv((5, 4), 3, stride=2).init_with_output(jax.random.key(0), x)[0],
        jax.ShapeDtypeStruct((2, *(8,) * rank, 3), jnp.float32),
    ).shape
    assert shape == (2, *(4,) * rank, 4)


def test_multipliers_scale_vgg():
    narrow = models.create("vgg16", width_multiplier=0.5, depth_multiplier=0.5)
    assert [(stage.blocks, stage.width) for stage in narrow.stages] == [(1, 32), (1, 64), (2, 128), (2, 256), (2, 256)]
    assert narrow.hidden == 2048


IDENTITY = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
PHOTO = jnp.arange(1, 13, dtype=jnp.float32).reshape(1, 3, 4, 1)  # three rows of four


def transformed(theta, images=PHOTO, size=None):
    grid = affine_grid(jnp.asarray([theta] * len(images), jnp.float32), size or images.shape[1:3])
    return bilinear_sample(images, grid)


def test_grid_by_hand():
    grid = affine_grid(jnp.asarray([[[2.0, 0.0, 0.5], [0.0, 1.0, -1.0]]]), (2, 3))
    assert grid[0, :, :, 0].tolist() == [[-1.5, 0.5, 2.5]] * 2
    assert grid[0, :, :, 1].tolist() == [[-2.0] * 3, [0.0] * 3]


def test_identity_gives_the_image_back():
    # Coordinates of float32 are off by 1e-7 of a pixel or so.
    np.testing.assert_allclose(transformed(IDENTITY), PHOTO, atol=1e-5)


def test_translation_by_a_pixel_and_by_half_of_one():
    # Four pixels lie 2/3 of the axis's half apart: the output looks one pixel to the right.
    moved = transformed([[1, 0, 2 / 3], [0, 1, 0]])[0, :, :, 0]
    np.testing.assert_allclose(moved, [[2, 3, 4, 0], [6, 7, 8, 0], [10, 11, 12, 0]], atol=1e-4)
    halfway = transformed([[1, 0, 1 / 3], [0, 1, 0]])[0, :, :, 0]
    np.testing.assert_allclose(halfway, [[1.5, 2.5, 3.5, 2], [5.5, 6.5, 7.5, 4], [9.5, 10.5, 11.5, 6]], atol=1e-4)


def test_rotation_by_a_right_angle():
    square = jnp.arange(9, dtype=jnp.float32).reshape(1, 3, 3, 1)
    # Output (x, y) comes from (y, -x): the row above is what was the first column, from its end.
    turned = transformed([[0, 1, 0], [-1, 0, 0]], square)[0, :, :, 0]
    np.testing.assert_allclose(turned, [[6, 3, 0], [7, 4, 1], [8, 5, 2]], atol=1e-5)


def test_zoom_into_a_smaller_output():
    # The corners of the middle half of four rows and columns: between pixels, at 0.75 and 2.25 of the axis.
    image = jnp.arange(16, dtype=jnp.float32).reshape(1, 4, 4, 1)
    zoomed = transformed([[0.5, 0, 0], [0, 0.5, 0]], image, (2, 2))[0, :, :, 0]
    np.testing.assert_allclose(zoomed, [[3.75, 5.25], [9.75, 11.25]], atol=1e-5)


def test_each_example_has_its_own_transform():
    images = jnp.concatenate([PHOTO, PHOTO])
    theta = jnp.asarray([IDENTITY, [[-1, 0, 0], [0, 1, 0]]], jnp.float32)
    both = bilinear_sample(images, affine_grid(theta, (3, 4)))
    np.testing.assert_allclose(both[0], PHOTO[0], atol=1e-5)
    np.testing.assert_allclose(both[1], PHOTO[0, :, ::-1], atol=1e-5)


def test_gradient_of_the_sampler():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((2, 5, 6, 2)), jnp.float32)
    # Far from pixel centres, where the slope jumps; some samples lie beyond the border.
    theta = jnp.asarray([[[0.7, 0.13, 0.05], [-0.11, 0.8, 0.33]], [[1.2, 0.0, 0.1], [0.1, 0.6, 0.07]]], jnp.float32)
    grid = affine_grid(theta, (4, 3))
    check_grads(jax.jit(bilinear_sample), (images, grid), order=1, modes=["rev"], eps=1e-3, rtol=1e-2)
    # By hand (eq. 6 and 7): one sample between 1, 2 above and 5, 6 below, 0.25 to the right and 0.5 down.
    place = jnp.array([[[[0.25 * 2 / 3 - 1, 0.5 - 1]]]], jnp.float32)
    to_image, to_place = jax.grad(lambda image, at: bilinear_sample(image, at).sum(), (0, 1))(PHOTO, place)
    np.testing.assert_allclose(to_image[0, :2, :2, 0], [[0.375, 0.125], [0.375, 0.125]], atol=1e-5)
    # One pixel to the right is 1 more, one down 4 more; a pixel is 2/3 and 1 of a coordinate.
    np.testing.assert_allclose(to_place[0, 0, 0], [1.5, 4.0], rtol=1e-4)


def test_transformer_starts_as_the_identity_and_learns():
    block = SpatialTransformer()
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 1)), jnp.float32)
    variables = block.init(jax.random.key(0), x)
    np.testing.assert_allclose(block.apply(variables, x), x, atol=1e-4)
    slope = jax.grad(lambda v: jnp.square(block.apply(v, x) - 1).sum())(variables)["params"]["theta"]
    assert jnp.abs(slope["kernel"]).max() > 0
    assert jnp.abs(slope["bias"]).min() > 0


def test_classifier_alone_has_no_transformer_and_small_images_need_same_padding():
    alone = initial_shapes(models.create("stn_lenet", transform=False), (60, 60, 1))[1]
    assert set(alone["params"]) == {"conv1", "conv2", "dense1", "head"}
    models.check_input("stn_lenet", (28, 28, 1), padding="same")
    assert initial_shapes(models.create("stn_lenet", padding="same"), (28, 28, 1))[0].shape[1:] == (10,)
