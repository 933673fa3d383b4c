"""Laws of random-resized crops: where the box may be, what fixes it, and that the pixels are the box's."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from research.data import crops, transforms
from research.data.stored import Encoded
from tests.data.conftest import encode, random_image

STANDARD = {"area": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}
sides = st.integers(1, 2000)
salts = st.tuples(st.integers(0, 2**32), st.integers(0, 90), st.integers(0, 2**31))
intervals = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted).map(tuple)
ratios = st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)).map(sorted).map(tuple)


@given(height=sides, width=sides, area=intervals, ratio=ratios, salt=salts)
def test_the_box_is_within_the_image_and_the_bounds(height, width, area, ratio, salt):
    top, left, h, w = crops.crop_box(height, width, area=area, ratio=ratio, salt=salt)
    assert all(isinstance(value, int) for value in (top, left, h, w))
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert h >= 1
    assert w >= 1
    # Sides are rounded to whole pixels, by half a pixel at most.
    wide = w + 0.5 >= ratio[0] * (h - 0.5) and w - 0.5 <= ratio[1] * (h + 0.5)
    fallback = (top, left) == ((height - h) // 2, (width - w) // 2) and (h == height or w == width)
    within = (h - 0.5) * (w - 0.5) <= area[1] * height * width and (h + 0.5) * (w + 0.5) >= area[0] * height * width
    assert (wide and within) or fallback
    assert wide or h == 1 or w == 1


@given(height=sides, width=sides, salt=salts)
def test_all_of_an_image_whose_shape_is_allowed(height, width, salt):
    ratio = (width / height, width / height)
    assert crops.crop_box(height, width, area=(1.0, 1.0), ratio=ratio, salt=salt) == (0, 0, height, width)


def test_worked_examples_of_the_fallback():
    """The largest centre crop with an allowed shape, where nothing smaller is asked for: torchvision's last lines."""
    whole = {"area": (1.0, 1.0), "ratio": (3 / 4, 4 / 3), "salt": (0,)}
    assert crops.crop_box(300, 900, **whole) == (
        0,
        250,
        300,
        400,
    )  # too wide: 300 x 4/3 wide, (900 - 400) / 2 from left
    assert crops.crop_box(900, 300, **whole) == (250, 0, 400, 300)
    assert crops.crop_box(1, 50, **whole) == (0, 24, 1, 1)


def test_a_box_worked_by_hand():
    """Of the digest that `printf "((3, 1, 4), 0)" | sha256sum` prints, four little-endian words, as shares of 2^64.

    0.2306, 0.3958, 0.4081, 0.2125: 0.08 + 0.2306 x 0.92 = 0.2921 of 375x500 is 54,771 pixels, width over height is
    0.75 x (16/9)^0.3958 = 0.9419, so 241.1 x 227.1; the top is 0.4081 x (375 - 241 + 1), the left 0.2125 x 274.
    """
    assert crops.crop_box(375, 500, **STANDARD, salt=(3, 1, 4)) == (55, 58, 241, 227)


def test_salts_alone_decide():
    boxes = {
        salt: crops.crop_box(375, 500, **STANDARD, salt=salt) for salt in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0))
    }
    assert len(set(boxes.values())) == len(boxes)


def test_boxes_are_spread_as_the_paper_says():
    """Of 4,000 boxes in a square much larger than a pixel, all by the first draw that fits."""
    count, side = 4000, 10_000
    boxes = np.array(
        [crops.crop_box(side, side, area=(0.08, 0.5), ratio=(3 / 4, 4 / 3), salt=(i,)) for i in range(count)]
    )
    top, left, h, w = boxes.T.astype(float)
    uniform = {
        "area": (h * w / side**2 - 0.08) / 0.42,
        "log ratio": (np.log(w / h) - np.log(3 / 4)) / np.log(16 / 9),
        "top": top / (side - h),
        "left": left / (side - w),
    }
    for name, values in uniform.items():
        distance = np.abs(np.sort(values) - (np.arange(count) + 0.5) / count).max()
        assert distance < 1.63 / math.sqrt(count), name  # Kolmogorov-Smirnov at 1%; the salts are fixed
    correlation = np.corrcoef(np.stack(list(uniform.values()))) - np.eye(4)
    assert np.abs(correlation).max() < 4 / math.sqrt(count)  # 4 standard deviations


