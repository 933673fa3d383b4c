"""What no count of parameters shows, of papers and releases: constants of norms, dropout, scales, first values."""

import inspect
from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from research import models
from research.models.highway import HighwayBlock
from research.nn.inception import ResidualInception
from research.nn.normalisation import local_response_norm
from research.testing.model_laws import QUICK, paths
from tests.models.forms import FILES, cut

pytestmark = pytest.mark.networks

TORCH = {(1e-5, 0.9)}  # epsilon, share of the running value that is kept: PyTorch's, and fb.resnet.torch's
INCEPTION = {(1e-3, 0.9)}
GOOGLE = {(1e-3, 0.99)}

# name -> (epsilon, share kept) of its batch norms, dropout rates in the order of the layers; one block of each stage.
NORMS_AND_DROPOUT = {
    "lenet5": (set(), ()),
    "lenet5_1998": (set(), ()),
    "stn_lenet": (set(), ()),
    "alexnet": (set(), (0.5, 0.5)),
    "alexnet_single_tower": (set(), (0.5, 0.5)),
    "alexnet_owt": (set(), (0.5, 0.5)),
    "zfnet": (set(), (0.5, 0.5)),
    "nin": (set(), (0.5,)),
    "nin_cifar": (set(), (0.5, 0.5)),
    "vgg16": (set(), (0.5, 0.5)),
    "vgg16_bn": (TORCH, (0.5, 0.5)),
    "googlenet": (set(), (0.4,)),
    "googlenet_bn": (INCEPTION, (0.2,)),
    "inception_v2": (INCEPTION, ()),
    "inception_v3": (INCEPTION, (0.2,)),
    "inception_v4": (INCEPTION, (0.2,)),
    "inception_resnet_v1": (INCEPTION, (0.2,)),
    "inception_resnet_v1_face": (INCEPTION, (0.6,)),
    "inception_resnet_v2": (INCEPTION, (0.2,)),
    "resnet20": (TORCH, ()),
    "plain20": (TORCH, ()),
    "resnet18": (TORCH, ()),
    "resnet50": (TORCH, ()),
    "resnet50_v1": (TORCH, ()),
    "resnext50_32x4d": (TORCH, ()),
    "wide_resnet50_2": (TORCH, ()),
    "resnet18_1d": (TORCH, ()),
    "resnet18_3d": (TORCH, ()),
    "preresnet20": (TORCH, ()),
    "resnetv2_50": (TORCH, ()),
    "wrn28_10": (TORCH, ()),
    "highway19": (set(), ()),
    "densenet121": (TORCH, ()),
    "densenet_40_12": (TORCH, ()),
    "se_resnet18": (TORCH, ()),
    "se_resnet50": (TORCH, ()),
    "senet154": (TORCH, (0.2,)),
    "squeezenet1_0": (set(), (0.5,)),
    "squeezenet1_1": (set(), (0.5,)),
    "mobilenet_v1": (GOOGLE, (0.001,)),
    "mobilenet_v2": (GOOGLE, (0.2,)),
    "mobilenet_v3_large": (GOOGLE, (0.2,)),
    "mobilenet_v3_small": (GOOGLE, (0.2,)),
    "efficientnet_b0": (GOOGLE, (0.2,)),
    "efficientnet_b3": (GOOGLE, (0.3,)),
    "efficientnet_b5": (GOOGLE, (0.4,)),
    "efficientnet_b8": (GOOGLE, (0.5,)),
    "efficientnet_l2": (GOOGLE, (0.5,)),
    "efficientnet_lite0": (GOOGLE, (0.2,)),
    "efficientnet_lite4": (GOOGLE, (0.3,)),
    "efficientnet_v2_s": ({(1e-3, 0.9)}, (0.2,)),
    "efficientnet_v2_m": ({(1e-3, 0.9)}, (0.3,)),
    "efficientnet_v2_l": ({(1e-3, 0.9)}, (0.4,)),
    "vit_ti16": (set(), ()),
    # After the positions, after attention, and after both layers of the perceptron.
    "vit_b16": (set(), (0.1,) + 3 * (0.1, 0.1, 0.1)),
}
# Auxiliary classifiers, where they have dropout, come before what ends the network.
AUXILIARY_DROPOUT = {"googlenet": (0.7, 0.7, 0.4), "googlenet_bn": (0.7, 0.7, 0.2), "inception_v2": (0.7, 0.7)}


def called(model, shape):
    """Every module that a training step calls, in order; what it is bound to is gone."""
    seen = []

    def collect(call, args, kwargs, context):
        if context.method_name == "__call__":
            seen.append((context.module.name, context.module.clone(parent=None)))
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    with nn.intercept_methods(collect):
        jax.eval_shape(lambda x: model.init(rngs, x, train=True), images)
    return seen


