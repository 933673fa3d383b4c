"""From a `DataConfig` to batches: in which order examples come, and how the compiled step gets at them.

`Pipeline` is the interface. `Resident` keeps the whole set on every device and gathers inside the step; `Streaming`
(`research.data.streaming`) reads each batch when it is due. Both take the same examples in the same order, and what is
drawn for an example depends on (seed, epoch, index) alone.

Step s of a run takes examples s x batch to (s + 1) x batch of an endless sequence: a permutation of the training split,
fixed by (seed, epoch), after the other. So each epoch has each example once, whatever the batch size, and a host among
several takes its rows of each batch: neither the number of hosts nor of devices changes what is learned from.
"""

import dataclasses
import functools
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from research.config import AugmentationConfig, DataConfig
from research.data import augmentations, examples, splits, transforms
from research.data.examples import DatasetInfo
from research.data.stored import Split

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
    def resident(self) -> dict[str, Any]:
        """NumPy arrays that every device needs: the first argument of `fetch`."""

    @property
    def feed_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of a feed of training; one of evaluation differs in its leading axis alone."""

    def train(self, start_step: int) -> Generator[Feed, None, None]:
        """Endless feeds, this host's rows of each batch, from step `start_step` on: the tail of those from step 0."""

    def evaluate(self, split: Split, batch_size: int) -> Generator[Feed, None, None]:
        """Feeds with every example of the split exactly once, in order; the last is padded with mask 0."""

    def fetch(self, resident: dict[str, Any], feed: Any, *, split: Split, augment: bool) -> Batch:
        """The batch of a feed; pure, to be traced inside the compiled step."""


@dataclass(frozen=True)
class Host:
    """Which of the processes that train together this is; each feeds an equal share of every batch.

    Of a training batch that is gone through in `parts`, it feeds a share of each part.
    """

    index: int = 0
    count: int = 1
    parts: int = 1

    def rows(self, batch_size: int, parts: int = 1) -> np.ndarray:
        """This host's places in a batch, int [rows]."""
        return np.arange(batch_size).reshape(parts, self.count, -1)[:, self.index].reshape(-1)


@functools.lru_cache(maxsize=3)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return splits.order(count, seed, epoch)


def training_rows(cfg: DataConfig, count: int, seed: int, step: int, host: Host) -> Feed:
    """Index and epoch, int32 [rows], of the examples that this host feeds at a step; `count` training examples."""
    places = step * cfg.batch_size + host.rows(cfg.batch_size, host.parts)
    epochs, within = np.divmod(places, count)
    if cfg.shuffle:
        within = np.concatenate([_order(count, seed, int(e))[within[epochs == e]] for e in np.unique(epochs)])
    return {"index": within.astype(np.int32), "epoch": epochs.astype(np.int32)}


def evaluation_rows(count: int, batch_size: int, number: int, host: Host) -> Feed:
    """Index, epoch and mask [rows] of this host's part of evaluation batch `number`; padding is example 0, mask 0."""
    places = (number * batch_size + host.rows(batch_size)).astype(np.int32)
    real = places < count
    return {
        "index": np.where(real, places, 0),
        "epoch": np.zeros(len(places), np.int32),
        "mask": real.astype(np.float32),
    }


def as_batch(
    cfg: AugmentationConfig | None,
    num_classes: int,
    resident: dict[str, Any],
    images: jax.Array,
    labels: jax.Array,
    feed: Any,
) -> Batch:
    """A batch from its uint8 images, labels and feed: augmented as `cfg` says (None: not), normalised, mixed.

    What is drawn for an example is fixed by (seed, epoch, index); only mixing looks at another example, its neighbour.
    Where the mask is 0 the image is the mean colour, so that batch statistics hardly see what is no example.
    """
    mean, std = jnp.asarray(resident["mean"]), jnp.asarray(resident["std"])
    mask = jnp.asarray(feed["mask"])
    images = jnp.where(mask[:, None, None, None] > 0, images.astype(jnp.float32), mean[None, None, None])
    if cfg is None:
        images = transforms.normalise(images, mean, std)
    else:
        seed = jax.random.wrap_key_data(jnp.asarray(resident["seed"]), impl="threefry2x32")
        of_epoch = jax.vmap(jax.random.fold_in, (None, 0))(seed, jnp.asarray(feed["epoch"]))
        keys = jax.vmap(jax.random.fold_in)(of_epoch, jnp.asarray(feed["index"]))
        images = jax.vmap(functools.partial(augmentations.example, cfg), (0, 0, None, None))(keys, images, mean, std)
        images, labels = augmentations.mix(cfg, keys, images, labels, mask, num_classes)
    return {"image": images, "label": labels, "mask": mask, "index": jnp.asarray(feed["index"])}


