"""Examples read from their files when they are due, in the order of `research.data.pipeline`, by way of Grain.

Feed number n is a pure function of n (`Feeds`), so a run goes on at any step without reading what it skips, and threads
and processes only decide who makes a feed: no bit of it, nor their order.
"""

import dataclasses
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.config import AugmentationConfig, DataConfig
from research.data import crops, examples
from research.data.examples import DatasetInfo, Part
from research.data.pipeline import (
    Batch,
    Feed,
    Host,
    as_batch,
    constant_shapes,
    evaluation_rows,
    label_shape,
    row_shapes,
    seed_words,
    training_rows,
)
from research.data.sources import source
from research.data.stored import Encoded, Split
from research.errors import RunFailed

_AHEAD = 2  # feeds made before they are due, where this process makes them


@dataclass(frozen=True)
class Feeds:
    """The feeds of a split, by number: endless in training, each example once otherwise.

    Pickles small: it holds no image, and a copy opens the files again. To Grain it is always endless, empty after the
    last: where an iterator of Grain's ends, it leaves its last elements in shared memory.
    """

    part: Part
    info: DatasetInfo
    seed: int
    host: Host
    batch_size: int
    training: bool
    crop: AugmentationConfig | None = None  # cut random boxes as it says
    threads: int = 1  # that decode one feed

    @property
    def count(self) -> int:
        """How many there are."""
        return sys.maxsize if self.training else -(-len(self.part) // self.batch_size)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, number: int) -> Feed:
        """{"image" uint8 [b h w c], "label", "index", "epoch", "mask"}: this host's rows of a batch."""
        if number >= self.count:
            return {}
        if self.training:
            rows = training_rows(self.part.config, len(self.part), self.seed, number, self.host)
            mask = np.ones(len(rows["index"]), np.float32)
        else:
            rows = evaluation_rows(len(self.part), self.batch_size, number, self.host)
            mask = rows["mask"]
        make = functools.partial(self._crop, self.crop, rows) if self.crop else None
        images, labels, sound = examples.arrays(self.part, rows["index"], self.info, make, threads=self.threads)
        return {**rows, "mask": mask * sound, "image": images, "label": labels}

    def _crop(self, how: AugmentationConfig, rows: Feed, place: int, image: np.ndarray | Encoded) -> np.ndarray:
        return crops.random_resized_crop(
            image,
            size=self.info.shape[:2],
            channels=self.info.shape[2],
            area=how.crop_area,
            ratio=how.crop_ratio,
            salt=(self.seed, int(rows["epoch"][place]), int(rows["index"][place])),
        )


@dataclass(frozen=True)
class Streaming:
    """Feeds carry the images themselves. `resident` holds {"mean", "std", "seed"} alone."""

    config: DataConfig
    augmentation: AugmentationConfig  # what is left to do inside the step
    info: DatasetInfo
    seed: int
    host: Host
    resident: dict[str, Any] = dataclasses.field(repr=False, compare=False)
    parts: dict[Split, Part] = dataclasses.field(repr=False, compare=False)
    crop: AugmentationConfig | None = None  # host crops of training images

    @property
    def feed_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Which examples, whether they count, and the examples themselves."""
        rows = row_shapes(self.config, self.host)
        (count,) = rows["mask"].shape
        image = jax.ShapeDtypeStruct((count, *self.info.shape), np.uint8)
        return {**rows, "image": image, "label": label_shape(self.info, count)}

    def train(self, start_step: int) -> Generator[Feed, None, None]:
        """Endless feeds from `start_step` on."""
        size = self.config.batch_size
        feeds = Feeds(self.parts["train"], self.info, self.seed, self.host, size, training=True, crop=self.crop)
        return _stream(feeds, start_step, self.config.workers)

    def evaluate(self, split: Split, batch_size: int) -> Generator[Feed, None, None]:
        """Every example of the split once, in order, as they are; padding repeats example 0 with mask 0."""
        feeds = Feeds(self.parts[split], self.info, self.seed, self.host, batch_size, training=False)
        return _stream(feeds, 0, self.config.workers)

    def fetch(self, resident: dict[str, Any], feed: Any, *, split: Split, augment: bool) -> Batch:
        """The feed's images as a batch (`as_batch`)."""
        images, labels = jnp.asarray(feed["image"]), jnp.asarray(feed["label"])
        return as_batch(self.augmentation if augment else None, self.info.num_classes, resident, images, labels, feed)


def streaming(cfg: DataConfig, augmentation: AugmentationConfig, *, seed: int, host: Host) -> Streaming:
    """A pipeline over `cfg`'s files. Raises `UserError` as `info`, and where an image that it measures is damaged."""
    described = examples.info(cfg)
    parts = examples.parts(cfg, described)
    measured = (
        images if sound.all() else images[sound > 0]
        for images, _, sound in examples.everything(parts["train"], examples.spaced(described), described)
    )
    constants = examples.normalisation(cfg, described, measured)
    crop, augmentation = _host_crop(augmentation, uniform=source(cfg).describe(cfg).uniform)
    resident = {**constants, "seed": seed_words(seed)}
    return Streaming(cfg, augmentation, described, seed, host, resident, parts, crop)


def streaming_shapes(
    cfg: DataConfig, augmentation: AugmentationConfig, info: DatasetInfo, *, uniform: bool
) -> Streaming:
    """`streaming` with the shapes of its arrays and no file: to be traced, not to be fed from."""
    crop, augmentation = _host_crop(augmentation, uniform=uniform)
    return Streaming(cfg, augmentation, info, 0, Host(), constant_shapes(info), {}, crop)


def _host_crop(
    augmentation: AugmentationConfig, *, uniform: bool
) -> tuple[AugmentationConfig | None, AugmentationConfig]:
    """What is cut on the host (None: nothing), and what is left to do inside the step."""
    if uniform or not augmentation.random_resized_crop:
        return None, augmentation
    return augmentation, dataclasses.replace(augmentation, random_resized_crop=False)


def _stream(feeds: Feeds, start: int, workers: int) -> Generator[Feed, None, None]:
    """Feeds from number `start` on, made ahead by a thread, or by `workers` processes that end with the iterator.

    The first is made by the caller itself, on all cores: looking at one feed, as to learn its shapes, costs no more.
    Raises what making a feed raises, wherever it is made, and `RunFailed` where a process ended unasked.
    """
    feeds = dataclasses.replace(feeds, threads=examples.cores())
    if start < feeds.count:
        yield feeds[start]
    if start + 1 >= feeds.count:
        return
    import grain  # a second, which a run with its images in memory need not wait
    from absl import flags

    if workers:
        flags.FLAGS.mark_as_parsed()  # Grain hands its flags to its processes
        feeds = dataclasses.replace(feeds, threads=1)
    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1 if workers else _AHEAD)
    dataset = grain.MapDataset.source(feeds)[start + 1 :].to_iter_dataset(ahead)
    if workers:
        many = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        dataset = dataset.mp_prefetch(many, _end_with_parent)
    iterator = iter(dataset)
    try:
        for _ in range(start + 1, feeds.count):
            feed = next(iterator)
            if workers:  # out of the memory shared with them, which is scarce in a container: given back at once
                feed = {key: np.array(value) for key, value in feed.items()}
            yield feed
    except RuntimeError as error:
        if "Worker process was terminated" not in str(error):
            raise
        raise RunFailed(
            f"a process that reads data ended: {error} (-9 is a lack of memory, -7 of shared memory in /dev/shm); "
            "data.workers=0 reads without"
        ) from error
    finally:
        iterator.close()


def _end_with_parent(index: int, count: int) -> None:
    """What a worker process does first: a signal for all is the parent's to answer, and with the parent it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
