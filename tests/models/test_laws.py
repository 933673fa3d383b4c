"""The laws of `research.testing.model_laws` over the whole catalogue; a new variant is tested without an edit here."""

import dataclasses
import math
import re
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import pytest

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


def small_forms() -> list[str]:
    """Of each file, family name and make-up of network in it, the variant with the fewest parameters."""
    smallest: dict[tuple[str, str, frozenset[str]], str] = {}
    for name in sorted(models.names(), key=lambda name: -params(shortened(name))):
        family = re.sub(r"_(ti|s|m|b|l)$", "", re.sub(r"_x[\d.]+$|\d+", "", name))  # without its size
        smallest[FILES[name], family, make_up(shortened(name))] = name
    return sorted(smallest.values())


@pytest.mark.parametrize("name", models.names())
def test_shape_laws(name):
    """All of them in one test: what they share, tracing the network, is what takes time."""
    for law in model_laws.SHAPE_LAWS:
        law(native(name))


@pytest.mark.parametrize("name", small_forms())
def test_numeric_laws(name):
    """All of them in one test, which compiles once what they share and forgets it afterwards."""
    subject = dataclasses.replace(shortened(name))
    for law in model_laws.NUMERIC_LAWS:
        law(subject)
