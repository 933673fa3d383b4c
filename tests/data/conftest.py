"""Every row of the data sets, present: TFDS rows as tiny sets with the real features, prepared without TensorFlow."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from research import data
from research.config import DataConfig
from research.data import placed

PLACED = ("fashion_objects", "figures")  # made at each load, a thousand pictures a second
TRAIN, EVAL = 45, 20  # examples of the tiny sets; 45 is no multiple of 10 classes


def encode(image: np.ndarray) -> io.BytesIO:
    """The image as a file: TFDS needs TensorFlow only to encode arrays."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    file.seek(0)
    return file


def random_image(seed: int, height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def _value(feature: Any, seed: int) -> Any:
    if isinstance(feature, tfds.features.Image):
        height, width = feature.shape[0] or 12 + seed % 3, feature.shape[1] or 15
        return encode(random_image(seed, height, width, feature.shape[2]))
    if isinstance(feature, tfds.features.ClassLabel):
        return seed % feature.num_classes
    assert isinstance(feature, tfds.features.Text), feature
    return f"example {seed}"


def examples(features: Any, seeds: range) -> Iterator[dict[str, Any]]:
    for seed in seeds:
        yield {key: _value(feature, seed) for key, feature in features.items()}


class ListBuilder(tfds.dataset_builders.AdhocBuilder, skip_registration=True):
    """The parent looks at its examples' type by way of TensorFlow; these are lists."""

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: iter(enumerate(made)) for split, made in self._split_datasets.items()}


def store(name: str, features: Any, splits: dict[str, list[dict[str, Any]]], folder: Path, **fields: Any) -> Path:
    """Prepare a set with these examples in `folder`, as array_record."""
    fields = {"version": "1.0.0", "file_format": "array_record", "data_dir": folder} | fields
    builder = ListBuilder(name=name, features=tfds.features.FeaturesDict(features), split_datasets=splits, **fields)
    builder.download_and_prepare()
    return folder


def write_folder(root: Path, sizes: dict[str, int], classes: tuple[str, ...] = ("cat", "dog", "emu")) -> Path:
    """An image folder: split -> images per class, PNG and JPEG, 10x14 RGB, the class's channel the brightest."""
    for split, count in sizes.items():
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = random_image(label * 100 + i, 10, 14, 3) // 4
                image[..., label] += 128
                suffix = "png" if i % 2 else "jpg"
                Image.fromarray(image).save(root / split / name / f"{i}.{suffix}", quality=95)
    return root


def _prepare_row(name: str, folder: Path) -> DataConfig:
    builder = tfds.builder(name, data_dir=folder)
    splits = {"train": range(TRAIN), "test": range(TRAIN, TRAIN + EVAL)}
    if name == "imagenet2012":
        splits = {"train": splits["train"], "validation": splits["test"], "test": range(3)}
    made = {split: list(examples(builder.info.features, seeds)) for split, seeds in splits.items()}
    store(name, dict(builder.info.features), made, folder, version=builder.version)
    varying = builder.info.features["image"].shape[0] is None
    return DataConfig(name=name, path=str(folder), resolution=8 if varying else None)


def rows() -> list[Any]:
    """Every row by discovery; two need a Debian package."""
    return [pytest.param(n, marks=pytest.mark.debian if n.startswith("fashion") else ()) for n in data.names()]


@pytest.fixture(scope="session")
def config_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function: row name -> a config with which its data are there."""
    made: dict[str, DataConfig] = {}

    def config(name: str) -> DataConfig:
        if name not in made:
            if name == "image_folder":
                root = write_folder(tmp_path_factory.mktemp("folder"), {"train": 9, "test": 4})
                made[name] = DataConfig(name=name, path=str(root))
            elif name in (*PLACED, "digits", "orl_faces", "synthetic", "fashion_mnist"):
                made[name] = DataConfig(name=name)
            else:
                made[name] = _prepare_row(name, tmp_path_factory.mktemp("tfds"))
        return made[name]

    return config


@pytest.fixture(scope="module")
def few() -> Iterator[None]:
    """Fewer pictures than users get are placed: each law loads a row several times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placed, "COUNTS", {"train": 200, "eval": 50})
        yield


@pytest.fixture(scope="module", params=rows())
def row(request: pytest.FixtureRequest, config_of: Any, few: None) -> DataConfig:
    return config_of(request.param)


@pytest.fixture(scope="module")
def loaded(row: DataConfig) -> data.Pipeline:
    """The row in memory, with a batch size that divides some training sets (45 examples) and not others (1,438)."""
    return data.pipeline(dataclasses.replace(row, batch_size=9), seed=3)
