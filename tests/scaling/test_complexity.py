"""`research.scaling.complexity`: laws over random layers, then worked examples with numbers."""

import functools
import itertools
import json
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from research import models
from research.errors import UserError
from research.nn.squeeze_excite import SqueezeExcite
from research.scaling import complexity, inspect
from research.scaling.complexity import Cost

FEW = settings(max_examples=25, deadline=None)  # each example traces a module twice


def totals(cost: Cost) -> tuple[int, ...]:
    """What must not change when a network is only written differently."""
    conventions = cost.conventions
    return tuple(conventions[key] for key in sorted(conventions))


def layer(cost: Cost, path: str) -> complexity.Layer:
    (found,) = [row for row in cost.layers if row.path == path]
    return found


def assert_rows_add_up(cost: Cost) -> None:
    for column in ("params", "batch_stats", "macs", "activations"):
        assert sum(getattr(row, column) for row in cost.layers) == getattr(cost, column), column
    assert all(type(n) is int for n in (*totals(cost), *(row.macs for row in cost.layers)))


# laws ----------------------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.integers(1, 3))
    axes = functools.partial(st.lists, min_size=rank, max_size=rank)
    taps, dilation = draw(axes(st.integers(1, 4))), draw(axes(st.integers(1, 3)))
    groups = draw(st.sampled_from([1, 2, 4]))
    extra = draw(axes(st.integers(0, 6)))
    return {
        "size": [(f - 1) * d + 1 + e for f, d, e in zip(taps, dilation, extra, strict=True)],
        "taps": taps,
        "dilation": dilation,
        "stride": draw(axes(st.integers(1, 3))),
        "padding": draw(axes(st.tuples(st.integers(0, 3), st.integers(0, 3)))),
        "groups": groups,
        "inputs": groups * draw(st.integers(1, 3)),
        "outputs": groups * draw(st.integers(1, 3)),
        "batch": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
    }


