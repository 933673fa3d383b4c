"""What is placed on photographs: where it is said to be is where it is, and training and evaluation share no pixels."""

import numpy as np
import pytest

from research import data
from research.config import AugmentationConfig, Config, DataConfig, TaskConfig
from research.data import augmentations, placed
from research.data.sources import source
from research.errors import UserError
from research.training import resolve

FIGURES, OBJECTS = DataConfig("figures"), DataConfig("fashion_objects")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed, "COUNTS", {"train": 60, "eval": 40})


def _thing() -> np.ndarray:
    """A bright bar on black, not in the middle."""
    thing = np.zeros((1, 28, 28), np.uint8)
    thing[0, 4:20, 10:16] = 255
    return thing.repeat(200, axis=0)


def test_boxes_hold_the_pixels_of_their_object_exactly(few: None) -> None:
    classes = np.arange(200) % 3
    images, rows, kinds = placed.objects(_thing(), classes, 3, "eval", 40)
    assert images.shape == (40, placed.SIDE, placed.SIDE, 3)
    there = rows[:, 0] == 1
    assert 0 < there.sum() < 40
    assert not rows[~there].any()
    np.testing.assert_array_equal(rows[there, 5:].argmax(-1), kinds[there])
    for row in rows[there]:
        x, y, h, w = row[1], row[2], row[3], row[4]
        edges = np.asarray([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * placed.SIDE
        np.testing.assert_allclose(edges, edges.round(), atol=1e-4)  # whole pixels
        assert edges.min() > -1e-4
        assert edges.max() < placed.SIDE + 1e-4
        # The bar is 6 of 28 wide and 16 of 28 high, of a thing that is 22 to 44 pixels on each side.
        assert 6 / 28 * 22 - 2 <= w * placed.SIDE <= 6 / 28 * 44 + 3
        assert 16 / 28 * 22 - 2 <= h * placed.SIDE <= 16 / 28 * 44 + 3


def test_the_same_words_make_the_same_pictures_and_splits_differ(few: None) -> None:
    first = placed.figures("eval", placed.COUNTS["eval"])
    for one, other in zip(first, placed.figures("eval", placed.COUNTS["eval"]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0][:40], placed.figures("train", placed.COUNTS["train"])[0][:40])


def test_points_are_on_what_they_name(few: None) -> None:
    images, rows = placed.figures("eval", placed.COUNTS["eval"])
    points = rows.reshape(40, len(placed.POINTS), 2)
    assert points.min() > 0
    assert points.max() < 1
    # The middle of an eye is dark, and around it is white: of each eye, pixels within its reach differ by much.
    for image, marked in zip(images.astype(int), points, strict=True):
        for x, y in marked[:2] * placed.SIDE:
            near = image[max(int(y) - 3, 0) : int(y) + 4, max(int(x) - 3, 0) : int(x) + 4].mean(-1)
            assert near.max() - near.min() > 50


def test_labels_have_the_shapes_that_are_announced() -> None:
    info = data.info(FIGURES)
    assert (info.labels, info.num_classes, info.shape) == ("landmarks", 5, (placed.SIDE, placed.SIDE, 3))
    assert data.label_shape(info, 7).shape == (7, 10)


@pytest.mark.debian
def test_objects_have_rows_of_presence_box_and_class() -> None:
    info = data.info(OBJECTS)
    assert data.label_shape(info, 7).shape == (7, 15)
    _, rows = source(OBJECTS).read(OBJECTS, "eval").read(np.arange(5))
    assert rows.shape == (5, 15)


@pytest.mark.parametrize("name", ["flip", "pad_and_crop", "mixup"])
def test_what_moves_pixels_and_not_labels_is_refused(name: str) -> None:
    cfg = AugmentationConfig(**{name: True if name == "flip" else 1})
    with pytest.raises(UserError, match=f"augmentation.{name} moves what the labels place"):
        augmentations.check(cfg, (48, 48, 3), places=True)
    augmentations.check(cfg, (48, 48, 3))


def test_what_does_not_fit_is_refused_before_anything_compiles() -> None:
    task = TaskConfig("landmarks", "landmark_mse")
    with pytest.raises(UserError, match="task 'classification' does not fit data 'figures', which has landmarks"):
        resolve.resolve(Config(data=FIGURES))
    with pytest.raises(UserError, match=r"data\.fit and data\.crop_fraction move what the labels of figures place"):
        resolve.resolve(Config(data=DataConfig("figures", resolution=64, crop_fraction=0.9), task=task))
    places = TaskConfig("landmarks", "landmark_mse", pool="places")
    with pytest.raises(UserError, match=r"task\.pool is 'places', and model lenet5 has no field pool"):
        resolve.resolve(Config(data=DataConfig("figures", resolution=32, channels=1), task=places))
