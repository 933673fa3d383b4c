"""What every variant of the catalogue offers beside the laws of any network: stages, a head, other inputs, scaling."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research import models
from research.nn.trunk import divisible
from research.scaling import complexity
from research.testing.model_laws import initial_shapes, paths
from tests.models.forms import cut

pytestmark = pytest.mark.networks

every_variant = pytest.mark.parametrize("name", models.names())


def having(option):
    """Variants that take `option`."""
    return pytest.mark.parametrize("name", [name for name in models.names() if option in models.options(name)])


def captured(model, shape):
    """Path -> shape of the output of every module call."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)

    def forward(x):
        _, variables = model.init_with_output(jax.random.key(0), x, train=False, capture_intermediates=True)
        return variables["intermediates"]

    found = paths(jax.eval_shape(forward, images))
    return {path.removesuffix("/__call__"): leaf[0].shape for path, leaf in found.items()}


@every_variant
def test_stages_are_captured_by_name_at_other_sizes_and_channels(name):
    """On images of two channels, as small as may be on one side and larger on the others."""
    found = models.variant(name)
    sides = tuple(found.minimum + 19 * axis for axis in range(len(found.input_shape) - 1))
    shapes = captured(cut(name, 1), (*sides, 2))
    assert shapes["__call__"] == (1, found.num_classes)
    stages = models.stages(shapes)
    assert sorted(stages, key=lambda s: int(s.removeprefix("stage"))) == [f"stage{n + 1}" for n in range(len(stages))]
    assert stages
    ordered = [shapes[f"stage{n + 1}"] for n in range(len(stages))]
    maps = [shape[1:-1] for shape in ordered if len(shape) == len(sides) + 2]
    assert all(max(after) <= max(before) for before, after in itertools.pairwise(maps))


@every_variant
def test_the_last_layer_is_the_head(name):
    """Without classes exactly `head` is missing: whoever transfers a network replaces that."""
    model, shape = cut(name, 1), models.variant(name).input_shape
    whole, features = (set(paths(initial_shapes(m, shape)[1]["params"])) for m in (model, model.clone(num_classes=0)))
    missing = {path.split("/")[0] for path in whole - features}
    assert features <= whole
    # Its outputs are distances to fixed codes (LeCun et al. 1998), and those of an auxiliary head are heads too.
    assert missing == (set() if name == "lenet5_1998" else {"head"})


@having("stem")
def test_small_image_stem_leaves_something_of_32_pixels(name):
    model = cut(name, 1, stem="cifar")
    rank = len(models.variant(name).input_shape) - 1
    shape = (32,) * rank
    shapes = captured(model, (*shape, 3))
    last = shapes[models.stages(shapes)[-1]]
    assert min(last[1:-1]) >= 2
    assert model.minimum < models.variant(name).minimum


@functools.cache
def cost(name, **fields):
    """Of one block a stage, at a quarter of the resolution or the minimum: scaling is arithmetic on rows."""
    found = models.variant(name)
    sides = (max(side // 4, found.minimum) for side in found.input_shape[:-1])
    return complexity.count(cut(name, 1, **fields), (1, *sides, found.input_shape[-1]))


@having("width_multiplier")
def test_width_multiplier(name):
    """Half the width costs between a quarter (both sides of a layer) and half (one side); 1 changes nothing.

    Around that: widths that are rounded, or fixed (of excitations, of heads of attention).
    """
    assert models.create(name, width_multiplier=1.0) == models.create(name)
    ratio = cost(name, width_multiplier=0.5, channel_divisor=1).macs / cost(name).macs
    assert 0.2 < ratio < 0.6


@having("depth_multiplier")
def test_depth_multiplier_is_rounded_up(name):
    before, after = (models.create(name, depth_multiplier=m).stages for m in (1.0, 1.3))
    counted = [(row.blocks, scaled.blocks) for row, scaled in zip(before, after, strict=True)]
    assert any(blocks != scaled for blocks, scaled in counted)
    # Not more: a variant may itself be a base whose depth was multiplied and rounded up.
    assert all(blocks <= scaled <= math.ceil(1.3 * blocks) for blocks, scaled in counted)
    assert models.create(name, depth_multiplier=1.0) == models.create(name)


@having("aux_heads")
def test_auxiliary_heads_are_sown_in_training_only(name):
    shape = models.variant(name).input_shape
    model, plain = models.create(name, aux_heads=True), models.create(name)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    assert complexity.count(model, (1, *shape)).macs == complexity.count(plain, (1, *shape)).macs

    def sown(train):
        rngs = {"dropout": jax.random.key(0)}

        def forward(v, x):
            return model.apply(v, x, train=train, rngs=rngs, mutable=["batch_stats", "intermediates"])[1]

        return jax.eval_shape(forward, variables, images).get("intermediates", {})

    assert not sown(False)
    heads = sown(True)
    assert heads
    assert set(heads) == {f"aux{n + 1}" for n in range(len(heads))}
    assert all(leaf.shape == (2, 1000) for leaf in jax.tree.leaves(heads))
    assert 0 < model.aux_weight < 1


@given(channels=st.floats(1, 5000), divisor=st.sampled_from([1, 4, 8, 16]))
def test_widths_are_multiples_and_never_below_nine_tenths(channels, divisor):
    width = divisible(channels, divisor)
    assert width % divisor == 0
    assert width >= 0.9 * channels
    assert width <= max(divisor, channels + divisor)


def test_scaled_shapes():
    assert models.variant("resnet50").scaled_shape(0.5) == (112, 112, 3)
    assert models.variant("resnet50").scaled_shape(1.15) == (258, 258, 3)
