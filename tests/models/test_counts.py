"""Exact parameters and multiply-adds of every variant, from the papers' arithmetic, never from this code's output."""

import json
from functools import cache
from pathlib import Path

import pytest

from research import models
from research.scaling import complexity

# name -> params, macs at the variant's own input shape and classes. Every variant must have a row.
GOLDENS = json.loads((Path(__file__).parent / "goldens.json").read_text())

# He et al. 2015 with other shortcuts than the variant's own (option -> params).
WITH_SHORTCUT = [
    *[(f"resnet{depth}", "B", count) for depth, count in ((20, 272_474), (32, 466_906), (44, 661_338), (56, 855_770))],
    ("resnet110", "B", 1_730_714),
    ("resnet18", "A", 11_515_688),
    ("resnet34", "A", 21_623_848),
    ("resnet34", "C", 22_716_840),
    ("resnet20", "none", 269_722),
]


@cache
def cost(name, **fields):
    return complexity.count(models.create(name, **fields), (1, *models.variant(name).input_shape))


def test_every_variant_has_a_golden_row():
    assert sorted(GOLDENS) == models.names()


@pytest.mark.parametrize("name", models.names())
def test_params_and_macs(name):
    assert {"params": cost(name).params, "macs": cost(name).macs} == GOLDENS[name]


@pytest.mark.parametrize(("name", "option", "params"), WITH_SHORTCUT)
def test_shortcut_options(name, option, params):
    assert cost(name, shortcut=option).params == params


@pytest.mark.parametrize("depth", [26, 38])
def test_any_depth_lies_on_the_line_through_its_neighbours(depth):
    for kind in ("plain", "resnet"):
        below, above = GOLDENS[f"{kind}{depth - 6}"], GOLDENS[f"{kind}{depth + 6}"]
        assert 2 * cost(f"{kind}{depth}").params == below["params"] + above["params"]
        assert 2 * cost(f"{kind}{depth}").macs == below["macs"] + above["macs"]


def test_double_width_has_four_times_the_block_multiply_adds():
    # All but the first convolution, whose 3 input channels stay, and the dense layer, whose 10 outputs do.
    stem, head = 32 * 32 * 27 * 16, 64 * 10
    narrow = cost("resnet20").macs - stem - head
    assert cost("resnet20", width=32).macs == 4 * narrow + 2 * stem + 2 * head
