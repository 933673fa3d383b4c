"""The laws of `research.testing.model_laws` over the whole catalogue; a new variant is tested without an edit here."""

import dataclasses

import pytest

from research import models
from research.testing import model_laws
from tests.models.forms import FAMILIES, native, shortened, smallest


@pytest.mark.parametrize("name", models.names())
def test_shape_laws(name):
    """All of them in one test: what they share, tracing the network, is what takes time."""
    for law in model_laws.SHAPE_LAWS:
        law(native(name))


@pytest.mark.networks
@pytest.mark.parametrize("family", FAMILIES)
def test_numeric_laws(family):
    """All of them in one test, which compiles once what they share and forgets it afterwards."""
    for name in smallest(family):
        subject = dataclasses.replace(shortened(name))
        for law in model_laws.NUMERIC_LAWS:
            try:
                law(subject)
            except AssertionError as error:
                error.add_note(f"of {name}")
                raise
