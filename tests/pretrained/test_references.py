"""Laws of every map of names: it gives each array of the variant a name of its own, and fields that the variant has."""

import pytest

from research import catalogue, models, pretrained
from research.testing.model_laws import initial_shapes
from tests.models.forms import cut


@pytest.mark.parametrize("name", pretrained.names())
def test_each_array_has_a_name_of_its_own(name):
    """With one block a stage: blocks are numbered by one template."""
    for reference in pretrained.known(name):
        model = cut(name, 1, **dict(reference.fields))
        paths = pretrained.shapes_by_path(initial_shapes(model, models.variant(name).input_shape)[1])
        keys = [reference.key(path) for path in paths]
        assert len(set(keys)) == len(keys), f"two arrays of ours have one name of {reference.source}'s"
        assert f"{reference.first}/kernel" in paths
        assert {path for path, _ in reference.flattened} <= {path.rsplit("/", 1)[0] for path in paths}


@pytest.mark.parametrize("name", pretrained.names())
def test_sources_are_told_apart(name):
    known = pretrained.known(name)
    assert len({(reference.source, reference.name) for reference in known}) == len(known)
    for reference in known:
        how = reference.preprocessing
        assert how.size >= models.variant(name).minimum
        assert 0 < how.crop_fraction <= 1
        assert len(how.mean) == len(how.std) == models.variant(name).input_shape[-1]


def test_each_file_serves_the_model_file_of_its_name():
    for file, module in catalogue.modules("research.pretrained.references").items():
        variants = catalogue.modules("research.models")[file].VARIANTS
        assert module.REFERENCES.keys() <= variants.keys()
