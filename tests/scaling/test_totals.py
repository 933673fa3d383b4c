"""Totals by parts are the totals of the whole, over the catalogue."""

import flax.linen as nn
import pytest

from research import catalogue, models
from research.scaling import complexity, totals

COUNTER = totals.Counter()
OF_FILES = [list(getattr(module, "VARIANTS", {}))[:1] for module in catalogue.modules("research.models").values()]


@pytest.mark.parametrize("name", [name for first in OF_FILES for name in first])
def test_totals_are_those_of_the_whole(name: str) -> None:
    variant, model = models.variant(name), models.create(name)
    shape = (1, *(max(variant.minimum, side // 2) for side in variant.input_shape[:-1]), variant.input_shape[-1])
    shape = shape if variant.minimum < min(variant.input_shape[:-1]) else (1, *variant.input_shape)
    whole = complexity.count(model, shape)
    assert COUNTER.totals(model, shape) == totals.Totals(whole.macs, whole.params, whole.activations)


class Twice(nn.Module):
    """One convolution, called twice."""

    @nn.compact
    def __call__(self, images, *, train):
        """Maps."""
        conv = nn.Conv(3, (3, 3))
        return conv(conv(images))


def test_a_module_that_is_called_twice_has_its_parameters_once() -> None:
    found = totals.Counter().totals(Twice(), (1, 8, 8, 3))
    assert found == totals.Totals(macs=2 * 8 * 8 * 9 * 3 * 3, params=9 * 3 * 3 + 3, activations=2 * 8 * 8 * 3)


def test_what_was_counted_before_is_not_counted_again() -> None:
    """ResNet-20's parts: stem, five kinds of block (of a stage's three, the first may differ), features, head."""
    counter = totals.Counter()
    counter.totals(models.create("resnet20"), (1, 32, 32, 3))
    known = counter.parts
    assert 7 <= known <= 10
    counter.totals(models.create("resnet56"), (1, 32, 32, 3))
    assert counter.parts == known
    counter.totals(models.create("resnet20", shortcut="B"), (1, 32, 32, 3))
    assert counter.parts > known
