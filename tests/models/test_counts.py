"""Exact parameters and multiply-adds of every variant, from the papers' arithmetic, never from this code's output.

Those of networks that torchvision or timm have too were counted there, with hooks on PyTorch's layers.
"""

import json
from functools import cache
from pathlib import Path

import pytest

from research import catalogue, models
from research.scaling import complexity

pytestmark = pytest.mark.networks

ROOT = Path(__file__).parents[2]

# name -> params, macs at the variant's own input shape and classes. Every variant must have a row.
GOLDENS = json.loads((Path(__file__).parent / "goldens.json").read_text())

# Activations where the literature prints them (Dollar et al. 2021, arXiv:2103.06877, or recomputed by others' tools).
ACTIVATIONS = {"resnet50": 11_114_984, "vgg16": 13_556_712, "efficientnet_b0": 6_738_696}

# Other forms of a variant: options -> params.
WITH_OPTIONS = [
    # He et al. 2015 with other shortcuts than the variant's own.
    *[
        (f"resnet{depth}", {"shortcut": "B"}, count)
        for depth, count in ((20, 272_474), (32, 466_906), (44, 661_338), (56, 855_770), (110, 1_730_714))
    ],
    ("resnet18", {"shortcut": "A"}, 11_515_688),
    ("resnet34", {"shortcut": "A"}, 21_623_848),
    ("resnet34", {"shortcut": "C"}, 22_716_840),
    ("resnet20", {"shortcut": "none"}, 269_722),
    # Auxiliary heads.
    ("googlenet", {"aux_heads": True}, 13_378_280),
    ("googlenet_bn", {"aux_heads": True}, 13_004_888),
    ("inception_v3", {"aux_heads": True}, 27_161_264),
]

# MobileNet v1 by resolution (Howard et al. 2017, table 7, exact).
MOBILENET_BY_RESOLUTION = {192: 418_121_728, 160: 290_675_200, 128: 186_400_768}


@cache
def cost(name, **fields):
    return complexity.count(models.create(name, **fields), (1, *models.variant(name).input_shape))


def test_every_variant_has_a_golden_row():
    assert sorted(GOLDENS) == models.names()


@pytest.mark.parametrize("name", models.names())
def test_params_and_macs(name):
    assert {"params": cost(name).params, "macs": cost(name).macs} == GOLDENS[name]
    document = catalogue.load_file(str(ROOT / "tools" / "models_document.py"), "tool")
    assert document.row(name, cost(name)) in document.DOCUMENT.read_text().splitlines(), (
        "docs/models.md is not of this catalogue; python tools/models_document.py writes it"
    )


@pytest.mark.parametrize(("name", "activations"), ACTIVATIONS.items())
def test_published_activations(name, activations):
    assert cost(name).activations == activations


def test_the_document_has_no_other_rows():
    document = catalogue.load_file(str(ROOT / "tools" / "models_document.py"), "tool")
    text = document.DOCUMENT.read_text()
    assert text.startswith(document.HEADER)
    rows = text.removeprefix(document.HEADER).splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == models.names()


@pytest.mark.parametrize(("name", "fields", "params"), WITH_OPTIONS)
def test_params_with_options(name, fields, params):
    assert cost(name, **fields).params == params


@pytest.mark.parametrize(("resolution", "macs"), MOBILENET_BY_RESOLUTION.items())
def test_macs_by_resolution(resolution, macs):
    assert complexity.count(models.create("mobilenet_v1"), (1, resolution, resolution, 3)).macs == macs


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
