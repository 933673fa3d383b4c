"""Same weights, same images, same logits as the reference implementations: torchvision's and timm's.

The numbers in `parity/` are theirs, written by `tools/parity.py`; `make parity` computes them anew with the packages
themselves (CONVSCALE_PARITY then names the folder).
"""

import functools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import unflatten_dict

from research import models, pretrained
from research.nn.batch_norm import BatchNorm
from research.scaling import complexity
from research.testing import named_weights
from research.testing.model_laws import QUICK, paths

pytestmark = pytest.mark.networks

FOLDER = Path(os.environ.get("CONVSCALE_PARITY") or Path(__file__).parent / "parity")
CASES = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
# Float32 sums in another order through some hundred layers: 1e-6 to 3e-5 was seen, of the largest logit.
TOLERANCE = 1e-4


def reference_of(case):
    known = pretrained.known(case["variant"])
    (reference,) = [r for r in known if (r.source, r.name) == (case["source"], case["name"])]
    return reference


def prepared(case):
    """(our model, its variables from the reference's names, images)."""
    reference = reference_of(case)
    model = models.create(case["variant"], **dict(reference.fields))
    images = named_weights.images(2, case["resolution"])
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    by_path = pretrained.shapes_by_path(shapes)
    theirs = {path: (reference.key(path), reference.shape(path, shape)) for path, shape in by_path.items()}
    arrays = {key: named_weights.array(key, shape, case.get("gain", 2.0)) for key, shape in theirs.values()}
    converted = reference.convert(arrays, by_path, "made from names")
    sizes = {key: array.size for key, array in arrays.items()}
    variables = {
        collection: unflatten_dict({path: converted[path] for path in paths(tree)}, sep="/")
        for collection, tree in shapes.items()
    }
    return model, variables, jnp.asarray(images), named_weights.signature(sizes)


# With `transform_input`, which their weights set, these two undo ImageNet's colours themselves, and take -1 to 1.
TRANSFORMS_INPUT = {"googlenet", "inception_v3"}


@pytest.mark.parametrize("name", CASES)
def test_images_are_prepared_as_the_published_weights_ask(name):
    """Each row of ours for the reference's names is that of one of its published weights."""
    case = CASES[name]
    published = [
        (
            row["size"],
            row["resized"],
            row["interpolation"],
            *(tuple(round(x, 4) for x in row[k]) for k in ("mean", "std")),
        )
        for row in case["preprocessing"]
    ]
    for reference in pretrained.known(case["variant"]):
        if reference.name != case["name"] or not reference.source.startswith(case["source"]):
            continue
        how = reference.preprocessing
        colours = [tuple(round(x / 255, 4) for x in values) for values in (how.mean, how.std)]
        if case["name"] in TRANSFORMS_INPUT:
            assert colours == [(0.5,) * 3] * 2
            colours = [published[0][3], published[0][4]]
        # timm cuts the fraction of a pixel off, where ours is rounded.
        resized = {how.size / how.crop_fraction // 1, round(how.size / how.crop_fraction)}
        assert any((how.size, side, how.interpolation, *colours) in published for side in resized)


def check(ours, theirs, scale):
    ours = np.asarray(ours, np.float64).ravel()
    np.testing.assert_allclose(ours[: len(theirs["first"])], theirs["first"], rtol=0, atol=TOLERANCE * scale)
    np.testing.assert_allclose(np.linalg.norm(ours), theirs["norm"], rtol=TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_reference(name):
    case = CASES[name]
    model, variables, images, signature = prepared(case)
    assert signature == case["signature"], "the reference has other arrays, or of other sizes"
    layers = complexity.count(model, (1, *images.shape[1:])).layers
    assert sum(layer.macs for layer in layers if layer.kind in ("convolution", "dense")) == case["macs"]
    evaluate = jax.jit(lambda v, x: model.apply(v, x, train=False), compiler_options=QUICK)
    logits = np.asarray(evaluate(variables, images))
    for ours, theirs in zip(logits, case["logits"], strict=True):
        check(ours, theirs, np.abs(ours).max())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "trained" in case])
def test_a_training_step_is_that_of_the_reference(name):
    case = CASES[name]["trained"]
    model, variables, images, _ = prepared(CASES[name])
    norm = functools.partial(BatchNorm, momentum=case["momentum"], epsilon=model.norm.keywords["epsilon"])
    model = model.clone(norm=norm, dropout=0.0)

    def loss(params):
        given = variables | {"params": params}
        logits, changed = model.apply(given, images, train=True, mutable=["batch_stats"])
        labels = jnp.arange(len(images))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), changed["batch_stats"]

    step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)
    (value, statistics), gradient = step(variables["params"])
    np.testing.assert_allclose(value, case["loss"], rtol=TOLERANCE)
    # A batch of two is normalised by two examples' own statistics, which amplifies rounding.
    np.testing.assert_allclose(optax.tree.norm(gradient), case["gradient_norm"], rtol=10 * TOLERANCE)
    reference = reference_of(CASES[name])
    for leaf in ("mean", "var"):
        ours = {reference.key(path): x for path, x in paths(statistics).items() if path.endswith(f"/{leaf}")}
        check(np.concatenate([np.asarray(ours[key]) for key in sorted(ours)]), case[leaf], 1.0)