@FEW
@given(convolutions())
def test_any_convolution_costs_its_closed_form(case: dict[str, Any]) -> None:
    conv = nn.Conv(
        case["outputs"],
        case["taps"],
        case["stride"],
        padding=case["padding"],
        kernel_dilation=case["dilation"],
        feature_group_count=case["groups"],
        use_bias=case["bias"],
    )
    cost = complexity.count(conv, (case["batch"], *case["size"], case["inputs"]))
    (row,) = cost.layers
    per_axis = [case[key] for key in ("size", "taps", "stride", "padding", "dilation")]
    out = [(n + sum(p) - ((f - 1) * d + 1)) // s + 1 for n, f, s, p, d in zip(*per_axis, strict=True)]
    assert row.output_shape == (case["batch"], *out, case["outputs"])
    weights = math.prod(case["taps"]) * case["inputs"] // case["groups"] * case["outputs"]
    assert cost.params == weights + case["bias"] * case["outputs"]
    assert cost.macs == case["batch"] * math.prod(out) * weights
    assert cost.activations == case["batch"] * math.prod(out) * case["outputs"]
    assert_rows_add_up(cost)

    def real(n: int, f: int, s: int, p: tuple[int, int], d: int, positions: int) -> int:
        return sum(0 <= o * s + t * d - p[0] < n for o in range(positions) for t in range(f))

    taps = [real(*axis) for axis in zip(*per_axis, out, strict=True)]
    channels = case["inputs"] // case["groups"] * case["outputs"]
    assert cost.conventions["multiply_adds_xla"] == case["batch"] * math.prod(taps) * channels


@FEW
@given(convolutions(), st.integers(1, 3))
def test_the_xla_like_count_is_what_xla_counts(case: dict[str, Any], spread: int) -> None:
    rank = len(case["taps"])
    names = ("N" + "DHW"[:rank] + "C", "DHW"[:rank] + "IO", "N" + "DHW"[:rank] + "C")

    class Raw(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array) -> jax.Array:
            shape = (*case["taps"], case["inputs"] // case["groups"], case["outputs"])
            kernel = self.param("kernel", nn.initializers.zeros, shape)
            return lax.conv_general_dilated(
                images,
                kernel,
                case["stride"],
                case["padding"],
                lhs_dilation=[spread] * rank,
                rhs_dilation=case["dilation"],
                dimension_numbers=names,
                feature_group_count=case["groups"],
            )

    shape = (case["batch"], *case["size"], case["inputs"])
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(Raw().init, jax.random.key(0), images)
    lowered = jax.jit(Raw().apply).lower(variables, images)  # analysed as it stands: nothing is compiled
    assert complexity.count(Raw(), shape).conventions["flops_xla"] == lowered.cost_analysis().get("flops", 0)


@FEW
@given(st.data())
def test_any_product_costs_what_it_sums(data: st.DataObject) -> None:
    letters = {letter: data.draw(st.integers(1, 4), letter) for letter in "abcdefg"}
    shared, summed, left, right = "ab"[: data.draw(st.integers(0, 2))], "cd", "ef", "g"
    order = lambda names: "".join(data.draw(st.permutations(names)))  # noqa: E731
    one, other, out = order(shared + summed + left), order(shared + summed + right), shared + left + right

    class Product(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            kernel = self.param("kernel", nn.initializers.zeros, [letters[c] for c in other])
            return jnp.einsum(f"{one},{other}->{out}", x, kernel)

    cost = complexity.count(Product(), [letters[c] for c in one])
    assert cost.macs == math.prod(letters[c] for c in shared + summed + left + right)
    assert cost.activations == math.prod(letters[c] for c in out)


class Block(nn.Module):
    """Conv, norm and activation; keeps its width."""

    features: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Conv(self.features, (3, 3), name="conv")(x)
        return nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))


class Network(nn.Module):
    """Three blocks, a pool and a head, with each block wrapped by `wrap`."""

    wrap: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for i in range(3):
            block = Block(name=f"block{i}")
            if self.wrap == "remat":
                x = nn.remat(lambda m, x: m(x, train=train))(block, x)
            elif self.wrap == "jit":
                x = nn.jit(lambda m, x: m(x, train=train))(block, x)
            else:
                x = block(x, train=train)
        return nn.Dense(5, name="head")(nn.avg_pool(x, (2, 2), (2, 2)).mean((1, 2)))


@pytest.mark.parametrize("wrap", ["remat", "jit"])
def test_wrapping_blocks_changes_no_row(wrap: str) -> None:
    expected = complexity.count(Network(), (2, 8, 8, 4))
    assert_rows_add_up(expected)
    assert complexity.count(Network(wrap), (2, 8, 8, 4)) == expected


def test_training_mode_costs_the_same() -> None:
    shape = (2, 8, 8, 4)
    assert totals(complexity.count(Network(), shape, train=True)) == totals(complexity.count(Network(), shape))


class Stacked(nn.Module):
    """The same dense layers (and the same convolution on images), written as a scan or as a loop."""

    scan: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.zeros, (5, 3, 3, 4, 4))
        step = lambda x, k: (lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=DIMENSIONS), None)  # noqa: E731
        if self.scan:
            return lax.scan(step, x, kernel)[0]
        for i in range(5):
            x, _ = step(x, kernel[i])
        return x


DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def test_a_scan_costs_its_unrolled_form_and_sees_as_far() -> None:
    scanned, unrolled = (complexity.count(Stacked(scan), (2, 16, 16, 4)) for scan in (True, False))
    assert totals(scanned) == totals(unrolled)
    assert scanned.layers[-1].receptive_field == unrolled.layers[-1].receptive_field == (11, 11)
    assert scanned.layers[0].repeats == 5
    assert_rows_add_up(scanned)


def test_counts_follow_the_batch_and_parameters_do_not() -> None:
    one, three = (complexity.count(Network(), (n, 8, 8, 4)) for n in (1, 3))
    assert (three.macs, three.activations, three.params) == (3 * one.macs, 3 * one.activations, one.params)