# --- pixels


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", **options)
    return file.getvalue()


def stored(data, channels=3):
    return Encoded(lambda: data, channels, "it")


def cut(image, size, channels=3, salt=(7,), **bounds):
    found = crops.random_resized_crop(image, size=size, channels=channels, salt=salt, **(STANDARD | bounds))
    assert found.shape == (*size, channels)
    assert found.dtype == np.uint8
    return found


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files_and_arrays_give_the_same_pixels(channels):
    image = random_image(0, 31, 45, channels)
    for i in range(20):
        one, other = (
            cut(image, (8, 12), channels, (i,)),
            cut(stored(encode(image).read(), channels), (8, 12), channels, (i,)),
        )
        np.testing.assert_array_equal(one, other)
        top, left, h, w = crops.crop_box(31, 45, **STANDARD, salt=(i,))
        if (h, w) == (8, 12):
            np.testing.assert_array_equal(one, image[top : top + h, left : left + w])


def test_an_image_of_the_size_is_left_as_it_is_where_all_of_it_is_asked_for():
    image = random_image(1, 24, 24, 3)
    for given_ in (image, stored(encode(image).read())):
        np.testing.assert_array_equal(cut(given_, (24, 24), area=(1.0, 1.0), ratio=(1.0, 1.0)), image)


def test_nothing_outside_the_box_is_seen():
    """A white image with a black frame: a crop inside the frame is white to its edges."""
    for i in range(50):
        top, left, h, w = crops.crop_box(90, 120, **STANDARD, salt=(i,))
        image = np.zeros((90, 120, 3), np.uint8)
        image[top : top + h, left : left + w] = 255
        assert cut(stored(encode(image).read()), (16, 16), salt=(i,)).min() == 255


def test_channels_follow():
    image = random_image(2, 20, 30, 3)
    grey = cut(image, (9, 9), 1)
    np.testing.assert_array_equal(grey, transforms.to_channels(cut(image, (9, 9)), 1))
    np.testing.assert_array_equal(cut(image[..., :1], (9, 9)), np.repeat(cut(image[..., :1], (9, 9), 1), 3, axis=-1))


@pytest.mark.parametrize(("size", "halved"), [((160, 120), False), ((70, 50), True), ((12, 16), True)])
def test_large_jpegs_are_halved_as_they_are_decoded_and_look_the_same(size, halved, monkeypatch):
    down, across = np.mgrid[0:301, 0:403]
    smooth = np.stack([down * 0.8, across * 0.6, 128 + 100 * np.sin(down / 20)], axis=-1).astype(np.uint8)
    data = jpeg(smooth, quality=95, subsampling=0)
    sizes = []
    monkeypatch.setattr(
        transforms,
        "in_mode",
        lambda picture, channels, real=transforms.in_mode: sizes.append(picture.size) or real(picture, channels),
    )
    for i in range(10):
        exact = cut(transforms.decode(data, 3, "it"), size, salt=(i,), area=(0.5, 1.0))
        found = cut(stored(data), size, salt=(i,), area=(0.5, 1.0))
        # Another filter, so some levels apart where the picture curves (5 seen); a box elsewhere would be 50 apart.
        assert np.abs(exact.astype(int) - found).max() <= 8
    assert (min(sizes) < (403, 301)) == halved


@pytest.mark.parametrize("data", [b"", b"no image", jpeg(random_image(0, 40, 60, 3))[:900]])
def test_what_cannot_be_read_is_named(data):
    with pytest.raises(transforms.UnreadableImage, match="it is not a readable image, or is cut short"):
        cut(stored(data), (8, 8))


def test_a_file_that_is_gone_is_named(tmp_path):
    gone = Encoded((tmp_path / "gone.jpg").read_bytes, 3, "gone.jpg")
    with pytest.raises(transforms.UnreadableImage, match=r"gone.jpg cannot be read: No such file"):
        cut(gone, (8, 8))
