"""Examples read from their files when they are due, in the order of `research.data.pipeline`."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from research.config import AugmentationConfig, DataConfig
from research.data import examples
from research.data.examples import DatasetInfo, Part
from research.data.pipeline import Batch, Feed, Host, as_batch, evaluation_rows, seed_words, training_rows
from research.data.stored import Split


@dataclass(frozen=True)
class Streaming:
    """Feeds carry the images themselves: {"image" uint8 [b h w c], "label", "index", "epoch", "mask"}."""

    config: DataConfig
    augmentation: AugmentationConfig
    info: DatasetInfo
    seed: int
    host: Host
    resident: dict[str, Any] = dataclasses.field(repr=False, compare=False)
    parts: dict[Split, Part] = dataclasses.field(repr=False, compare=False)

    def train(self, start_step: int) -> Iterator[Feed]:
        """Endless feeds from `start_step` on."""
        step = start_step
        while True:
            rows = training_rows(self.config, self.info.train_examples, self.seed, step, self.host)
            yield self._read("train", {**rows, "mask": np.ones(len(rows["index"]), np.float32)})
            step += 1

    def evaluate(self, split: Split, batch_size: int) -> Iterator[Feed]:
        """Every example of the split once, in order."""
        count = len(self.parts[split])
        for number in range(-(-count // batch_size)):
            yield self._read(split, evaluation_rows(count, batch_size, number, self.host))

    def _read(self, split: Split, feed: Feed) -> Feed:
        images, labels = self.parts[split].read(feed["index"])
        pixels = [examples.fitted(examples.pixels(image), self.config, self.info) for image in images]
        return {**feed, "image": np.stack(pixels), "label": labels}

    def fetch(self, resident: dict[str, Any], feed: Any, *, split: Split, augment: bool) -> Batch:
        """The feed's images as a batch (`as_batch`)."""
        images, labels = jnp.asarray(feed["image"]), jnp.asarray(feed["label"])
        return as_batch(self.augmentation if augment else None, self.info.num_classes, resident, images, labels, feed)


def streaming(cfg: DataConfig, augmentation: AugmentationConfig, *, seed: int, host: Host) -> Streaming:
    """A pipeline over `cfg`'s files. Raises `UserError` as `info`."""
    described = examples.info(cfg)
    parts = examples.parts(cfg, described)
    measured = (
        examples.fitted(examples.pixels(image), cfg, described)[None]
        for i in examples.spaced(described)
        for image in parts["train"].read(np.array([i]))[0]
    )
    constants = examples.normalisation(cfg, described, measured)
    return Streaming(cfg, augmentation, described, seed, host, {**constants, "seed": seed_words(seed)}, parts)
