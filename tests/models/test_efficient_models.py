"""SqueezeNet, the MobileNets, the EfficientNets and ViT against the arithmetic and the tables of their papers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import models
from research.errors import UserError
from research.models import mobilenet_v3, vit
from research.scaling import complexity
from research.testing.model_laws import fill, initial_shapes, paths

EFFICIENT = [n for n in models.names() if n.startswith(("squeezenet", "mobilenet", "efficientnet", "vit"))]
GOOGLE = [n for n in EFFICIENT if n.startswith(("mobilenet", "efficientnet"))]


def cost(name, side, **fields):
    return complexity.count(models.create(name, **fields), (1, side, side, 3))


def shapes(model, side):
    return {path: leaf.shape for path, leaf in paths(initial_shapes(model, (side, side, 3))[1]["params"]).items()}


def features(name, side, **fields):
    """Shapes of the stages' outputs, without the batch."""
    model = models.create(name, **fields)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    _, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False, capture_intermediates=True), images
    )
    seen = variables["intermediates"]
    return [seen[f"stage{number}"]["__call__"][0].shape[1:] for number, _ in enumerate(model.stages, 1)]


# Howard et al. 2017, table 7, prints 418, 290 and 186 million.
@pytest.mark.parametrize(("side", "macs"), [(192, 418_121_728), (160, 290_675_200), (128, 186_400_768)])
def test_mobilenet_at_smaller_resolutions(side, macs):
    assert cost("mobilenet_v1", side).macs == macs
    assert cost("mobilenet_v1", side).params == 4_231_976


# Howard et al. 2017, table 4 prints 4866 and 29.3 million, table 5 prints 307 and 2.9, and 325 and 2.6 for width 0.75.
@pytest.mark.parametrize(
    ("name", "options", "macs", "params"),
    [
        ("mobilenet_v1", {"separable": False}, 4_867_293_184, 29_294_088),
        ("mobilenet_v1", {"shallow": True}, 307_323_392, 2_887_976),
        ("mobilenet_v1_x0.75", {}, 325_400_448, 2_585_560),
    ],
)
def test_mobilenets_of_ordinary_convolutions_shallow_and_thin(name, options, macs, params):
    assert (cost(name, 224, **options).macs, cost(name, 224, **options).params) == (macs, params)


def test_an_efficientnet_of_some_stages_has_their_rows_and_strides_as_often() -> None:
    whole, part = (models.create("efficientnet_b0", **o) for o in ({}, {"keep_stages": (2, 3, 5)}))
    assert part.stages == tuple(whole.stages[number - 1] for number in (2, 3, 5))
    assert (whole.minimum, part.minimum) == (32, 8)
    assert features("efficientnet_b0", 64, keep_stages=(2, 3, 5)) == [(16, 16, 24), (8, 8, 40), (8, 8, 112)]
    # For small images neither the stem strides nor the first stage that would.
    small = {"stem": "cifar", "keep_stages": (2, 3, 5)}
    assert features("efficientnet_b0", 16, **small) == [(16, 16, 24), (8, 8, 40), (8, 8, 112)]
    assert models.create("efficientnet_b0", **small).minimum == 2
    assert models.create("efficientnet_b0", stem="cifar", keep_stages=(1, 5)).minimum == 1
    assert models.create("efficientnet_b0", stem="cifar").minimum == 8


@pytest.mark.parametrize("stages", [(), (0, 1), (8,), (2, 9)])
def test_stages_that_efficientnet_does_not_have_are_refused(stages) -> None:
    with pytest.raises(UserError, match="expected numbers from 1 to 7, one at least"):
        models.create("efficientnet_b0", keep_stages=stages)


def test_expansion_is_that_of_every_row_of_mobilenet_v2_but_the_first():
    rows = models.create("mobilenet_v2", expansion=3.0).stages
    assert [row.expansion for row in rows] == [1] + [3.0] * 6
    assert models.create("mobilenet_v2", expansion=6) == models.create("mobilenet_v2")


def test_published_activations():
    # The number is without the units of squeeze-and-excitation, whose two layers see one mean per channel.
    assert cost("efficientnet_b0", 224, excite=0.0).activations == 6_738_696
    with_excite = cost("efficientnet_b0", 224)
    units = sum(layer.activations for layer in with_excite.layers if "/excite/" in layer.path)
    assert with_excite.activations - units == 6_738_696