def test_parameters_are_those_of_a_real_initialisation() -> None:
    variables = Network().init(jax.random.key(0), jnp.zeros((1, 8, 8, 4)), train=False)
    cost = complexity.count(Network(), (1, 8, 8, 4))
    assert cost.params == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert cost.batch_stats == sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"]))
    assert cost.conventions["params_keras"] == cost.params + cost.batch_stats


def test_counting_compiles_nothing() -> None:
    compiled: list[str] = []

    def listener(event: str, *_: object, **__: object) -> None:
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        complexity.count(Network(), (3, 9, 9, 4))
        assert any("trace" in event for event in compiled)  # the listener is heard
        assert not [event for event in compiled if "backend_compile" in event]
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


# any module of the user's --------------------------------------------------------------------------------------------


def test_a_sequential_without_train() -> None:
    flat = lambda x: x.reshape(x.shape[0], -1)  # noqa: E731
    cost = complexity.count(
        nn.Sequential([nn.Conv(6, (5, 5), padding="VALID"), nn.relu, flat, nn.Dense(3)]), (1, 9, 9, 2)
    )
    assert [(row.path, row.operation) for row in cost.layers] == [("layers_0", "conv 5x5"), ("layers_3", "dense")]
    assert cost.macs == 5 * 5 * 6 * 50 + 5 * 5 * 6 * 3
    assert cost.layers[-1].receptive_field == (9, 9)
    assert_rows_add_up(cost)


def test_attention_products_count_as_multiply_adds_and_not_as_activations() -> None:
    tokens, width, heads = 7, 8, 2
    cost = complexity.count(nn.MultiHeadDotProductAttention(heads), (1, tokens, width))
    products = [row for row in cost.layers if row.kind == "product"]
    assert [row.macs for row in products] == [tokens * tokens * width] * 2
    assert cost.macs == 4 * tokens * width * width + 2 * tokens * tokens * width
    assert cost.activations == 4 * tokens * width
    assert cost.params == 4 * width * (width + 1)
    assert layer(cost, "value").receptive_field == (1,)
    assert layer(cost, "out").receptive_field == (tokens,)
    assert_rows_add_up(cost)


def test_a_transposed_convolution_counts_every_tap_of_every_input() -> None:
    cost = complexity.count(nn.ConvTranspose(4, (3, 3), strides=(2, 2), use_bias=False), (1, 8, 8, 5))
    assert cost.layers[0].operation == "transposed conv 3x3 /2"
    assert cost.layers[0].output_shape == (1, 16, 16, 4)
    assert cost.macs == 8 * 8 * 9 * 5 * 4
    assert cost.activations == 16 * 16 * 4
    assert cost.layers[0].receptive_field == (2, 2)


@pytest.mark.parametrize(("space", "taps"), [((32,), (3,)), ((8, 8, 8), (3, 3, 3)), ((6, 4), (1, 7))])
def test_convolutions_of_any_rank(space: tuple[int, ...], taps: tuple[int, ...]) -> None:
    cost = complexity.count(nn.Conv(5, taps), (1, *space, 2))
    assert cost.macs == math.prod(space) * math.prod(taps) * 2 * 5
    assert cost.layers[0].receptive_field == taps


def test_a_recurrent_cell_counts_every_step() -> None:
    cost = complexity.count(nn.RNN(nn.SimpleCell(6)), (2, 9, 4))
    assert cost.macs == 2 * 9 * (4 * 6 + 6 * 6)
    assert cost.params == 4 * 6 + 6 * 6 + 6
    assert_rows_add_up(cost)


