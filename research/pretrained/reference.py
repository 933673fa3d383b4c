"""Weights as others publish them: whose, under which names, in which layout, and for images prepared how.

A file of `research/pretrained/references/` has the name of the model file whose variants it serves, and offers
`REFERENCES`: variant -> the `Reference`s known for it.
"""

import functools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from research.errors import UserError

Arrays = Mapping[str, np.ndarray]

# What PyTorch calls the arrays of a layer that we call so.
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_ALWAYS_IGNORED = (r"(.*\.)?num_batches_tracked",)


class Names(NamedTuple):
    """Where a layer's name comes from: a pattern of our path, matched as a whole, and a template of theirs.

    In the template `{1}` is the pattern's first group and `{1-1}` that number less one. The path is the module's
    ("stage1_block2/conv1"), and where no pattern matches it the array's own ("stage1_block2/conv1/kernel"), whose
    template is then the array's whole name.
    """

    pattern: str
    template: str


@dataclass(frozen=True)
class Preprocessing:
    """How an image of 0 to 255 becomes what the weights were trained on.

    The short side is resized to `size` / `crop_fraction` pixels, the middle `size` x `size` cut out, `mean` subtracted
    and divided by `std` (per channel, red first, of 255). `channel_order` is that of the file's first convolution,
    which loading turns to red first.
    """

    size: int
    crop_fraction: float = 0.875
    mean: tuple[float, ...] = (0.485 * 255, 0.456 * 255, 0.406 * 255)
    std: tuple[float, ...] = (0.229 * 255, 0.224 * 255, 0.225 * 255)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


# torchvision's IMAGENET1K_V1 and timm's: 256 pixels, the middle 224, normalised by ImageNet's colours.
IMAGENET = Preprocessing(224)


@dataclass(frozen=True)
class Reference:
    """Weights of one variant as `source` publishes them under `name`.

    `fields` are those of our variant with which it computes what the original does. `ignored` are patterns of their
    names that have no place in it (auxiliary heads). `flattened` are (path of a dense layer, (c, h, w)): PyTorch
    flattens maps channels first, we channels last. `layout` is that of the kernels, and `first` the path of the first
    convolution, which sees the colours.
    """

    source: str
    name: str
    names: Sequence[Names]
    fields: tuple[tuple[str, Any], ...] = ()
    preprocessing: Preprocessing = IMAGENET
    ignored: tuple[str, ...] = ()
    flattened: tuple[tuple[str, tuple[int, int, int]], ...] = ()
    layout: Literal["torch", "tensorflow"] = "torch"
    first: str = "stem/conv"

    def key(self, path: str) -> str:
        """Their name of our array at `path` ("stage1_block2/conv1/kernel"). Raises `ValueError`: no pattern has it."""
        module, _, leaf = path.rpartition("/")
        if (named := _translated(module, self.names)) is not None:
            return f"{named}.{_LEAVES[leaf]}" if self.layout == "torch" else f"{named}/{int(leaf == 'bias')}"
        if (named := _translated(path, self.names)) is not None:
            return named
        raise ValueError(f"{self.source}'s {self.name} has no name for {path}")

    def classes(self, arrays: Arrays) -> int | None:
        """How many classes a file's last layer has; None where it has none under their name."""
        head = arrays.get(self.key("head/kernel"))
        return None if head is None or head.ndim < 2 else head.shape[0 if self.layout == "torch" else -1]

    def shape(self, path: str, ours: Sequence[int]) -> tuple[int, ...]:
        """The shape in which they keep our array of shape `ours`, but for axes of length 1 at its end."""
        if self.layout == "tensorflow" or not path.endswith("/kernel"):
            return tuple(ours)
        return (ours[-1], ours[-2], *ours[:-2])

    def convert(
        self, arrays: Arrays, shapes: Mapping[str, Sequence[int]], file: str, *, head: bool = True
    ) -> dict[str, np.ndarray]:
        """Our arrays by path, float32, for all of `shapes` (path -> shape), from theirs by name.

        Without `head` theirs may have a last layer, which is left out. Raises `UserError`, one line that says how names
        and shapes differ, or that there are numbers which are not finite; nothing is half-loaded.
        """
        keys = {path: self.key(path) for path in shapes}
        used = {*keys.values(), *(() if head else (self.key("head/kernel"), self.key("head/bias")))}
        ignored = [re.compile(pattern) for pattern in (*_ALWAYS_IGNORED, *self.ignored)]
        unexpected = [key for key in arrays if key not in used and not any(p.fullmatch(key) for p in ignored)]
        missing = [key for key in keys.values() if key not in arrays]
        wrong = [
            f"{key} is {_size(arrays[key].shape)}, expected {_size(self.shape(path, shapes[path]))}"
            for path, key in keys.items()
            if key in arrays and not _fits(arrays[key].shape, self.shape(path, shapes[path]))
        ]
        if report := _differences(missing, unexpected, wrong):
            raise UserError(f"{file} does not hold {self.source}'s {self.name}: {report}")
        made = {path: self._ours(path, arrays[key], tuple(shapes[path])) for path, key in keys.items()}
        if unsound := [keys[path] for path, array in made.items() if not np.isfinite(array).all()]:
            raise UserError(f"{file} has numbers in {unsound[0]} that are not finite; expected weights")
        return made

    def _ours(self, path: str, theirs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        module, _, leaf = path.rpartition("/")
        array = np.asarray(theirs, np.float32).reshape(self.shape(path, shape))
        if leaf == "kernel" and self.layout == "torch":
            maps = dict(self.flattened).get(module)
            if maps is not None:
                array = array.reshape(-1, *maps).transpose(0, 2, 3, 1).reshape(array.shape)
            array = np.moveaxis(array, (0, 1), (-1, -2))
        if leaf == "kernel" and module == self.first and self.preprocessing.channel_order == "bgr":
            array = array[..., ::-1, :]
        return np.ascontiguousarray(array.reshape(shape))


def retrained(reference: Reference) -> Reference:
    """torchvision's later weights of a network (its IMAGENET1K_V2): in the same names, seen at the middle 224 of 232.

    A file does not tell which they are, so that they are asked for: `source="torchvision_v2"`.
    """
    return replace(reference, source="torchvision_v2", preprocessing=Preprocessing(224, 224 / 232))


def _translated(path: str, names: Sequence[Names]) -> str | None:
    for pattern, template in names:
        if found := re.fullmatch(pattern, path):
            return re.sub(r"\{(\d)([+-]\d+)?\}", functools.partial(_filled, found), template)
    return None


def _filled(found: re.Match[str], slot: re.Match[str]) -> str:
    text = found.group(int(slot.group(1)))
    return str(int(text) + int(slot.group(2))) if slot.group(2) else text


def _fits(theirs: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether the shapes are one but for axes of length 1 at the end (a dense layer kept as a 1x1 convolution)."""
    longer, shorter = (theirs, expected) if len(theirs) > len(expected) else (expected, theirs)
    return longer[: len(shorter)] == shorter and math.prod(longer[len(shorter) :]) == 1


def _differences(missing: Collection[str], unexpected: Collection[str], wrong: Collection[str]) -> str:
    parts = [
        f"{len(found)} {what} ({', '.join(list(found)[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if found
    ]
    return "; ".join(parts)


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"