def test_fire_module_arithmetic():
    # Iandola et al. 2016, table 1, fire2: 96 -> 16 -> 64 + 64, with biases.
    fire = shapes(models.create("squeezenet1_0"), 64)
    block = {path.removeprefix("stage1_block1/"): math.prod(s) for path, s in fire.items() if "stage1_block1" in path}
    assert block == {
        "squeeze/kernel": 96 * 16,
        "squeeze/bias": 16,
        "expand1x1/kernel": 16 * 64,
        "expand1x1/bias": 64,
        "expand3x3/kernel": 9 * 16 * 64,
        "expand3x3/bias": 64,
    }
    assert sum(block.values()) == 11_920  # as the table prints it, before compression


def test_squeezenet_table_1():
    sides = [features("squeezenet1_0", 227)[number][:2] for number in (0, 1, 2, 4, 5)]
    # 227 pixels give conv1's 111, maxpool1's 55, maxpool4's 27 and maxpool8's 13 of the table.
    assert sides == [(55, 55), (55, 55), (27, 27), (27, 27), (13, 13)]
    widths = [shape[-1] for shape in features("squeezenet1_0", 227)]
    assert widths == [128, 256, 256, 384, 512, 512]


def test_squeezenet_ratios_and_padding():
    wide = shapes(models.create("squeezenet1_1", squeeze_ratio=0.5, share_3x3=0.25), 64)
    assert wide["stage1_block1/squeeze/kernel"] == (1, 1, 64, 64)
    assert wide["stage1_block1/expand1x1/kernel"] == (1, 1, 64, 96)
    assert wide["stage1_block1/expand3x3/kernel"] == (3, 3, 64, 32)
    only = shapes(models.create("squeezenet1_1", share_3x3=1.0), 64)
    assert not any("expand1x1" in path for path in only)
    # conv1 "SAME" and pools rounded down: 227 -> 114 -> 56 -> 27 -> 13.
    assert [s[0] for s in features("squeezenet1_1", 227, padding="keras")] == [56, 27, 13, 13]
    assert [s[0] for s in features("squeezenet1_1", 227)] == [56, 28, 14, 14]


def test_squeezenet_bypass_is_where_widths_are_equal():
    plain, bypass = (models.create("squeezenet1_0", bypass=b, act=jnp.abs) for b in (False, True))
    variables = fill(initial_shapes(plain, (64, 64, 3))[1])
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 64, 64, 3)), jnp.float32)
    _, seen = bypass.apply(variables, images, train=False, capture_intermediates=True, mutable=["intermediates"])
    outputs = {name: value["__call__"][0] for name, value in seen["intermediates"].items() if "block" in name}
    # Section 6: around fire3, 5, 7 and 9. Their output less their two layers is then their input.
    for name, entering in (("stage1_block2", "stage1_block1"), ("stage4_block2", "stage4_block1")):
        layers = seen["intermediates"][name]
        own = jnp.concatenate([jnp.abs(layers[e]["__call__"][0]) for e in ("expand1x1", "expand3x3")], axis=-1)
        np.testing.assert_allclose(outputs[name] - own, outputs[entering], rtol=1e-4, atol=1e-4)  # float32 sums
    for name in ("stage1_block1", "stage2_block1", "stage4_block1"):
        layers = seen["intermediates"][name]
        own = jnp.concatenate([jnp.abs(layers[e]["__call__"][0]) for e in ("expand1x1", "expand3x3")], axis=-1)
        assert np.array_equal(outputs[name], own)


def test_mobilenet_v2_last_layer_grows_only_above_one():
    final = {
        name: models.create(name).final.keywords["width"] for name in models.names() if name.startswith("mobilenet_v2")
    }
    assert final == {
        "mobilenet_v2": 1280,
        "mobilenet_v2_x0.35": 1280,
        "mobilenet_v2_x0.5": 1280,
        "mobilenet_v2_x0.75": 1280,
        "mobilenet_v2_x1.3": 1664,
        "mobilenet_v2_x1.4": 1792,
    }


def test_a_variants_own_multiplier_and_the_option_multiply():
    assert models.create("mobilenet_v2", width_multiplier=0.75) == models.create("mobilenet_v2_x0.75")
    assert models.create("mobilenet_v2", width_multiplier=1.4) == models.create("mobilenet_v2_x1.4")
    assert models.create("mobilenet_v1_x0.5", width_multiplier=0.5) == models.create("mobilenet_v1_x0.25")
    scaled = models.create("efficientnet_b0", width_multiplier=1.1, depth_multiplier=1.2, dropout=0.3)
    assert scaled == models.create("efficientnet_b2")


