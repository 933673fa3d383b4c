"""Transfer: start from weights made elsewhere, keep some of them as they are, train the rest.

Weights bring what belongs to them: the fields with which the network computes what the original did, and how images
must be prepared. The head is new where it has other classes. Frozen modules run as in evaluation, so that neither
dropout nor, by default, batch statistics move in them, and no gradient is computed for them.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research import models, paths, pretrained, storage
from research.config import Config, DataConfig, TransferConfig
from research.errors import UserError, unknown
from research.pretrained import HEAD, files
from research.training import record
from research.training.checkpoint import Checkpoints
from research.training.step import Frozen

PyTree = Any
# Examples below which only the head is trained, and below which only the last half of the stages is too.
FEW, SOME = 10_000, 100_000


def weights_of(cfg: Config) -> pretrained.Weights | None:
    """The weights that `cfg` starts from; None: a random start. Read once. Raises `UserError`."""
    if cfg.transfer.weights is None:
        return None
    place = _place(cfg.transfer.weights)
    return _read(cfg.model.name, place, cfg.transfer.source, place.stat().st_mtime_ns)


def _place(text: str) -> Path:
    if storage.is_remote(text):
        raise UserError(f"transfer.weights is {text!r}; expected a file or a run's folder of this machine")
    place = pretrained.locate(text)
    if not text or not paths.answer(place.exists):
        raise UserError(f"transfer.weights is {text!r}, which does not exist; expected a file or a run's folder")
    return place


@functools.lru_cache(maxsize=2)
def _read(variant: str, place: Path, source: str | None, modified: int) -> pretrained.Weights:
    return _of_run(variant, place) if place.is_dir() else pretrained.load(variant, place, source=source, head=None)


def _of_run(variant: str, folder: Path) -> pretrained.Weights:
    """The best checkpoint's weights of a run of ours. Raises `UserError`: no run there, or one of another network."""
    cfg = record.config_of(folder)
    if cfg.model.name != variant:
        raise UserError(f"transfer.weights {str(folder)!r} is a run of {cfg.model.name}; expected one of {variant}")
    network, images = record.described(folder)
    with closing(_checkpoints(cfg, folder)) as checkpoints:
        variables = checkpoints.weights(checkpoints.find("best"))
    return pretrained.Weights(
        variant=variant,
        source=str(folder),
        variables=variables,
        fields={key: value for key, value in network["fields"].items() if key != "num_classes"},
        preprocessing=pretrained.Preprocessing(
            size=images["shape"][0],
            crop_fraction=images["crop_fraction"],
            interpolation=images["interpolation"],
            mean=tuple(images["mean"]),
            std=tuple(images["std"]),
        ),
        num_classes=network["fields"]["num_classes"],
    )


def _checkpoints(cfg: Config, folder: Path) -> Checkpoints:
    return Checkpoints(folder, cfg.checkpointing, read_only=True)


def weights_digest(cfg: Config) -> str | None:
    """sha256 (hex) of what `cfg` starts from, and of what it says of images; None for a random start.

    Of a file it is the file's; of a run's folder, that of the weights that would be taken. Raises `UserError`.
    """
    if cfg.transfer.weights is None:
        return None
    place = _place(cfg.transfer.weights)
    if not place.is_dir():
        return hashlib.sha256(files.contents(place)).hexdigest()
    of_run = record.config_of(place)
    with closing(_checkpoints(of_run, place)) as checkpoints:
        found = (checkpoints.weights_digest(checkpoints.find("best")), *record.described(place))
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def data_config(cfg: Config) -> DataConfig:
    """`cfg.data` with what the weights say of images where it says nothing: size, crop, channels, mean and deviation.

    Raises `UserError`.
    """
    weights = weights_of(cfg)
    if weights is None:
        return cfg.data
    asked, given = cfg.data, weights.preprocessing
    if asked.channels is not None and asked.channels != len(given.mean):
        raise UserError(
            f"data.channels is {asked.channels}; expected {len(given.mean)}, as transfer.weights were trained"
        )
    size = asked.resolution or given.size
    return dataclasses.replace(
        asked,
        resolution=size,
        crop_fraction=given.crop_fraction if asked.crop_fraction is None else asked.crop_fraction,
        interpolation=asked.interpolation or given.interpolation,
        channels=1 if len(given.mean) == 1 else 3,
        mean=given.mean if asked.mean is None else asked.mean,
        std=given.std if asked.std is None else asked.std,
    )