def smallest(name):
    """The least input that the variant sees with its default stem."""
    found = models.variant(name)
    return (*(found.minimum for _ in found.input_shape[:-1]), found.input_shape[-1])


@cache
def parts(name, **fields):
    return [module for _, module in called(cut(name, 1, **fields), smallest(name))]


def of(modules, kind):
    return [module for module in modules if isinstance(module, kind)]


def test_every_file_of_networks_has_a_row():
    assert {FILES[name] for name in NORMS_AND_DROPOUT} == set(FILES.values())


@pytest.mark.parametrize("name", NORMS_AND_DROPOUT)
def test_batch_norm_and_dropout(name):
    norms, dropouts = NORMS_AND_DROPOUT[name]
    assert {(norm.epsilon, norm.momentum) for norm in of(parts(name), nn.BatchNorm)} == norms
    assert tuple(layer.rate for layer in of(parts(name), nn.Dropout) if layer.rate) == dropouts


@pytest.mark.parametrize("name", AUXILIARY_DROPOUT)
def test_dropout_of_auxiliary_classifiers(name):
    layers = of(parts(name, aux_heads=True), nn.Dropout)
    assert tuple(layer.rate for layer in layers) == AUXILIARY_DROPOUT[name]


@pytest.mark.parametrize("name", ["vit_ti16", "vit_b16"])
def test_layer_norm(name):
    norms = of(parts(name), nn.LayerNorm)
    assert {norm.epsilon for norm in norms} == {1e-6}
    assert len(norms) == 2 * 3 + 1


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("inception_resnet_v1", [(0.17, False), (0.10, False), (0.20, False)]),
        ("inception_resnet_v1_face", [(0.17, False), (0.10, False), (0.20, False), (1.0, True)]),
        ("inception_resnet_v2", [(0.17, False), (0.10, False), (0.20, False), (1.0, True)]),
    ],
)
def test_scales_of_residuals(name, scales):
    # tensorflow/models, slim, inception_resnet_v2.py: block35, block17, block8, and the last without its activation.
    assert [(block.scale, block.linear) for block in of(parts(name), ResidualInception)] == scales


def test_bias_of_highway_gates():
    assert {block.gate_bias for block in of(parts("highway19"), HighwayBlock)} == {-3.0}


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("alexnet", "npnpp"),
        ("alexnet_single_tower", "npnpp"),
        ("alexnet_owt", "ppp"),
        ("zfnet", "pnpnp"),
        # After conv1's pool and before conv2's (table 1 has no rows for them, figure 3 has); then pools alone.
        ("googlenet", "pnnp" + "p" + "pp" + "pp"),
        ("googlenet_bn", "pp" + "p" + "pp" + "pp"),
    ],
)
def test_order_of_response_normalisation_and_pools(name, order):
    model = cut(name, 1)
    x = jax.ShapeDtypeStruct((1, *smallest(name)), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)
    program = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, x)
    found = [(eqn.primitive.name, eqn) for eqn in equations(program.jaxpr)]
    assert "".join({"pow": "n", "reduce_window_max": "p"}.get(kind, "") for kind, _ in found) == order
    # Krizhevsky et al. 2012, section 3.3: beta, and n, alpha, beta and k.
    assert all(float(eqn.invars[1].val) == -0.75 for kind, eqn in found if kind == "pow")
    constants = inspect.signature(local_response_norm).parameters
    assert {key: constants[key].default for key in ("size", "alpha", "beta", "bias")} == {
        "size": 5,
        "alpha": 1e-4,
        "beta": 0.75,
        "bias": 2.0,
    }


def equations(jaxpr):
    """All of a program, those of what it calls with them, in order."""
    for eqn in jaxpr.eqns:
        inner = list(jaxprs_in_params(eqn.params))
        if not inner or eqn.primitive.name == "reduce_window_max":
            yield eqn
        for called_one in inner:
            yield from equations(called_one)


def rates(model, shape):
    """The rate of stochastic depth of each block, in order."""
    return [m.drop_path for name, m in called(model, shape) if hasattr(m, "drop_path") and "block" in (name or "")]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("resnet18", 8), ("resnet50", 16), ("resnet20", 9), ("preresnet20", 9), ("wrn16_8", 6), ("mobilenet_v2", 17)],
)
def test_stochastic_depth_grows_from_the_first_block_on(name, blocks):
    # Huang et al. 2016, section 3: block l of L is dropped at a rate of l / L times the last one's.
    found = rates(models.create(name, stochastic_depth=0.5), smallest(name))
    np.testing.assert_allclose(found, [0.5 * (index + 1) / blocks for index in range(blocks)])


