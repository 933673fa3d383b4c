"""Worked examples of inception modules and of the network of a table, at every spatial rank."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.inception import Inception, Layer, Pool, ResidualInception, without_reductions
from research.nn.inception_net import AuxiliaryClassifier, InceptionNet, InceptionStage, scale_stages, small_window_pool
from research.nn.layers import NoNorm, identity
from research.scaling import complexity
from research.testing.model_laws import fill

# Szegedy et al. 2014, table 1, row 3a.
INCEPTION_3A = (
    (Layer(64),),
    (Layer(96), Layer(128, 3)),
    (Layer(16), Layer(32, 5)),
    (Pool("max"), Layer(32)),
)
ONE_THEN_OTHER = (Layer(6), Layer(5, 3, form="last_axis_first", inner=4))
NARROW = (
    (Layer(4),),
    ONE_THEN_OTHER,
    (Layer(6), Layer(3, 3, form="side_by_side")),
    (Pool("average"), Layer(2)),
)


def traced(module, shape, **kwargs):
    """Shapes of (output, variables) for a float32 input of `shape`."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    kwargs = {"train": False, **kwargs}
    output, variables = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, **kwargs), x)
    return output.shape, variables


def kernels(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    return {path[0].key: leaf.shape for path, leaf in leaves if path[-1].key == "kernel"}


@pytest.mark.parametrize(
    ("reductions", "macs", "channels"),
    # 28 x 28 pixels times: 192 x 64, 192 x 96 + 9 x 96 x 128, 192 x 16 + 25 x 16 x 32, 192 x 32; then 9 x 192 x 128
    # and 25 x 192 x 32, and all channels of the pool, or 192 x 32.
    [("all", 128_049_152, 256), ("pool", 308_281_344, 256), ("none", 303_464_448, 416)],
)
def test_multiply_adds_of_3a_with_and_without_reductions(reductions, macs, channels):
    module = Inception(INCEPTION_3A, reductions=reductions)
    assert complexity.count(module, (1, 28, 28, 192)).macs == macs
    assert traced(module, (1, 28, 28, 192))[0] == (1, 28, 28, channels)


def test_a_reduction_is_a_1x1_that_does_not_stand_alone():
    alone, reduced, _, projected = INCEPTION_3A
    assert without_reductions(alone, "none") == alone
    assert without_reductions(reduced, "none") == without_reductions(reduced, "pool") == (Layer(128, 3),)
    assert without_reductions(projected, "pool") == projected
    assert without_reductions(projected, "none") == (Pool("max"),)
    assert all(without_reductions(branch, "all") == branch for branch in INCEPTION_3A)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("block", [Inception, ResidualInception])
def test_module_of_any_rank(block, rank):
    shape, _ = traced(block(NARROW), (2, *(7,) * rank, 8))
    channels = 4 + 5 + 3 * rank + 2 if block is Inception else 8
    assert shape == (2, *(7,) * rank, channels)


def test_one_kernel_for_each_axis_the_last_first():
    inception = Inception((ONE_THEN_OTHER,))
    at = {rank: kernels(traced(inception, (1, *(7,) * rank, 8))[1]) for rank in (1, 2, 3)}
    reduction = {"branch1_layer1": (1, 8, 6)}
    assert at[1] == reduction | {"branch1_layer2_axis1": (3, 6, 5)}
    assert at[2]["branch1_layer2_axis2"] == (1, 3, 6, 4)
    assert at[2]["branch1_layer2_axis1"] == (3, 1, 4, 5)
    assert at[3]["branch1_layer2_axis3"] == (1, 1, 3, 6, 4)
    assert at[3]["branch1_layer2_axis2"] == (1, 3, 1, 4, 4)
    assert at[3]["branch1_layer2_axis1"] == (3, 1, 1, 4, 5)
    full = kernels(traced(Inception(NARROW, factorised=False), (1, 7, 7, 8))[1])
    assert full["branch2_layer2"] == (3, 3, 6, 5)
    assert full["branch3_layer2"] == (3, 3, 6, 6)


@pytest.mark.parametrize("form", ["last_axis_first", "first_axis_first"])
def test_factorised_convolution_is_the_full_one_of_the_outer_product(form):
    plain = functools.partial(Inception, norm=NoNorm, act=identity)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 6, 6, 1)), jnp.float32)
    factorised, full = (plain(((Layer(1, 3, form=f, inner=1),),)) for f in (form, "full"))
    weights = fill(traced(factorised, x.shape)[1])
    column, row = (weights["params"][f"branch1_layer1_axis{axis}"]["conv"]["kernel"] for axis in (1, 2))
    outer = {"params": {"branch1_layer1": {"conv": {"kernel": column * row}}}}
    train = {"train": False}
    # Sums of nine float32 products of order one.
    np.testing.assert_allclose(factorised.apply(weights, x, **train), full.apply(outer, x, **train), atol=1e-5)


def test_strides_of_factorised_convolutions_are_those_of_the_full_one():
    for form in ("full", "last_axis_first", "first_axis_first", "side_by_side"):
        branch = (Layer(4, 3, 2, form=form, inner=4),)
        assert traced(Inception((branch,)), (1, 9, 9, 3))[0][1:3] == (5, 5)