def row_shapes(cfg: DataConfig, host: Host) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of what every feed of training says of its examples: index, epoch and mask."""
    kinds = {"index": np.int32, "epoch": np.int32, "mask": np.float32}
    return {key: jax.ShapeDtypeStruct((cfg.batch_size // host.count,), kind) for key, kind in kinds.items()}


def seed_words(seed: int) -> np.ndarray:
    """The seed as the two words of a threefry key: a value to the compiled step, so another seed compiles nothing."""
    return np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)


@dataclass(frozen=True)
class Resident:
    """The whole data set on device, gathered and augmented inside the compiled step.

    `resident` holds {"train": {"image", "label"}, "eval": {"image", "label"}, "mean", "std", "seed"}: images uint8,
    mean and std of the training images per channel (0..255). All are values to the compiled step: other data of the
    same size compile nothing. `sound`: split -> float32 [n], 0 for an image that could not be read.
    """

    config: DataConfig
    augmentation: AugmentationConfig
    info: DatasetInfo
    seed: int
    host: Host
    resident: dict[str, Any] = dataclasses.field(repr=False, compare=False)
    sound: dict[str, np.ndarray] = dataclasses.field(repr=False, compare=False)

    @property
    def feed_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Which examples, and whether they count."""
        return row_shapes(self.config, self.host)

    def of_run(self, config: DataConfig, augmentation: AugmentationConfig, seed: int) -> "Resident":
        """The same examples for a run with another batch, augmentation or seed: they are neither read nor copied."""
        resident = {**self.resident, "seed": seed_words(seed)}
        return dataclasses.replace(self, config=config, augmentation=augmentation, seed=seed, resident=resident)

    def train(self, start_step: int) -> Generator[Feed, None, None]:
        """Endless feeds from `start_step` on."""
        step = start_step
        while True:
            rows = training_rows(self.config, self.info.train_examples, self.seed, step, self.host)
            yield {**rows, "mask": self.sound["train"][rows["index"]]}
            step += 1

    def evaluate(self, split: Split, batch_size: int) -> Generator[Feed, None, None]:
        """Every example of the split once, in order; padding repeats example 0 with mask 0."""
        count = len(self.sound[split])
        for number in range(-(-count // batch_size)):
            rows = evaluation_rows(count, batch_size, number, self.host)
            yield {**rows, "mask": rows["mask"] * self.sound[split][rows["index"]]}

    def fetch(self, resident: dict[str, Any], feed: Any, *, split: Split, augment: bool) -> Batch:
        """Gather the feed's examples and make them a batch (`as_batch`)."""
        index = jnp.asarray(feed["index"])
        images, labels = (jnp.take(jnp.asarray(resident[split][k]), index, 0, mode="clip") for k in ("image", "label"))
        return as_batch(self.augmentation if augment else None, self.info.num_classes, resident, images, labels, feed)


def resident(cfg: DataConfig, augmentation: AugmentationConfig, *, seed: int, host: Host) -> Resident:
    """Load `cfg`'s data into memory. Raises `UserError`: what `info` does, a damaged image, or no room."""
    described = examples.info(cfg)
    examples.check_memory(described)
    loaded = {split: _load(part, described) for split, part in examples.parts(cfg, described).items()}
    arrays: dict[str, Any] = {split: {"image": i, "label": labels} for split, (i, labels, _) in loaded.items()}
    sound: dict[str, np.ndarray] = {split: kept for split, (_, _, kept) in loaded.items()}
    chosen = examples.spaced(described)
    chosen = chosen[sound["train"][chosen] > 0]
    images = arrays["train"]["image"]
    constants = examples.normalisation(cfg, described, [images if len(chosen) == len(images) else images[chosen]])
    return Resident(cfg, augmentation, described, seed, host, {**arrays, **constants, "seed": seed_words(seed)}, sound)


def constant_shapes(info: DatasetInfo) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of what every pipeline keeps on the devices: mean and deviation per channel, and the seed."""
    channels = jax.ShapeDtypeStruct(info.shape[-1:], np.float32)
    return {"mean": channels, "std": channels, "seed": jax.ShapeDtypeStruct((2,), np.uint32)}


def label_shape(info: DatasetInfo, count: int) -> jax.ShapeDtypeStruct:
    """The shape of the labels of `count` examples: a class each, or a row of numbers."""
    if info.labels == "class" and not info.multi_label:
        return jax.ShapeDtypeStruct((count,), np.int32)
    numbers = {"class": info.num_classes, "object": 5 + info.num_classes, "landmarks": 2 * info.num_classes}
    return jax.ShapeDtypeStruct((count, numbers[info.labels]), np.float32)


def resident_shapes(cfg: DataConfig, augmentation: AugmentationConfig, info: DatasetInfo) -> Resident:
    """`resident` with the shapes of its arrays and no example: to be traced, not to be fed from."""
    arrays: dict[str, Any] = {
        split: {"image": jax.ShapeDtypeStruct((count, *info.shape), np.uint8), "label": label_shape(info, count)}
        for split, count in (("train", info.train_examples), ("eval", info.eval_examples))
    }
    return Resident(cfg, augmentation, info, 0, Host(), {**arrays, **constant_shapes(info)}, {})


def _load(part: examples.Part, info: DatasetInfo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 [n h w c], labels [n] or [n k], and which are sound, float32 [n], of one split."""
    array, found, start = np.empty((len(part), *info.shape), np.uint8), [], 0
    for images, labels, sound in examples.everything(part, np.arange(len(part)), info):
        array[start : start + len(images)] = images
        start += len(images)
        found.append((labels, sound))
    return array, np.concatenate([labels for labels, _ in found]), np.concatenate([sound for _, sound in found])
