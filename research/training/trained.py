"""A run's network as its folder keeps it: no data set is needed to use it, and no weights that it started from."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from research import backend, models, storage
from research.config import Config
from research.data import transforms
from research.errors import UserError
from research.training import record, resolve
from research.training.checkpoint import Checkpoints

PyTree = Any


@dataclass(frozen=True)
class Trained:
    """A trained network and what it expects of images: of `shape` "h w c", less `mean` and over `std` (0 to 255)."""

    config: Config
    model: nn.Module
    variables: PyTree
    step: int
    shape: tuple[int, int, int]
    mean: Float[np.ndarray, " c"]
    std: Float[np.ndarray, " c"]
    class_names: tuple[str, ...]
    multi_label: bool
    crop_fraction: float
    interpolation: Literal["bilinear", "bicubic"]

    def fitted(self, file: str | Path) -> UInt8[np.ndarray, "h w c"]:
        """An image file as the network's images were made. Raises `UserError`: no such file, no image."""
        height, width, channels = self.shape
        image = transforms.decode(transforms.read_file(file), channels, str(file))
        if height == width and self.config.data.fit == "pad":
            return transforms.pad(image, height)
        if height == width:
            return transforms.resize(image, height, self.crop_fraction, self.interpolation)
        if image.shape[:2] != (height, width):
            raise UserError(f"{file} is {image.shape[0]}x{image.shape[1]}; expected {height}x{width}")
        return image

    def normalised(self, images: Array) -> Float[Array, "b h w c"]:
        """Images uint8 as the network sees them."""
        return transforms.normalise(images.astype(jnp.float32), jnp.asarray(self.mean), jnp.asarray(self.std))

    def logits(self, images: Array) -> Float[Array, "b k"]:
        """Class scores of images uint8 "b h w c"."""
        with resolve.matmul_precision(self.config):
            return cast(Array, self.model.apply(self.variables, self.normalised(images), train=False))

    def probabilities(self, images: Array) -> Float[Array, "b k"]:
        """Of one class per image (softmax), or of each class by itself (sigmoid) where images have several.

        The program that `export` writes, so that both give the same bits.
        """
        with backend.as_meant():
            logits = self.logits(images)
        return jax.nn.sigmoid(logits) if self.multi_label else jax.nn.softmax(logits)


def load(workdir: epath.PathLike, *, checkpoint: str = "best") -> Trained:
    """The network of a checkpoint (`best`, `last` or a step) of a run folder; averaged weights where the run kept them.

    Raises `UserError`: no run there, one of another task than classification, no such checkpoint, or a damaged one.
    """
    folder = storage.reach(workdir)
    cfg = record.config_of(folder)
    if cfg.task.name != "classification":
        raise UserError(
            f"{workdir} is a run of task {cfg.task.name!r}; expected one of classification, whose outputs are classes"
        )
    network, images = record.described(folder)
    with closing(Checkpoints(folder, cfg.checkpointing, read_only=True)) as checkpoints:
        at = checkpoints.find(checkpoint)
        variables = checkpoints.weights(at)
    model = resolve.headed(models.create(cfg.model.name, **network["fields"], **resolve.compute_type(cfg)), cfg)
    return Trained(
        config=cfg,
        model=model,
        variables={key: jax.tree.map(jnp.asarray, tree) for key, tree in variables.items() if tree},
        step=at,
        shape=tuple(images["shape"]),
        mean=np.array(images["mean"], np.float32),
        std=np.array(images["std"], np.float32),
        class_names=tuple(images["class_names"]),
        multi_label=images["multi_label"],
        crop_fraction=images["crop_fraction"],
        interpolation=images["interpolation"],
    )


@dataclass(frozen=True)
class Prediction:
    """What a network says of a file: (class name, probability), the likeliest first."""

    file: str
    classes: tuple[tuple[str, float], ...]


def predict(trained: Trained, files: Sequence[str], *, top: int = 5, batch_size: int = 32) -> list[Prediction]:
    """The `top` likeliest classes of each image file. Raises `UserError` before anything is compiled."""
    images = [trained.fitted(file) for file in files]
    forward = jax.jit(trained.probabilities)
    found = []
    for start in range(0, len(images), batch_size):
        batch = np.stack(images[start : start + batch_size])
        padded = np.concatenate(
            [batch, np.zeros((min(batch_size, len(images)) - len(batch), *trained.shape), np.uint8)]
        )
        found += list(np.asarray(forward(padded))[: len(batch)])
    count = min(top, len(trained.class_names))
    return [
        Prediction(file, tuple((trained.class_names[k], float(p[k])) for k in np.argsort(-p, kind="stable")[:count]))
        for file, p in zip(files, found, strict=True)
    ]