def test_padding_of_an_average_pool_counts_only_where_asked():
    ones = jnp.ones((1, 3, 3, 1))
    assert Pool("average")(ones).min() == 1
    assert Pool("average", count_padding=True)(ones)[0, 0, 0, 0] == pytest.approx(4 / 9)


@pytest.mark.parametrize("linear", [True, False])
def test_residual_module_with_zero_projection_is_its_shortcut(linear):
    module = ResidualInception(NARROW, scale=0.5, linear=linear)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 5, 8)), jnp.float32)
    variables = fill(traced(module, x.shape)[1])
    scaled = dict(variables["params"]["projection"])
    variables["params"]["projection"] = jax.tree.map(jnp.zeros_like, scaled)
    shortcut = x if linear else jnp.maximum(x, 0)
    assert np.array_equal(module.apply(variables, x, train=False), shortcut)
    # And what is added is scaled: a bias of 1 in the projection adds 0.5.
    variables["params"]["projection"]["bias"] = jnp.ones(8)
    shifted = x + 0.5 if linear else jnp.maximum(x + 0.5, 0)
    np.testing.assert_array_equal(module.apply(variables, x, train=False), shifted)


NET = InceptionNet(
    (InceptionStage((Layer(8, 3, 2),), (NARROW, INCEPTION_3A), 3, auxiliary=(1, 3)), InceptionStage((Pool("max", 2),))),
    num_classes=5,
    aux=AuxiliaryClassifier,
    aux_heads=True,
)


def test_scaling_a_table_is_arithmetic_on_its_rows():
    stages = scale_stages(NET.stages, width=2, depth=2)
    assert stages[0].blocks == 6
    assert stages[0].entry == (Layer(16, 3, 2),)
    assert stages[0].rows[1][1:3] == ((Layer(192), Layer(256, 3)), (Layer(32), Layer(64, 5)))
    assert stages[0].rows[0][1][1] == Layer(16, 3, form="last_axis_first", inner=8)  # multiples of 8
    assert scale_stages(NET.stages) == NET.stages


def test_the_last_row_repeats():
    _, variables = traced(NET.clone(stages=scale_stages(NET.stages, depth=2)), (1, 16, 16, 3))
    blocks = {name: kernels({"params": tree}) for name, tree in variables["params"].items() if "block" in name}
    assert set(blocks) == {f"stage1_block{n}" for n in range(1, 7)}
    assert blocks["stage1_block3"] == blocks["stage1_block6"]
    assert "branch2_layer2" in blocks["stage1_block2"]
    assert "branch2_layer2" not in blocks["stage1_block1"]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_auxiliary_logits_are_sown_in_training_alone(rank):
    net = NET.clone(dtype=jnp.bfloat16)
    shape = (2, *(16,) * rank, 3)
    output, variables = traced(net, shape)
    assert output == (2, 5)
    assert variables.keys() == {"params", "batch_stats"}
    assert {"aux1_head", "aux2_head"} <= variables["params"].keys()
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    sown = {}
    for train in (True, False):
        apply = functools.partial(net.apply, train=train, mutable=["batch_stats", "intermediates"])
        _, state = jax.eval_shape(lambda v, x, a=apply: a(v, x, rngs={"dropout": jax.random.key(0)}), variables, x)
        sown[train] = state.get("intermediates", {})
    assert sown[False] == {}
    assert sown[True].keys() == {"aux1", "aux2"}
    logits = [leaf for value in sown[True].values() for leaf in value]
    assert [(leaf.shape, leaf.dtype) for leaf in logits] == [((2, 5), jnp.float32)] * 2


def test_no_auxiliary_head_without_the_field_or_without_classes():
    for net in (NET.clone(aux_heads=False), NET.clone(num_classes=0), NET.clone(aux=None)):
        assert not [name for name in traced(net, (1, 16, 16, 3))[1]["params"] if "aux" in name]


def test_a_place_beyond_a_shortened_table_is_its_last_block():
    stages = (InceptionStage((Layer(8, 3, 2),), (NARROW,), 1, auxiliary=(1, 3)), *NET.stages[1:])
    assert {"aux1_head", "aux2_head"} <= traced(NET.clone(stages=stages), (1, 16, 16, 3))[1]["params"].keys()


@pytest.mark.parametrize(("pixels", "windows"), [(14, 4), (7, 1), (5, 1), (3, 1), (1, 1)])
def test_window_of_the_auxiliary_pool_shrinks_to_small_maps(pixels, windows):
    x = jnp.arange(pixels, dtype=jnp.float32)[None, :, None]
    pooled = small_window_pool(x)
    assert pooled.shape == (1, windows, 1)
    assert pooled[0, 0, 0] == np.arange(min(5, pixels)).mean()


def test_remat_changes_no_parameter_and_no_output():
    net = InceptionNet((InceptionStage((Layer(8, 3, 2),), (NARROW,), 1),), num_classes=5)
    again = net.clone(remat=True)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 3)), jnp.float32)
    _, variables = traced(net, x.shape)
    assert jax.tree.structure(traced(again, x.shape)[1]) == jax.tree.structure(variables)
    filled = fill(variables)
    outputs = [jax.jit(functools.partial(n.apply, train=False))(filled, x) for n in (net, again)]
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)  # two programs of the same operations