class Lowered(nn.Module):
    """A convolution lowered one way on the CPU and natively elsewhere."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.zeros, (3, 3, 1, 4))
        native = functools.partial(
            lax.conv_general_dilated,
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=DIMENSIONS,
            feature_group_count=4,
        )

        def shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
            padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            taps = itertools.product(range(3), range(3))
            return sum(padded[:, i : i + 8, j : j + 8] * kernel[i, j][None, None] for i, j in taps)

        return lax.platform_dependent(x, kernel, cpu=shifted, default=native)


def test_a_convolution_counts_natively_however_it_is_lowered() -> None:
    (row,) = complexity.count(Lowered(), (1, 8, 8, 4)).layers
    assert (row.operation, row.macs, row.activations, row.params) == ("conv 3x3 g=4", 8 * 8 * 4 * 9, 256, 36)
    assert row.receptive_field == (3, 3)


class Choice(nn.Module):
    """A branch taken by the data: the dearer one counts."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        small, large = (self.param(n, nn.initializers.zeros, (4, 4)) for n in ("small", "large"))
        return lax.cond(x.sum() > 0, lambda x: x @ small, lambda x: x @ large @ large, x)


def test_of_a_branch_the_dearer_side_counts() -> None:
    cost = complexity.count(Choice(), (1, 4))
    assert (cost.macs, cost.params) == (32, 32)
    assert_rows_add_up(cost)


class Loop(nn.Module):
    """A loop of unknown length, with or without a product in it."""

    product: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.zeros, (4, 4))
        body = (lambda x: x @ kernel) if self.product else (lambda x: x + 1)
        return lax.while_loop(lambda x: (x < 3).all(), body, x) @ kernel


def test_a_loop_of_unknown_length_is_refused_only_where_it_would_have_to_be_counted() -> None:
    assert complexity.count(Loop(False), (1, 4)).macs == 16
    with pytest.raises(UserError, match="while"):
        complexity.count(Loop(True), (1, 4))