def test_mobilenet_v3_expanded_widths_are_those_of_the_tables():
    # Howard et al. 2019, tables 1 and 2, column "exp size" (where it is not the input's).
    large = [64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960]
    small = [72, 88, 96, 240, 240, 120, 144, 288, 576, 576]
    for name, sizes in (("mobilenet_v3_large", large), ("mobilenet_v3_small", small)):
        found = shapes(models.create(name), 32)
        assert [shape[-1] for path, shape in found.items() if path.endswith("expand/conv/kernel")] == sizes
    assert [row.excited for row in mobilenet_v3.LARGE.rows] == [False] * 3 + [True] + [False] * 3 + [True] * 2


def test_mobilenet_v3_nonlinearities():
    assert [row.nonlinearity for row in mobilenet_v3.LARGE.rows] == ["RE"] * 4 + ["HS"] * 5
    assert [row.nonlinearity for row in mobilenet_v3.SMALL.rows] == ["RE"] * 3 + ["HS"] * 4


def test_efficientnet_resolutions_and_dropout():
    rows = [models.variant(f"efficientnet_b{n}").input_shape[0] for n in range(8)]
    assert rows == [224, 240, 260, 300, 380, 456, 528, 600]
    assert [models.create(f"efficientnet_b{n}").dropout for n in range(8)] == [0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5]
    assert models.create("efficientnet_b7", dropout=0.1).dropout == 0.1
    assert models.create("efficientnet_b7", dropout=0.0).dropout == 0.0


def test_efficientnet_b7_rows():
    widths = [stage.width for stage in models.create("efficientnet_b7").stages]
    blocks = [stage.blocks for stage in models.create("efficientnet_b7").stages]
    assert (widths, blocks) == ([32, 48, 80, 160, 224, 384, 640], [4, 7, 7, 10, 10, 13, 4])


def test_efficientnet_lite_scales_neither_stem_nor_head_nor_the_depth_of_the_end_stages():
    lite4 = models.create("efficientnet_lite4")
    assert (lite4.stem_width, lite4.final.keywords["width"]) == (32, 1280)
    assert [stage.blocks for stage in lite4.stages] == [1, 4, 4, 6, 6, 8, 1]
    assert [stage.width for stage in lite4.stages] == [24, 32, 56, 112, 160, 272, 448]
    assert not any("excite" in path for path in shapes(lite4, 32))


def test_stochastic_depth_grows_from_nothing_at_the_first_block():
    # The released code: rate x block / blocks, so 0 at first and 0.2 x 15 / 16 at last.
    model = models.create("efficientnet_b0")
    assert (model.stochastic_depth, model.drop_first) == (0.2, False)
    assert sum(stage.blocks for stage in model.stages) == 16


def test_initial_values_of_the_release():
    def deviations(name):
        model = models.create(name)
        block = model.block(width=80, conv=model.conv, norm=model.norm, **({} if "v1" in name else {"expansion": 6.0}))
        params = block.init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)), train=False)["params"]
        head = model.head_init(jax.random.key(0), (320, 1000))
        return {path: float(a.std()) for path, a in paths(params).items() if a.ndim > 2} | {"head": float(head.std())}

    # Normal with variance 2 / (9 x 1): the fan-out of a depthwise kernel is that of one channel.
    efficient = deviations("efficientnet_b0")
    assert efficient["depthwise/conv/kernel"] == pytest.approx(math.sqrt(2 / 9), rel=0.05)
    assert efficient["project/conv/kernel"] == pytest.approx(math.sqrt(2 / 80), rel=0.05)
    assert efficient["head"] == pytest.approx(1 / math.sqrt(3 * 1000), rel=0.05)
    # A normal of deviation 0.09 without what is beyond two deviations has 0.88 of it.
    for deviation in deviations("mobilenet_v1").values():
        assert deviation == pytest.approx(0.0792, rel=0.1)


def test_every_kernel_of_mobilenet_v3_starts_as_the_releases():
    model = models.create("mobilenet_v3_small")
    excited = model.stages[3]
    block = model.block(**excited.arguments(0), conv=model.conv, norm=model.norm, act=model.act, dtype=model.dtype)
    params = paths(block.init(jax.random.key(0), jnp.zeros((1, 8, 8, 64)), train=False)["params"])
    kernels = {path: float(leaf.std()) for path, leaf in params.items() if path.endswith("kernel")}
    assert {"excite/reduce/kernel", "excite/expand/kernel"} < kernels.keys()
    assert kernels == {path: pytest.approx(0.0792, rel=0.1) for path in kernels}


