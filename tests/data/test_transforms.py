"""Laws of what is done to every image."""

import contextlib
import io
import itertools
import os
import struct
import tracemalloc
import zlib

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


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG that declares this size, whatever it holds."""
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def test_what_a_header_declares_is_checked_before_anything_is_decoded():
    side = 11_600  # which Pillow alone would decode, with a warning: 134 million pixels
    whole = png(side, side, bytes(side * (side + 1)))
    tracemalloc.start()
    try:
        with pytest.raises(transforms.UnreadableImage, match=r"x declares 11600x11600 pixels; expected at most"):
            transforms.decode(whole, 1, "x")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert transforms.decode(png(7, 5, bytes(5 * 8)), 1, "x").shape == (5, 7, 1)


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_rows_that_are_missing_are_no_black_ones(rows):
    """Of whole rows and sound checksums, as an encoder leaves them that was stopped: Pillow fills in zeros."""
    with pytest.raises(transforms.UnreadableImage):
        transforms.decode(png(7, 5, bytes(rows * 8)), 1, "x")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (5, 5), (8, 8), (17, 9)])
@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_no_sound_png_lacks_rows(mode, interlaced, width, height):
    """All there is is needed: with one byte less, the picture is refused."""
    depth, colour = {"1": (1, 0), "I;16": (16, 0), "P": (2, 3)}.get(
        mode, (8, {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}.get(mode))
    )
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    steps = [(0, 0, 1, 1)]
    if interlaced:  # PNG (third edition), section 8.1
        steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    count = 0
    for left, top, right, down in steps:
        across, rows = len(range(left, width, right)), len(range(top, height, down))
        count += rows * (1 + (across * depth * channels + 7) // 8) if across else 0
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    head += chunk(b"PLTE", bytes(12)) if mode == "P" else b""

    def made(size):
        return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(size))) + chunk(b"IEND", b"")

    assert transforms.decode(made(count), 3, "x").shape == (height, width, 3)
    with pytest.raises(transforms.UnreadableImage):
        transforms.decode(made(count - 1), 3, "x")


@given(st.data())
def test_a_bit_of_a_png_that_is_another_is_seen_wherever_it_is(data):
    sound = encode(random_image(3, 12, 9, 3)).getvalue()
    end = sound.index(b"IEND")
    at = data.draw(st.integers(8 * 8, (end + 8) * 8 - 1))
    spoilt = bytearray(sound)
    spoilt[at // 8] ^= 1 << at % 8
    with pytest.raises(transforms.UnreadableImage):
        transforms.decode(bytes(spoilt), 3, "x")


def test_a_picture_is_never_given_to_another_program(tmp_path, monkeypatch):
    """Pillow reads EPS by running Ghostscript on it."""
    marker, fake = tmp_path / "ran", tmp_path / "gs"
    fake.write_text(f"#!/bin/sh\ntouch {marker}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with Image.open(io.BytesIO(eps)) as picture, contextlib.suppress(Exception):
        picture.load()
    assert marker.exists(), "what is guarded against"
    marker.unlink()
    with pytest.raises(transforms.UnreadableImage):
        transforms.decode(eps, 3, "x")
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"])
def test_formats_that_are_read(kind):
    data = io.BytesIO()
    Image.fromarray(np.full((9, 7, 3), 255, np.uint8)).save(data, kind)
    assert transforms.decode(data.getvalue(), 3, "x").min() == 255


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_that_are_no_light_are_refused(mode):
    data = io.BytesIO()
    Image.fromarray(np.ones((4, 4), {"F": np.float32, "I": np.int32}[mode]), mode).save(data, "tiff")
    with pytest.raises(transforms.UnreadableImage):
        transforms.decode(data.getvalue(), 1, "x")


def test_of_16_bits_the_high_8_whatever_the_format():
    values = (np.arange(256, dtype=">u2") * 257).reshape(16, 16)
    grey = b"P5\n16 16\n65535\n" + values.tobytes()
    np.testing.assert_array_equal(transforms.decode(grey, 1, "x")[..., 0], np.arange(256).reshape(16, 16))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "huge.png").write_bytes(b"")
    os.truncate(tmp_path / "huge.png", transforms.MOST_BYTES + 1)
    names = ["pipe.png", "folder.png", "loop.png", "huge.png", "none.png", "n" * 300]
    for file in (*(tmp_path / name for name in names), "/dev/zero"):
        with pytest.raises(transforms.UnreadableImage, match="image"):
            transforms.read_file(file)
    (tmp_path / "a.png").write_bytes(b"x")
    assert transforms.read_file(tmp_path / "a.png") == b"x"
