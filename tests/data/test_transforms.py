"""Laws of what is done to images, and that each example's augmentation is its own."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research import data
from research.config import DataConfig
from research.data import transforms
from research.errors import UserError
from tests.data.conftest import encode, random_image

# Every public function of the file that takes a key is an augmentation; its third argument is its strength.
AUGMENTATIONS = {
    name: function
    for name, function in vars(transforms).items()
    if inspect.isfunction(function)
    and not name.startswith("_")
    and next(iter(inspect.signature(function).parameters)) == "key"
}
STRENGTHS = {"probability": (0.0, 1.0), "pixels": (0, 3)}  # (no effect, an effect), by what the argument means


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_keeps_shape_and_range_and_is_the_identity_at_zero(name):
    augment = AUGMENTATIONS[name]
    zero, strength = STRENGTHS[list(inspect.signature(augment).parameters)[2]]
    image = jnp.asarray(random_image(0, 7, 9, 3), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 16)
    for key in keys[:4]:
        np.testing.assert_array_equal(augment(key, image, zero), image)
    changed = jax.vmap(lambda key: augment(key, image, strength))(keys)
    assert changed.shape == (16, *image.shape)
    assert changed.dtype == image.dtype
    assert set(np.unique(changed)) <= {*np.unique(image), 0.0}
    assert any(not np.array_equal(c, image) for c in changed)


def test_flip_and_crop_worked_examples():
    image = jnp.arange(1.0, 7).reshape(2, 3, 1)
    np.testing.assert_array_equal(transforms.random_flip(jax.random.key(0), image, 1.0)[..., 0], [[3, 2, 1], [6, 5, 4]])
    keys = jax.random.split(jax.random.key(1), 400)
    crops = {np.asarray(transforms.pad_and_crop(k, image, 1))[..., 0].tobytes() for k in keys[:100]}
    padded = np.pad(np.asarray(image)[..., 0], 1)
    expected = {padded[i : i + 2, j : j + 3].tobytes() for i in range(3) for j in range(3)}
    assert crops == expected  # 9 crops; 100 draws miss one with probability 7e-5, and the keys are fixed
    flipped = jax.vmap(transforms.random_flip, (0, None))(keys, image)[:, 0, 0, 0] == 3
    assert abs(float(flipped.mean()) - 0.5) < 0.1  # 4 standard deviations of 400 fair coins


def test_normalise():
    images = jnp.asarray(random_image(0, 4, 4, 3), jnp.float32)[None]
    np.testing.assert_array_equal(transforms.normalise(images, jnp.zeros(3), jnp.ones(3)), images)
    out = transforms.normalise(images, jnp.array([1.0, 2, 3]), jnp.array([2.0, 4, 8]))
    np.testing.assert_array_equal(out, (np.asarray(images) - [1, 2, 3]) / [2, 4, 8])  # exact: powers of two


@given(height=st.integers(1, 20), width=st.integers(1, 20), resolution=st.integers(1, 24), channels=st.integers(1, 4))
def test_fits_give_the_resolution_and_are_the_identity_at_the_own_size(height, width, resolution, channels):
    image = random_image(0, height, width, channels)
    resized = transforms.resize(image, resolution)
    assert resized.shape == (resolution, resolution, channels)
    assert resized.dtype == np.uint8
    assert image.min() <= resized.min() <= resized.max() <= image.max()
    square = random_image(1, height, height, channels)
    np.testing.assert_array_equal(transforms.resize(square, height), square)
    np.testing.assert_array_equal(transforms.pad(square, height), square)
    constant = np.full_like(image, 77)
    np.testing.assert_array_equal(transforms.resize(constant, resolution), 77)
    if max(height, width) <= resolution:
        padded = transforms.pad(image, resolution)
        assert padded.shape == resized.shape
        assert padded.sum(dtype=int) == image.sum(dtype=int)


def test_resize_is_antialiased_and_takes_the_centre():
    stripes = np.tile(np.array([0, 255], np.uint8), 32)[None, :, None].repeat(64, axis=0)
    reduced = transforms.resize(stripes, 8)
    # Reduced 8 times, stripes of one pixel average out; plain bilinear sampling would keep them at 0 or 255.
    assert np.all(np.abs(reduced[:, 1:-1].astype(int) - 127) <= 8)
    wide = np.arange(12, dtype=np.uint8)[None, :, None].repeat(4, axis=0)
    np.testing.assert_array_equal(transforms.resize(wide, 4)[0, :, 0], [4, 5, 6, 7])


def test_pad_centres_and_refuses_to_shrink():
    padded = transforms.pad(np.ones((2, 3, 1), np.uint8), 5)[..., 0]
    np.testing.assert_array_equal(np.argwhere(padded), [(i, j) for i in (1, 2) for j in (1, 2, 3)])
    with pytest.raises(UserError, match=r"data.resolution is 4, smaller than the data's 5x3.*at least 5"):
        transforms.pad(np.ones((5, 3, 1), np.uint8), 4)


def test_channels():
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    grey = transforms.to_channels(colour, 1)
    np.testing.assert_array_equal(grey[0, :, 0], [76, 150, 29, 255])  # 0.299, 0.587, 0.114 of 255
    np.testing.assert_array_equal(transforms.to_channels(transforms.to_channels(grey, 3), 1), grey)
    with pytest.raises(UserError, match=r"data.channels is 3; images of 4 channels"):
        transforms.to_channels(np.zeros((1, 1, 4), np.uint8), 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_decode_gives_back_what_was_encoded(channels):
    image = random_image(0, 5, 6, channels)
    np.testing.assert_array_equal(transforms.decode(encode(image).read(), channels, "x"), image)
    with pytest.raises(UserError, match="x is not a readable image"):
        transforms.decode(encode(image).read()[:40], channels, "x")


@pytest.fixture(scope="module")
def augmented():
    return data.pipeline(DataConfig(name="synthetic", flip=True, pad_and_crop=4, batch_size=16), seed=5)


def fetch(pipeline, index, epoch, augment=True, split="train", seed=None):
    feed = {"index": np.array(index, np.int32), "epoch": np.full(len(index), epoch, np.int32)}
    feed["mask"] = np.ones(len(index), np.float32)
    resident = pipeline.resident if seed is None else pipeline.resident | {"seed": np.array([0, seed], np.uint32)}
    return jax.jit(pipeline.fetch, static_argnames=("split", "augment"))(resident, feed, split=split, augment=augment)


def test_batch_has_the_documented_arrays(augmented):
    batch = fetch(augmented, [3, 1, 4, 1], 0)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "image": ((4, 32, 32, 3), jnp.float32),
        "label": ((4,), jnp.int32),
        "mask": ((4,), jnp.float32),
        "index": ((4,), jnp.int32),
    }
    np.testing.assert_array_equal(batch["label"], augmented.resident["train"]["label"][[3, 1, 4, 1]])


@pytest.mark.parametrize("augment", [False, True])
def test_an_example_does_not_depend_on_its_batch(augmented, augment):
    whole = fetch(augmented, list(range(16)), 2, augment)["image"]
    order = [5, 5, 0, 15, 9]
    np.testing.assert_array_equal(fetch(augmented, order, 2, augment)["image"], whole[np.array(order)])
    np.testing.assert_array_equal(fetch(augmented, [7], 2, augment)["image"][0], whole[7])


def test_augmentation_differs_by_seed_epoch_and_index_and_evaluation_has_none(augmented):
    same_pixels = augmented.resident["train"]["image"].copy()
    same_pixels[:] = same_pixels[0]
    twins = dataclasses.replace(
        augmented, resident=augmented.resident | {"train": augmented.resident["train"] | {"image": same_pixels}}
    )
    by_index = fetch(twins, list(range(16)), 0)["image"]
    assert len({np.asarray(i).tobytes() for i in by_index}) > 10  # 162 outcomes of flip and crop; 16 draws
    indices = list(range(16))
    assert not np.array_equal(fetch(augmented, indices, 0)["image"], fetch(augmented, indices, 1)["image"])
    assert not np.array_equal(fetch(augmented, indices, 0)["image"], fetch(augmented, indices, 0, seed=6)["image"])
    plain = fetch(augmented, indices, 0, augment=False)["image"]
    np.testing.assert_array_equal(plain, fetch(augmented, indices, 7, augment=False)["image"])
    raw = augmented.resident["train"]["image"][:16].astype(np.float32)
    expected = (raw - augmented.resident["mean"]) / augmented.resident["std"]
    # One rounding each of the difference and the quotient, which the compiler may fuse.
    np.testing.assert_allclose(plain, expected, rtol=1e-6, atol=1e-6)


def test_another_seed_compiles_nothing(augmented):
    traces = []

    @jax.jit
    def step(resident, feed):
        traces.append(1)
        return augmented.fetch(resident, feed, split="train", augment=True)["image"].sum()

    for seed in (1, 2):
        other = data.pipeline(augmented.config, seed=seed)
        step(other.resident, next(other.train(0)))
    assert len(traces) == 1


def test_the_key_is_that_of_the_seed(augmented):
    index, epoch = 11, 4
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), epoch), index)
    image = fetch(augmented, [index], epoch, augment=False)["image"][0]
    image = transforms.random_flip(jax.random.fold_in(key, 0), image)
    image = transforms.pad_and_crop(jax.random.fold_in(key, 1), image, 4)
    np.testing.assert_array_equal(fetch(augmented, [index], epoch)["image"][0], image)