@pytest.mark.parametrize("name", GOOGLE)
def test_padding_and_epsilon_are_the_releases_unless_set(name):
    model = models.create(name)
    assert model.conv.keywords["padding"] == "SAME"
    assert model.norm.keywords == {"momentum": 0.9 if name.startswith("efficientnet_v2") else 0.99, "epsilon": 1e-3}
    port = models.create(name, padding="symmetric", norm_epsilon=1e-5)
    assert "padding" not in getattr(port.conv, "keywords", {})
    assert port.norm.keywords["epsilon"] == 1e-5


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v1_x0.25", "mobilenet_v2", "efficientnet_b0", "vit_ti16"])
def test_small_images_stem(name):
    variant = models.variant(name)
    small = models.create(name, stem="cifar")
    assert small.minimum < variant.minimum
    side = 32
    last, usual = features(name, side, stem="cifar")[-1], features(name, side)[-1]
    assert math.prod(last[:-1]) > math.prod(usual[:-1])
    models.check_input(name, (small.minimum, small.minimum, 3), stem="cifar")
    with pytest.raises(UserError, match="at least"):
        models.check_input(name, (small.minimum, small.minimum, 3))


@pytest.mark.parametrize("name", EFFICIENT)
def test_no_network_refuses_its_smallest_image(name):
    smallest = models.variant(name).minimum
    assert initial_shapes(models.create(name), (smallest, smallest, 3))[0].shape[-1] == 1000


def test_vit_heads_and_tokens():
    assert {row.width // vit.HEAD_WIDTH for row in vit.ROWS.values()} == {3, 6, 12, 16}  # table 1 of both papers
    found = shapes(models.create("vit_ti16"), 224)
    assert found["positions"] == (1, 1 + 14 * 14, 192)
    assert found["stage1_block1/attention/qkv/kernel"] == (192, 3 * 192)
    assert shapes(models.create("vit_ti16"), 250)["positions"] == (1, 1 + 15 * 15, 192)  # 10 pixels are left over
    assert shapes(models.create("vit_ti16", width_multiplier=1.5), 32)["class_token"] == (1, 1, 5 * 64)
    # A width that is no multiple of 64 has as many whole heads as come nearest to it.
    odd = shapes(models.create("vit_ti16", width_multiplier=1.25, channel_divisor=8), 32)
    assert odd["stage1_block1/attention/qkv/kernel"] == (240, 3 * 4 * 64)
    assert odd["stage1_block1/attention/out/kernel"] == (4 * 64, 240)


def test_queries_keys_and_values_start_as_kernels_of_their_own():
    # Glorot and Bengio 2010, eq. 16, c inputs and c outputs: uniform within sqrt(6 / 2c), of deviation 1 / sqrt(c).
    width = 256
    variables = vit.Attention().init(jax.random.key(0), jnp.zeros((1, 2, width)))["params"]
    drawn = np.split(np.asarray(variables["qkv"]["kernel"]), 3, axis=1)
    for kernel in (*drawn, np.asarray(variables["out"]["kernel"])):
        assert kernel.std() == pytest.approx(1 / math.sqrt(width), rel=0.02)
        assert np.abs(kernel).max() == pytest.approx(math.sqrt(3 / width), rel=0.02)
    assert len({kernel.tobytes() for kernel in drawn}) == 3


def test_attention_is_the_sum_it_says():
    attention = vit.Attention(head_width=2)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3, 4)), jnp.float32)
    variables = fill(jax.eval_shape(lambda: attention.init(jax.random.key(0), x)))
    params = jax.tree.map(np.asarray, variables["params"])
    qkv = (np.asarray(x[0]) @ params["qkv"]["kernel"] + params["qkv"]["bias"]).reshape(3, 3, 2, 2)
    heads = []
    for head in range(2):
        q, k, v = (qkv[:, part, head] for part in range(3))
        weights = np.exp(q @ k.T / math.sqrt(2))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v)
    expected = np.concatenate(heads, -1) @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(attention.apply(variables, x)[0], expected, atol=1e-5)  # float32 sums of order one


def test_vit_recomputes_to_the_same_gradient():
    model = models.create("vit_ti16", num_classes=3).clone(stages=models.create("vit_ti16").stages[:1])
    variables = fill(initial_shapes(model, (32, 32, 3))[1])
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 3)), jnp.float32)

    def gradient(model):
        def loss(params):
            outputs = model.apply({"params": params}, images, train=True, rngs={"dropout": jax.random.key(1)})
            return jnp.sum(jnp.sin(outputs))

        return jax.jit(jax.grad(loss))(variables["params"])

    for kept, again in zip(*map(jax.tree.leaves, (gradient(model), gradient(model.clone(remat=True)))), strict=True):
        np.testing.assert_allclose(kept, again, rtol=1e-4, atol=1e-4)  # another program, with sums in another order