def model_fields(cfg: Config) -> dict[str, Any]:
    """Fields of the network: those that its weights ask for, and over them the config's own. Raises `UserError`."""
    weights = weights_of(cfg)
    return ({} if weights is None else weights.fields) | dict(cfg.model.options)


def strategy(train_examples: int, stages: Sequence[str]) -> str:
    """What to freeze for want of examples: below 10,000 all but the head, below 100,000 the first half of the stages.

    More are enough to train everything (Yosinski et al. 2014, arXiv:1411.1792; the thresholds are rules of thumb).
    """
    if train_examples < FEW:
        return "all_but_head"
    if train_examples < SOME and len(stages) > 1:
        return f"up_to:{stages[len(stages) // 2 - 1]}"
    return "none"


def order(model: nn.Module, shape: tuple[int, ...]) -> list[str]:
    """Names of the network's outermost modules, in the order in which they first run on images of `shape` "h w c"."""
    seen: dict[str, None] = {}

    def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        if context.module.path and context.method_name == "__call__":
            seen.setdefault(context.module.path[0])
        return call(*arguments, **keywords)

    def forward(key: jax.Array, images: jax.Array) -> Any:
        with nn.intercept_methods(note):
            return model.init({"params": key, "dropout": key}, images, train=False)

    jax.eval_shape(forward, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return list(seen)


def frozen(cfg: TransferConfig, model: nn.Module, shape: tuple[int, ...], train_examples: int) -> Frozen:
    """What of a network for images of `shape` "h w c" stays as it is. Raises `UserError`."""
    if cfg.freeze == "none" and cfg.frozen_statistics != "all":
        return Frozen()
    modules = order(model, shape)
    weights = _frozen_weights(cfg, modules, train_examples)
    if weights and cfg.weights is None:
        raise UserError(f"transfer.freeze is {cfg.freeze}, of random weights; expected transfer.weights, or none")
    as_they_are = {"with_weights": weights, "all": frozenset(modules) - {HEAD}, "none": frozenset[str]()}
    return Frozen(weights, as_they_are[cfg.frozen_statistics])


def _frozen_weights(cfg: TransferConfig, modules: Sequence[str], train_examples: int) -> frozenset[str]:
    stages = models.stages(modules)
    freeze = cfg.freeze
    if freeze == "auto":
        freeze = "none" if cfg.weights is None else strategy(train_examples, stages)
    if freeze == "none":
        return frozenset()
    if freeze == "all_but_head":
        if HEAD not in modules:
            raise UserError("transfer.freeze is all_but_head, and this network has no head to train; expected none")
        return frozenset(modules) - {HEAD}
    kind, _, last = freeze.partition(":")
    if kind != "up_to":
        raise unknown("transfer.freeze", freeze, ["none", "all_but_head", "auto", *(f"up_to:{s}" for s in stages)])
    if last not in stages:
        raise unknown("stage in transfer.freeze", last, stages)
    return frozenset(modules[: modules.index(last) + 1])


def start(variables: PyTree, weights: pretrained.Weights, *, keep_head: bool) -> PyTree:
    """`variables` of a fresh network ({"params", "batch_stats"}) with the weights in their place, but for a new head.

    The head is new where `keep_head` is false or its shapes differ. Raises `UserError` where other shapes differ.
    """
    head_fits = keep_head and all(
        path in (given := flatten_dict(weights.variables["params"], sep="/")) and given[path].shape == leaf.shape
        for path, leaf in flatten_dict(variables["params"], sep="/").items()
        if path.split("/")[0] == HEAD
    )
    merged = {}
    for collection, tree in variables.items():
        given = flatten_dict(weights.variables.get(collection, {}), sep="/")
        fresh = flatten_dict(tree, sep="/")
        taken = {path for path in fresh if head_fits or path.split("/")[0] != HEAD}
        for path in taken:
            if path not in given or given[path].shape != fresh[path].shape:
                found = given[path].shape if path in given else "nothing"
                raise UserError(
                    f"the weights have {found} for {path}, and the network {fresh[path].shape}; expected the options "
                    "they were trained with"
                )
        merged[collection] = unflatten_dict(
            # Copies: the step that consumes them would delete what is read once for all runs of this process.
            {path: np.array(given[path]) if path in taken else leaf for path, leaf in fresh.items()},
            sep="/",
        )
    return merged
