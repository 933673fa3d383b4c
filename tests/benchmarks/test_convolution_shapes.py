"""The convolutions of the catalogue, found by tracing, and the two ways in which one is computed."""

from dataclasses import asdict

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import convolutions
from benchmarks.convolutions import Shape
from benchmarks.sides import convolution

ONE = ((1, 1), (1, 1))
NONE = ((0, 0), (0, 0))
FOUND = {
    # He et al. 2015, section 4.2: three stages of 16, 32 and 64 maps, the second and third begun with stride 2.
    "resnet20": {
        Shape((32, 32), (3, 3), 3, 16, 1, (1, 1), ONE, (1, 1)),
        Shape((32, 32), (3, 3), 16, 16, 1, (1, 1), ONE, (1, 1)),
        Shape((32, 32), (3, 3), 16, 32, 1, (2, 2), ONE, (1, 1)),
        Shape((16, 16), (3, 3), 32, 32, 1, (1, 1), ONE, (1, 1)),
        Shape((16, 16), (3, 3), 32, 64, 1, (2, 2), ONE, (1, 1)),
        Shape((8, 8), (3, 3), 64, 64, 1, (1, 1), ONE, (1, 1)),
    },
    "lenet5": {
        Shape((32, 32), (5, 5), 1, 6, 1, (1, 1), NONE, (1, 1)),
        Shape((14, 14), (5, 5), 6, 16, 1, (1, 1), NONE, (1, 1)),
    },
}


@pytest.mark.parametrize("name", FOUND)
def test_shapes_of_small_networks_are_all_found(name):
    assert convolutions.of_variant(name) == FOUND[name]


def test_depthwise_and_sequence_convolutions_are_found():
    depthwise = Shape((112, 112), (3, 3), 32, 32, 32, (1, 1), ONE, (1, 1))
    assert depthwise in convolutions.of_variant("mobilenet_v2")
    assert all(len(shape.space) == 1 for shape in convolutions.of_variant("resnet18_1d"))


def test_the_catalogue_names_the_first_variant_of_a_shape():
    found = convolutions.of_catalogue("resnet[28]*0")
    assert found.keys() >= FOUND["resnet20"]
    assert set(found.values()) == {"resnet20"}
    assert list(found) == sorted(found)


def test_a_shape_knows_its_output_and_says_what_it_is():
    shape = Shape((224, 224), (7, 7), 3, 64, 1, (2, 2), ((3, 3), (3, 3)), (1, 1))
    assert shape.out == (112, 112)
    assert str(shape) == "7x7 /2 3->64 on 224x224 pad 3,3"
    atrous = Shape((28, 28), (3, 3), 8, 8, 8, (1, 1), ((2, 2), (2, 2)), (2, 2))
    assert str(atrous) == "3x3 8->8 on 28x28 g=8 d=2x2 pad 2,2"
    assert all(1 <= s.batch_size <= convolutions.BATCH for s in (shape, atrous))


COMPUTED = [
    Shape((6, 6), (3, 3), 4, 4, 4, (1, 1), ((2, 2), (2, 2)), (2, 2)),
    Shape((9,), (3,), 4, 6, 2, (2,), ((1, 1),), (1,)),
]


@pytest.mark.parametrize("shape", COMPUTED, ids=str)
def test_both_sides_compute_the_same(shape):
    spec = {**asdict(shape), "batch_size": 2}
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.standard_normal((2, *shape.space, shape.channels), np.float32))
    window = (*shape.window, shape.channels // shape.groups, shape.features)
    kernel = jnp.asarray(draw.standard_normal(window, np.float32))
    ours, native = (make(spec)(x, kernel) for make in (convolution.ours, convolution.native))
    assert ours.shape == (2, *shape.out, shape.features)
    # sums of at most 36 products of order 1, in another order
    np.testing.assert_allclose(ours, native, atol=1e-5)


def test_uneven_padding_is_that_of_same():
    shape = Shape((8, 8), (3, 3), 2, 3, 1, (2, 2), ((0, 1), (0, 1)), (1, 1))
    spec = {**asdict(shape), "batch_size": 1}
    x, kernel = jnp.ones((1, 8, 8, 2)), jnp.ones((3, 3, 2, 3))
    ours, native = (make(spec)(x, kernel) for make in (convolution.ours, convolution.native))
    np.testing.assert_array_equal(ours, native)  # small whole numbers
    with pytest.raises(AssertionError):
        convolution.ours({**spec, "padding": [(1, 0), (1, 0)]})


def test_a_side_times_the_output_and_both_gradients():
    shape = Shape((4, 4), (1, 1), 2, 3, 1, (1, 1), NONE, (1, 1))
    timers, _ = convolution.prepare({**asdict(shape), "batch_size": 1}, make=convolution.native)
    assert tuple(timers) == convolutions.PROGRAMS
    assert all(timer(2) > 0 for timer in timers.values())


def test_the_summary_lists_what_is_slower():
    measured = [
        ("3x3 a", "one", {"output": 2.0, "images": 0.5, "kernel": 1.0}),
        ("1x1 b", "two", dict.fromkeys(convolutions.PROGRAMS, 8.0)),
    ]
    first, output, images, _, *slower = convolutions.summary(measured)
    assert first.split()[:3] == ["stock", "/", "ours"]
    assert output.split() == ["output", "2.00", "2.00", "5.00", "8.00", "4.00", "0/2"]
    assert images.split()[-1] == "1/2"
    assert [line.split() for line in slower] == [["0.50", "images", "3x3", "a", "(one)"]]
