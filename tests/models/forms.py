"""Small forms of the networks of the catalogue, which have all that the large ones are made of."""

import dataclasses
import math
import re
from functools import cache
from typing import Any

import flax.linen as nn
import jax

from research import catalogue, models
from research.testing import model_laws
from research.testing.model_laws import Subject

FILES = {name: file for file, module in catalogue.modules("research.models").items() for name in module.VARIANTS}


def cut(name: str, blocks: int, **fields: Any) -> nn.Module:
    """The variant with at most `blocks` blocks in each stage, where it has stages."""
    model = models.create(name, **fields)
    if not (stages := getattr(model, "stages", None)):
        return model
    return model.clone(stages=tuple(dataclasses.replace(stage, blocks=min(blocks, stage.blocks)) for stage in stages))


@cache
def native(name: str) -> Subject:
    """The variant at its own input shape; after the second block a stage repeats itself."""
    return Subject(cut(name, 2), models.variant(name).input_shape)


@cache
def shortened(name: str) -> Subject:
    """The variant with one block a stage, and two in the last that has them, at twice its smallest resolution.

    What joins a block's input to its output only where their shapes are one is in the second of a stage.
    """
    found, model = models.variant(name), cut(name, 1)
    if stages := list(getattr(model, "stages", ())):
        longer = [at for at, stage in enumerate(models.create(name).stages) if stage.blocks > 1]
        for at in longer[-1:]:
            stages[at] = dataclasses.replace(stages[at], blocks=2)
        model = model.clone(stages=tuple(stages))
    return Subject(model, (*(2 * found.minimum for _ in found.input_shape[:-1]), found.input_shape[-1]))


def params(subject: Subject) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(subject.initial[1]["params"]))


def make_up(subject: Subject) -> frozenset[str]:
    """What the network is made of: the names of its parameters within their block or layer."""
    return frozenset("/".join(path.split("/")[-2:]) for path in model_laws.paths(subject.initial[1]["params"]))


def _family(name: str) -> str:
    """The file of a variant and its name without its size."""
    return f"{FILES[name]}:{re.sub(r'_(ti|s|m|b|l)$', '', re.sub(r'_x[.0-9]+$|[0-9]+', '', name))}"


FAMILIES = sorted({_family(name) for name in models.names()})


@cache
def smallest(family: str) -> list[str]:
    """Of each make-up of network in a family, the variant with the fewest parameters."""
    found: dict[frozenset[str], str] = {}
    names = [name for name in models.names() if _family(name) == family]
    for name in sorted(names, key=lambda name: -params(shortened(name))):
        found[make_up(shortened(name))] = name
    return sorted(found.values())
