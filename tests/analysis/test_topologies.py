"""The table of chips and slices, and what is said of a name that is not in it."""

import importlib.util

import pytest

from research.analysis import topologies
from research.analysis.topologies import CHIPS, NAMES, parse
from research.errors import UserError


@pytest.mark.parametrize("name", NAMES)
def test_a_slice_reads_back_and_its_hosts_share_it_evenly(name):
    read = parse(name)
    assert read.name == name
    assert read.chips % read.hosts == 0
    assert read.chips // read.hosts <= 8
    assert len(read.shape) == (3 if read.chip.cubes else 2)


def test_the_figures_are_those_that_are_published():
    """Ratios between generations: Google's tables give v6e 4.7 times the compute of v5e and twice its memory."""
    assert CHIPS["v6e"].flops / CHIPS["v5e"].flops == pytest.approx(4.7, rel=0.01)  # to two figures
    for chip, gigabytes, links, total in (("v5e", 16, 4, 400e9), ("v5p", 95.74, 6, 1200e9), ("v6e", 32, 4, 800e9)):
        # libtpu keeps up to three quarters of a GiB for itself.
        assert gigabytes - 0.75 <= CHIPS[chip].memory / topologies.GIB <= gigabytes
        assert 2 * links * CHIPS[chip].link == total  # both directions of all links


@pytest.mark.parametrize(
    ("name", "chips", "hosts", "links"),
    [
        ("v5e:1x1", 1, 1, 0),
        ("v5e:2x2", 4, 1, 2),
        ("v5e:2x4", 8, 1, 2),  # a machine with all eight
        ("v5e:4x4", 16, 4, 2),
        ("v5e:8x16", 128, 32, 3),  # the longer axis is a ring
        ("v6e:16x16", 256, 64, 4),
        ("v5p:1x1x1", 1, 1, 0),
        ("v5p:2x2x1", 4, 1, 2),
        ("v5p:2x2x2", 8, 2, 3),
        ("v5p:2x4x4", 32, 8, 3),  # no whole cube: nothing is a ring
        ("v5p:4x4x4", 64, 16, 6),
    ],
)
def test_chips_hosts_and_links_of_slices(name, chips, hosts, links):
    read = parse(name)
    assert (read.chips, read.hosts, read.links) == (chips, hosts, links)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("v5e", "v5e:2x4"),
        ("v5e-8", "v5e:2x4"),
        ("", "v5e:2x2"),
        ("v5e:", "v5e:2x4"),
        ("v5e:2x", "v5e:2x4"),
        ("v5litepod:2x4", "v5e"),
        ("v4:2x2x1", "expected one of: v5e, v5p, v6e"),
        ("v5e:2x3", "v5e:2x4"),
        ("v5e:4x2", "v5e:2x4"),  # as many chips
        ("v5p:2x2", "v5p:2x2x1"),
        ("v5p:8x8x4", "v5p:4x8x8"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(text, hint):
    with pytest.raises(UserError, match=hint):
        parse(text)


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # as where nothing is installed
    with pytest.raises(UserError, match=r"libtpu.*convscale\[tpu\].*EXTRAS=dev,tpu"):
        topologies.devices(parse("v5e:2x4"))