@pytest.mark.parametrize(("name", "blocks"), [("efficientnet_b0", 16), ("efficientnet_v2_s", 40)])
def test_stochastic_depth_of_efficientnets_spares_the_first_block(name, blocks):
    # The releases: 0.2 times the number of the block, from 0, over the number of blocks.
    found = rates(models.create(name), smallest(name))
    np.testing.assert_allclose(found, [0.2 * index / blocks for index in range(blocks)])


@pytest.mark.parametrize(("name", "last"), [("vit_ti16", 0.1), ("vit_b16", 0.0)])
def test_stochastic_depth_of_vision_transformers_ends_at_its_rate(name, last):
    # Touvron et al. 2020's code: as many steps from 0 to the rate as there are blocks.
    np.testing.assert_allclose(rates(models.create(name), smallest(name)), np.linspace(0, last, 12))


# One of each file, in a small form: options that keep it small.
STARTED = {
    "lenet5": {},
    "stn_lenet": {},
    "alexnet": {"hidden": 256, "width_multiplier": 0.25},
    "zfnet": {"hidden": 256, "width_multiplier": 0.25},
    "nin_cifar": {},
    "vgg11": {"hidden": 256, "width_multiplier": 0.25},
    "googlenet": {"width_multiplier": 0.5},
    "inception_v2": {"width_multiplier": 0.5},
    "inception_v3": {"width_multiplier": 0.25},
    "inception_v4": {"width_multiplier": 0.25},
    "inception_resnet_v2": {"width_multiplier": 0.25},
    "resnet50": {"width_multiplier": 0.25},
    "resnet20": {},
    "resnet18_1d": {"width_multiplier": 0.25},
    "preresnet20": {},
    "resnetv2_50": {"width_multiplier": 0.25},
    "wrn16_8": {"width_multiplier": 0.125},
    "highway19": {},
    "densenet_40_12": {},
    "se_resnet18": {"width_multiplier": 0.25},
    "squeezenet1_1": {},
    "mobilenet_v1_x0.25": {},
    "mobilenet_v2_x0.35": {},
    "mobilenet_v3_small": {},
    "efficientnet_b0": {},
    "efficientnet_v2_s": {},
    "vit_ti16": {},
}
# What starts at another value than 0, by the end of its path; the values are the file's docstring's.
BIASES = {
    "alexnet": {"conv2/bias": 1, "conv4/bias": 1, "conv5/bias": 1, "dense1/bias": 1, "dense2/bias": 1},
    "highway19": {"transform_gate/bias": -3},
}
ELSEWHERE = {
    "stn_lenet": ("theta/bias",),
    "vit_ti16": ("mlp1/bias", "mlp2/bias"),
}  # the identity; normal, deviation 1e-6
ZERO_KERNELS = {"vit_ti16": {"head/kernel"}, "stn_lenet": {"transformer/theta/kernel"}}


def test_every_file_of_networks_is_started():
    assert {FILES[name] for name in STARTED} == set(FILES.values())


@pytest.mark.parametrize("name", STARTED)
def test_networks_start_from_their_own_initial_values(name):
    model = cut(name, 1, **STARTED[name])
    if stages := getattr(model, "stages", ()):
        model = model.clone(stages=stages[:: min(4, len(stages) - 1)])  # two: compiling is what this costs

    def start(key, x):
        outputs, variables = model.init_with_output({"params": key, "dropout": key}, x, train=True)
        return outputs, variables["params"]

    images = jnp.asarray(np.random.default_rng(0).standard_normal((3, *smallest(name))), jnp.float32)
    # A generator that compiles fast; the distributions are the same.
    outputs, params = jax.device_get(jax.jit(start, compiler_options=QUICK)(jax.random.key(0, impl="rbg"), images))
    assert np.isfinite(outputs).all()
    flat = paths(params)
    zero = {path for path, leaf in flat.items() if path.endswith("kernel") and not leaf.any()}
    assert zero == ZERO_KERNELS.get(name, set())
    if "head/kernel" not in zero:
        assert (outputs.std(0) > 0).any()
        assert (outputs.std(1) > 0).all()
    for path, leaf in flat.items():
        if path.endswith("bias") and not path.endswith(ELSEWHERE.get(name, ())):
            wanted = next((value for end, value in BIASES.get(name, {}).items() if path.endswith(end)), 0)
            assert (leaf == wanted).all(), path
