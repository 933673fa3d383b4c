"""Grad-CAM against its closed form, and what it says to those it refuses; every variant has stages to look at."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.analysis import features, grad_cam
from research.errors import UserError
from research.testing import model_laws
from research.testing.model_laws import fill, initial_shapes
from tests.models.forms import FAMILIES, shortened, smallest

pytestmark = pytest.mark.networks


class Linear(nn.Module):
    """A 1x1 convolution, the mean of each map, a dense layer: what each pixel adds to a logit can be written down."""

    num_classes: int = 3
    rank: int = 2

    @nn.compact
    def __call__(self, images, *, train: bool):
        maps = nn.Conv(4, (1,) * self.rank, name="conv")(images)
        return nn.Dense(self.num_classes, name="head")(maps.mean(range(1, maps.ndim - 1)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_closed_form(rank):
    shape = (5, 4, 3)[:rank]
    model = Linear(rank=rank)
    variables = fill(initial_shapes(model, (*shape, 2))[1])
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, *shape, 2)), jnp.float32)
    kernel, bias = (np.asarray(variables["params"]["conv"][name]) for name in ("kernel", "bias"))
    maps = np.asarray(images) @ kernel[(0,) * rank] + bias
    classes = np.array([2, 0])
    head = np.asarray(variables["params"]["head"]["kernel"])[:, classes].T  # [b, 4]
    expected = np.maximum(np.einsum("bnk,bk->bn", maps.reshape(2, -1, 4), head) / np.prod(shape), 0)
    found = grad_cam.grad_cam(model, variables, images, jnp.asarray(classes), layer="conv")
    # Sums of four products of order one.
    np.testing.assert_allclose(np.asarray(found).reshape(2, -1), expected, atol=1e-5)
    assert expected.max() > 0
    largest = grad_cam.grad_cam(model, variables, images, layer="conv")
    chosen = np.argmax(np.asarray(model.apply(variables, images, train=False)), axis=-1)
    assert np.array_equal(largest, grad_cam.grad_cam(model, variables, images, jnp.asarray(chosen), layer="conv"))


def test_maps_are_scaled_to_their_largest_value():
    heat = jnp.array([[[0.0, 2.0], [1.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert grad_cam.normalised(heat).tolist() == [[[0, 0.5], [0.25, 1]], [[0, 0], [0, 0]]]


def test_overlay_is_dark_where_nothing_was_found_and_bright_where_most_was():
    image, heat = np.full((2, 2, 1), 100, np.uint8), np.array([[0.0, 1.0], [0.0, 0.5]], np.float32)
    shown = grad_cam.overlay(image, heat, lambda x, height, width: x, strength=0.5)
    assert shown.shape == (2, 2, 3)
    assert shown[0, 0].tolist() == [50, 50, 52]
    assert shown[0, 1].tolist() == [176, 178, 132]
    assert shown.sum(-1)[0, 0] < shown.sum(-1)[1, 1] < shown.sum(-1)[0, 1]


def test_unknown_layers_are_refused():
    model = Linear()
    variables, images = fill(initial_shapes(model, (4, 4, 2))[1]), jnp.zeros((1, 4, 4, 2))
    with pytest.raises(UserError, match="unknown layer with maps 'cnov'; nearest: conv"):
        grad_cam.grad_cam(model, variables, images, layer="cnov")
    with pytest.raises(UserError, match="unknown layer with maps 'head'"):
        grad_cam.grad_cam(model, variables, images, layer="head")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_last_stage_to_look_at(family):
    """Or, where its stages are no maps, the last maps before them."""
    for name in smallest(family):
        model, shape = shortened(name).model, shortened(name).input_shape
        images = jax.ShapeDtypeStruct((model_laws.BATCH, *shape), jnp.float32)
        known = features.layers(model, shortened(name).initial[1], images)
        assert known[grad_cam.last_stage(known)][-1] > 1, name
