"""Laws of what is done to every image."""

import contextlib
import io
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from research.data import transforms
from research.errors import UserError
from tests.data.conftest import encode, random_image


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


def saved(picture, form, **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def gradient(height=40, width=48):
    """Smooth, so that a JPEG of it is close to it."""
    down, across = np.mgrid[0:height, 0:width]
    return np.stack([down * 255 // height, across * 255 // width, np.full_like(down, 90)], axis=-1).astype(np.uint8)


SMOOTH = Image.fromarray(gradient())
ODD = {  # an encoding -> (bytes, the picture it holds as RGB)
    "progressive": (saved(SMOOTH, "jpeg", progressive=True, quality=95), SMOOTH),
    "subsampled": (saved(SMOOTH, "jpeg", subsampling=2, quality=95), SMOOTH),
    "rgb": (saved(SMOOTH, "jpeg", keep_rgb=True, quality=95), SMOOTH),
    "cmyk": (saved(SMOOTH.convert("CMYK"), "jpeg", quality=95), SMOOTH),
    "grey": (saved(SMOOTH.convert("L"), "jpeg", quality=95), SMOOTH.convert("L").convert("RGB")),
    "grey png": (saved(SMOOTH.convert("L"), "png"), SMOOTH.convert("L").convert("RGB")),
    "16 bits": (
        saved(Image.fromarray(np.asarray(SMOOTH.convert("L")).astype(np.uint16) * 257), "png"),
        SMOOTH.convert("L").convert("RGB"),
    ),
    "palette": (saved(SMOOTH.quantize(64), "png"), SMOOTH.quantize(64).convert("RGB")),
    "transparent": (saved(SMOOTH.convert("RGBA"), "png"), SMOOTH),
    "gif": (saved(SMOOTH.quantize(64), "gif"), SMOOTH.quantize(64).convert("RGB")),
    "bmp": (saved(SMOOTH, "bmp"), SMOOTH),
    "webp": (saved(SMOOTH, "webp", quality=95), SMOOTH),
}


@pytest.mark.parametrize("name", ODD)
def test_every_encoding_becomes_rgb(name):
    encoded, picture = ODD[name]
    found = transforms.decode(encoded, 3, name).astype(int)
    # Lossy ones (and CMYK, which goes by way of 8-bit ink) keep a gradient within 8 of 255; the others are exact.
    lossy = name in ("progressive", "subsampled", "rgb", "cmyk", "grey", "webp")
    assert np.abs(found - np.asarray(picture)).max() <= (8 if lossy else 0)


@pytest.mark.parametrize("name", ODD)
def test_a_file_cut_short_is_refused_or_whole(name):
    """Never grey where the rest of the picture should be."""
    encoded, _ = ODD[name]
    whole = transforms.decode(encoded, 3, name)
    refused = 0
    for keep in itertools.chain(range(0, len(encoded), 7), range(len(encoded) - 20, len(encoded))):
        try:
            np.testing.assert_array_equal(transforms.decode(encoded[:keep], 3, name), whole)
        except transforms.UnreadableImage:
            refused += 1
    assert refused > 0.9 * len(encoded) / 7


@pytest.mark.parametrize("name", ODD)
def test_a_damaged_file_gives_pixels_or_the_one_error(name):
    encoded, _ = ODD[name]
    draws = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(encoded)
        damaged[draws.integers(len(encoded))] = draws.integers(256)
        with contextlib.suppress(transforms.UnreadableImage):  # anything else that Pillow raises would come through
            assert transforms.decode(bytes(damaged), 3, name).dtype == np.uint8
