"""From a `DataConfig` to batches: in which order examples come, and how the compiled step gets at them.

`Pipeline` is the interface; `Resident` keeps the whole set on every device and gathers inside the step.
"""

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from research.config import DataConfig
from research.data import splits, transforms
from research.data.examples import DatasetInfo, check_memory, info, load, statistics
from research.data.stored import Split
from research.errors import UserError

Feed = dict[str, np.ndarray]  # leading axis: the batch
Batch = dict[
    str, jax.Array
]  # image float32 "b h w c", label int32 "b" or float32 "b k", mask float32 "b", index int32 "b"


@runtime_checkable
class Pipeline(Protocol):
    """Examples for training and evaluation; deterministic in (seed, epoch, index)."""

    @property
    def info(self) -> DatasetInfo:
        """The data as the model sees it."""

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training split; the rest of an epoch is dropped, another rest in each epoch."""

    @property
    def resident(self) -> dict[str, Any]:
        """NumPy arrays that every device needs: the first argument of `fetch`."""

    def train(self, start_step: int) -> Iterator[Feed]:
        """Endless feeds of `batch_size` examples from step `start_step` on: the tail of those from step 0."""

    def evaluate(self, split: Split, batch_size: int) -> Iterator[Feed]:
        """Feeds with every example of the split exactly once, in order; the last is padded with mask 0."""

    def fetch(self, resident: dict[str, Any], feed: Any, *, split: Split, augment: bool) -> Batch:
        """The batch of a feed; pure, to be traced inside the compiled step."""


@dataclass(frozen=True)
class Resident:
    """The whole data set on device, gathered and augmented inside the compiled step.

    `resident` holds {"train": {"image", "label"}, "eval": {"image", "label"}, "mean", "std", "seed"}: images uint8,
    mean and std of the training images per channel (0..255), the seed as the two words of a threefry key. All are
    values to the compiled step: another seed, or other data of the same size, compiles nothing.
    """

    config: DataConfig
    info: DatasetInfo
    seed: int
    resident: dict[str, Any] = dataclasses.field(repr=False, compare=False)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training split."""
        return self.info.train_examples // self.config.batch_size

    def _order(self, epoch: int) -> np.ndarray:
        count = self.info.train_examples
        return splits.order(count, self.seed, epoch) if self.config.shuffle else np.arange(count)

    def train(self, start_step: int) -> Iterator[Feed]:
        """Endless feeds from `start_step` on; each epoch has its own order, fixed by (seed, epoch)."""
        size = self.config.batch_size
        epoch, first = divmod(start_step, self.steps_per_epoch)
        while True:
            order = self._order(epoch).astype(np.int32)
            for step in range(first, self.steps_per_epoch):
                index = order[step * size : (step + 1) * size]
                yield {"index": index, "epoch": np.full(size, epoch, np.int32), "mask": np.ones(size, np.float32)}
            epoch, first = epoch + 1, 0

    def evaluate(self, split: Split, batch_size: int) -> Iterator[Feed]:
        """Every example of the split once, in order; padding repeats example 0 with mask 0."""
        count = self.info.train_examples if split == "train" else self.info.eval_examples
        for start in range(0, count, batch_size):
            index = np.arange(start, start + batch_size, dtype=np.int32)
            real = index < count
            yield {
                "index": np.where(real, index, 0),
                "epoch": np.zeros(batch_size, np.int32),
                "mask": real.astype(np.float32),
            }

    def fetch(self, resident: dict[str, Any], feed: Any, *, split: Split, augment: bool) -> Batch:
        """Gather, cast, normalise and, with `augment`, flip and crop each example by its own (seed, epoch, index).

        Padding of the crop is 0 after normalisation, the mean colour. Nothing depends on the rest of the batch.
        """
        index = jnp.asarray(feed["index"])
        part = resident[split]
        images = jnp.take(jnp.asarray(part["image"]), index, axis=0, mode="clip").astype(jnp.float32)
        images = transforms.normalise(images, jnp.asarray(resident["mean"]), jnp.asarray(resident["std"]))
        if augment and (self.config.flip or self.config.pad_and_crop):
            images = jax.vmap(functools.partial(self._augment, resident["seed"]))(images, index, feed["epoch"])
        labels = jnp.take(jnp.asarray(part["label"]), index, axis=0, mode="clip")
        return {"image": images, "label": labels, "mask": jnp.asarray(feed["mask"]), "index": index}

    def _augment(self, seed: jax.Array, image: jax.Array, index: jax.Array, epoch: jax.Array) -> jax.Array:
        key = jax.random.wrap_key_data(jnp.asarray(seed), impl="threefry2x32")
        key = jax.random.fold_in(jax.random.fold_in(key, epoch), index)
        if self.config.flip:
            image = transforms.random_flip(jax.random.fold_in(key, 0), image)
        if self.config.pad_and_crop:
            image = transforms.pad_and_crop(jax.random.fold_in(key, 1), image, self.config.pad_and_crop)
        return image


def resident(cfg: DataConfig, *, seed: int) -> Resident:
    """Load `cfg`'s data into memory. Raises `UserError`: what `info` does, a batch larger than the data, or no room."""
    described = info(cfg)
    if cfg.batch_size > described.train_examples:
        raise UserError(
            f"data.batch_size is {cfg.batch_size}, more than the {described.train_examples} training examples of "
            f"{cfg.name}; expected at most that"
        )
    check_memory(described)
    parts = load(cfg, described)
    mean, std = statistics(parts["train"]["image"])
    words = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)
    return Resident(cfg, described, seed, {**parts, "mean": mean, "std": std, "seed": words})