class Odd(nn.Module):
    """Parameters outside of layers, shared layers, resampling, a fixed filter and an unread auxiliary head."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.image.resize(x, (x.shape[0], 8, 8, 2), "bilinear") * self.param(
            "gain", nn.initializers.ones, (1, 1, 1, 2)
        )
        shared = nn.Conv(2, (3, 3), name="shared")
        x = shared(nn.LayerNorm(use_bias=False, use_scale=False, name="plain_norm")(shared(x)))
        self.sow("intermediates", "auxiliary", nn.Dense(7, name="auxiliary")(x))
        return x


def test_parameters_outside_layers_shared_and_unread_ones_each_have_one_row() -> None:
    cost = complexity.count(Odd(), (1, 4, 4, 2))
    assert_rows_add_up(cost)
    assert [(row.path, row.kind, row.params, row.macs) for row in cost.layers] == [
        ("gain", "parameter", 2, 0),
        ("shared", "convolution", 38, 64 * 36),
        ("plain_norm", "norm", 0, 0),
        ("shared", "convolution", 0, 64 * 36),
        ("auxiliary/bias", "parameter", 7, 0),
        ("auxiliary/kernel", "parameter", 14, 0),
    ]


def test_conventions_side_by_side() -> None:
    cost = complexity.count(Network(), (1, 8, 8, 4))
    conv, head = 3 * 64 * 9 * 16, 20
    assert cost.conventions == {
        "multiply_adds": conv + head,
        "flops": 2 * (conv + head),
        "multiply_adds_fvcore": conv + head + 3 * 256,
        "multiply_adds_xla": 3 * 22 * 22 * 16 + head,  # of 3 taps at 8 positions, 22 fall inside
        "flops_xla": 2 * (3 * 22 * 22 * 16 + head),
        "params": 3 * (148 + 8) + 25,
        "params_keras": 3 * (148 + 16) + 25,
        "activations": 3 * 256 + 5,
        "activations_with_pooling": 3 * 256 + 5 + 64 + 4,
        "activations_with_gates": 3 * 256 + 5,
    }


def test_the_layers_of_gates_are_no_activations() -> None:
    cost = complexity.count(SqueezeExcite(2), (1, 4, 4, 8))
    assert (cost.params, cost.macs) == (8 * 2 + 2 + 2 * 8 + 8, 32)
    assert cost.activations == 0
    assert cost.conventions["activations_with_gates"] == 2 + 8


# worked examples -----------------------------------------------------------------------------------------------------


def test_a_1x1_bottleneck_in_front_of_a_5x5() -> None:
    direct = complexity.count(nn.Conv(32, (5, 5)), (1, 28, 28, 192))
    reduced = complexity.count(nn.Sequential([nn.Conv(16, (1, 1)), nn.Conv(32, (5, 5))]), (1, 28, 28, 192))
    assert (direct.macs, reduced.macs) == (120_422_400, 12_443_648)
    assert round(direct.macs / reduced.macs, 2) == 9.68


def test_a_depthwise_separable_convolution_of_an_image() -> None:
    plain = nn.Conv(64, (3, 3), use_bias=False)
    separable = nn.Sequential(
        [nn.Conv(3, (3, 3), feature_group_count=3, use_bias=False), nn.Conv(64, (1, 1), use_bias=False)]
    )
    cost = complexity.count(separable, (1, 32, 32, 3))
    assert complexity.count(plain, (1, 32, 32, 3)).params == 1_728
    assert [row.params for row in cost.layers] == [27, 192]
    assert cost.params == 219


def test_a_valid_3x3_convolution_of_32x32() -> None:
    assert (
        complexity.count(nn.Conv(64, (3, 3), padding="VALID", use_bias=False), (1, 32, 32, 3)).macs == 30 * 30 * 1_728
    )


def test_six_filters_of_a_colour_image_and_the_dense_layer_they_replace() -> None:
    filters = complexity.count(nn.Conv(6, (5, 5), padding="VALID"), (1, 32, 32, 3))
    assert (filters.params, filters.layers[0].output_shape) == (456, (1, 28, 28, 6))
    assert complexity.count(nn.Dense(4_704, use_bias=False), (1, 3_072)).params == 14_450_688


@pytest.mark.parametrize(("count", "seen"), [(3, 7), (500, 1_001)])
def test_receptive_field_of_stacked_3x3_layers(count: int, seen: int) -> None:
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            kernel = self.param("kernel", nn.initializers.zeros, (3, 3, 1, 1))

            def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
                return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS), None

            return lax.scan(step, x, None, length=count)[0]

    assert complexity.count(Stack(), (1, 16, 16, 1)).layers[-1].receptive_field == (seen, seen)


def test_receptive_field_is_what_a_gradient_reaches() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            ones = nn.initializers.ones
            x = nn.Conv(1, (3, 3), 2, kernel_init=ones)(x)
            x = nn.avg_pool(x, (2, 2), (2, 2))[:, ::2]
            x = x + nn.Conv(1, (3, 1), kernel_dilation=2, kernel_init=ones)(x)
            return nn.ConvTranspose(1, (4, 4), (2, 2), kernel_init=ones)(x)

    images = jnp.zeros((1, 96, 96, 1))
    variables = Net().init(jax.random.key(0), images)
    middle = lambda images: Net().apply(variables, images)[0, 12:14, 24:26, 0]  # noqa: E731
    reached = np.asarray(jax.jacobian(middle)(images))[:, :, 0, ..., 0] != 0  # row, column, height, width
    seen = [
        max(np.ptp(np.nonzero(each.any(1 - axis))[0]) + 1 for each in reached.reshape(4, 96, 96)) for axis in (0, 1)
    ]
    assert complexity.count(Net(), images.shape).layers[-1].receptive_field == tuple(seen)


def test_space_to_depth_and_flattening_keep_the_receptive_field_exact() -> None:
    class Patches(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            b, h, w, c = x.shape
            x = x.reshape(b, h // 4, 4, w // 4, 4, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h * w // 16, 16 * c)
            x = nn.Dense(8, name="embed")(x)
            token = self.param("token", nn.initializers.zeros, (1, 1, 8))
            x = jnp.concatenate([jnp.broadcast_to(token, (b, 1, 8)), x], axis=1)
            x = nn.Dense(8, name="mix")(x.swapaxes(1, 2)[:, :, :8])
            return nn.Dense(2, name="head")(x.mean(1))

    cost = complexity.count(Patches(), (1, 32, 24, 3))
    assert layer(cost, "embed").receptive_field == (4, 4)
    assert layer(cost, "mix").receptive_field == (32, 24)
    assert layer(cost, "token").params == 8


# the catalogue and the printed table ---------------------------------------------------------------------------------


def test_published_activations_and_receptive_field_of_resnet50() -> None:
    cost = complexity.count(models.create("resnet50"), (1, 224, 224, 3))
    assert cost.activations == 11_114_984
    # Araujo et al. 2019, table 1: 483 for the form that strides on the 1x1, to which a stride on the 3x3 is 427
    assert layer(cost, "head").receptive_field == (427, 427)
    original = complexity.count(models.create("resnet50_v1"), (1, 224, 224, 3))
    assert layer(original, "head").receptive_field == (483, 483)


@pytest.mark.parametrize("name", ["lenet5", "resnet8", "resnet18", "inception_v3", "efficientnet_b0", "vit_ti16"])
def test_the_table_fits_80_columns_and_states_every_total(name: str) -> None:
    cost = complexity.count(models.create(name), (1, *models.variant(name).input_shape))
    text = inspect.render(name, cost, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"{total:,}" in text for total in cost.conventions.values())
    assert "…" not in text
    # Nothing is cut off at the right: each layer's receptive field ends a line.
    seen = [str(layer.receptive_field[0]) for layer in cost.layers if len(set(layer.receptive_field)) == 1]
    ends = iter(line.rsplit(" ", 1)[-1] for line in text.splitlines())
    assert all(field in ends for field in seen)


def test_show_as_json_carries_exact_integers() -> None:
    text = inspect.show("lenet5", resolution=None, num_classes=7, json=True, fields={})
    shown = json.loads(text)
    assert shown["params"] == sum(row["params"] for row in shown["layers"]) == 61_706 - 3 * 85
    assert shown["macs"] == sum(row["macs"] for row in shown["layers"])
    assert shown["layers"][0] == {
        "path": "conv1",
        "kind": "convolution",
        "operation": "conv 5x5",
        "output_shape": [1, 28, 28, 6],
        "params": 156,
        "batch_stats": 0,
        "macs": 117_600,
        "activations": 4_704,
        "receptive_field": [5, 5],
        "repeats": 1,
    }


def test_show_names_what_is_wrong() -> None:
    show = functools.partial(inspect.show, num_classes=None, json=False)
    with pytest.raises(UserError, match="nearest: resnet8"):
        show("resnet1", resolution=None, fields={})
    with pytest.raises(UserError, match="resnet18"):
        show("resnet18", resolution=7, fields={})
    with pytest.raises(UserError, match="shortcut"):
        show("resnet20", resolution=None, fields={"shorcut": "A"})


def test_inspect_answers_the_textbook_question_about_lenet5():
    """Activation size, parameters, multiply-adds and receptive field of each layer of LeNet-5, by hand."""
    found = json.loads(inspect.show("lenet5", resolution=None, num_classes=None, json=True, fields={}))
    rows = [
        (layer["output_shape"][1:], layer["params"], layer["macs"], set(layer["receptive_field"]))
        for layer in found["layers"]
    ]
    assert rows == [
        ([28, 28, 6], 6 * (5 * 5 + 1), 28 * 28 * 6 * 25, {5}),
        ([14, 14, 6], 0, 0, {6}),
        ([10, 10, 16], 16 * (5 * 5 * 6 + 1), 10 * 10 * 16 * 150, {14}),
        ([5, 5, 16], 0, 0, {16}),
        ([120], 120 * (400 + 1), 120 * 400, {32}),
        ([84], 84 * (120 + 1), 84 * 120, {32}),
        ([10], 10 * (84 + 1), 10 * 84, {32}),
    ]
    assert found["params"] == 61_706
