"""Inception-ResNet: inception modules as the residuals of shortcuts.

Christian Szegedy, Sergey Ioffe, Vincent Vanhoucke, Alex Alemi: "Inception-v4, Inception-ResNet and the Impact of
Residual Connections on Learning", 2016, arXiv:1602.07261, figure 15 (the network), section 3.3 (residuals scaled
down), table 1.

`inception_resnet_v1` is the paper's: figures 10 to 14, with 5, 10 and 5 modules. `inception_resnet_v1_face` is its
form in David Sandberg's facenet (github.com/davidsandberg/facenet, inception_resnet_v1.py): a sixth module at the end,
without an activation and not scaled down, and a dense layer of 512 with batch norm, the embedding of a face, before
the classes; dropout of 60%, which acts before the embedding.

`inception_resnet_v2` is the authors' release (github.com/tensorflow/models, slim, inception_resnet_v2.py): the stem
and first module of Inception-v3, then 10, 20 and 10 modules, the last one without an activation and not scaled down,
and a 1x1 convolution of 1536. The paper's own widths for it (figures 16 to 19) contradict its concatenations: 1154
channels where they give 1152, and 2048 where they give 2144.

The scales 0.17, 0.10 and 0.20 are the release's and facenet's; the paper says 0.1 to 0.3. It says nothing of initial
weights and batch norm: Glorot's uniform and epsilon 1e-3 are both releases'. Deviations: running statistics keep 0.9 a
step as in timm, where the release keeps 0.9997 (facenet 0.995), which tens of thousands of steps are needed for; batch
norm has a scale, the releases' none; and the release's auxiliary classifier at 17 pixels is not offered.

Features: `stage1` to `stage5` are the last maps at 1/2 (third convolution), 1/4 (fifth), 1/8 (modules A), 1/16 (B) and
1/32 (C, and the last convolution where there is one) of the image.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.models.inception_v3 import MAX, module_a
from research.models.inception_v4 import reduction_a
from research.nn.conv import Conv, Dtype
from research.nn.inception import Branches, Layer, Reductions, ResidualInception
from research.nn.inception_net import InceptionNet, InceptionStage, scale_stages
from research.nn.layers import Activation, BatchNorm, Builder, fixed
from research.values import Count, Fraction, Natural, Positive

MINIMUM = 75
NORM = functools.partial(BatchNorm, epsilon=1e-3)
GLOROT = nn.initializers.glorot_uniform()  # what slim starts from where it is told nothing
GlorotConv = functools.partial(Conv, kernel_init=GLOROT)
BLOCK_A, BLOCK_B, BLOCK_C = (functools.partial(ResidualInception, scale=scale) for scale in (0.17, 0.10, 0.20))
LINEAR_C = functools.partial(ResidualInception, linear=True)
STEM = (
    InceptionStage((Layer(32, 3, 2, 0), Layer(32, 3, 1, 0), Layer(64, 3))),
    InceptionStage((MAX, Layer(80), Layer(192, 3, 1, 0))),
)

# Szegedy et al. 2016, figures 10, 11 and 13: what is added, before the 1x1 convolution.
A_V1: Branches = ((Layer(32),), (Layer(32), Layer(32, 3)), (Layer(32), Layer(32, 3), Layer(32, 3)))
B_V1: Branches = ((Layer(128),), (Layer(128), Layer(128, 7, form="last_axis_first", inner=128)))
C_V1: Branches = ((Layer(192),), (Layer(192), Layer(192, 3, form="last_axis_first", inner=192)))
# Figure 12.
REDUCTION_B_V1: Branches = (
    (Layer(256), Layer(384, 3, 2, 0)),
    (Layer(256), Layer(256, 3, 2, 0)),
    (Layer(256), Layer(256, 3), Layer(256, 3, 2, 0)),
    (MAX,),
)
# Figures 14 and 15.
V1 = (
    *STEM,
    InceptionStage((Layer(256, 3, 2, 0),), (A_V1,), 5, BLOCK_A),
    InceptionStage((reduction_a(192, 192, 256, 384),), (B_V1,), 10, BLOCK_B),
    InceptionStage((REDUCTION_B_V1,), (C_V1,), 5, BLOCK_C),
)
FACE = (*V1[:-1], InceptionStage((REDUCTION_B_V1,), (C_V1,), 5, BLOCK_C, closing=LINEAR_C))

# The release of Inception-ResNet-v2.
A_V2: Branches = ((Layer(32),), (Layer(32), Layer(32, 3)), (Layer(32), Layer(48, 3), Layer(64, 3)))
B_V2: Branches = ((Layer(192),), (Layer(128), Layer(192, 7, form="last_axis_first", inner=160)))
C_V2: Branches = ((Layer(192),), (Layer(192), Layer(256, 3, form="last_axis_first", inner=224)))
REDUCTION_B_V2: Branches = (
    (Layer(256), Layer(384, 3, 2, 0)),
    (Layer(256), Layer(288, 3, 2, 0)),
    (Layer(256), Layer(288, 3), Layer(320, 3, 2, 0)),
    (MAX,),
)
FIRST_V2: Branches = ((Layer(96),), *module_a(64)[1:])
V2 = (
    *STEM,
    InceptionStage((MAX, FIRST_V2), (A_V2,), 10, BLOCK_A),
    InceptionStage((reduction_a(256, 256, 384, 384),), (B_V2,), 20, BLOCK_B),
    InceptionStage((REDUCTION_B_V2,), (C_V2,), 9, BLOCK_C, closing=LINEAR_C, exit=(Layer(1536),)),
)


class Embedding(nn.Module):
    """facenet's layer before the classes, "b f" -> "b width": dropout, dense without a bias, batch norm."""

    width: int = 512
    dropout: float = 0.6
    norm: Builder = NORM
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "b f"], *, train: bool) -> Float[Array, "b width"]:
        """The embedding, before any scaling to length 1."""
        kept = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(features)
        x = nn.Dense(self.width, use_bias=False, kernel_init=GLOROT, dtype=self.dtype, name="dense")(kept)
        return self.norm(use_running_average=not train, dtype=self.dtype, name="norm")(x)


class Form(NamedTuple):
    """One of the family: its table, the width of its embedding (0: none), its dropout."""

    stages: tuple[InceptionStage, ...]
    embedding: int = 0
    dropout: float = 0.2


def inception_resnet(
    *,
    form: Form,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    reductions: Reductions = "all",
    factorised: bool = True,
    dropout: Fraction | None = None,
    conv: Builder = GlorotConv,
    norm: Builder = NORM,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> InceptionNet:
    """The network of a form; None stands for its own dropout.

    The multipliers scale every row, stem included; widths are then rounded to a multiple of `channel_divisor`, and the
    last module of a form that has one comes on top. Without `factorised` all 1 x n and n x 1 are n x n.
    """
    rate = form.dropout if dropout is None else dropout
    return InceptionNet(
        stages=scale_stages(form.stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        neck=fixed(Embedding, width=form.embedding, dropout=rate, norm=norm) if form.embedding else None,
        dropout=0.0 if form.embedding else rate,
        head_init=GLOROT,
        reductions=reductions,
        factorised=factorised,
        conv=conv,
        norm=norm,
        act=act,
        minimum=MINIMUM,
        dtype=dtype,
    )


def _variant(form: Form, summary: str, published: Published | None = None, *, pixels: int = 299) -> Variant:
    return Variant(
        build=functools.partial(inception_resnet, form=form),
        input_shape=(pixels, pixels, 3),
        num_classes=1000,
        minimum=MINIMUM,
        summary=summary,
        paper="arXiv:1602.07261",
        published=published,
    )


VARIANTS = {
    "inception_resnet_v1": _variant(
        Form(V1),
        "5, 10 and 5 inception modules as residuals (Szegedy et al. 2016, figures 10 to 15)",
        Published(78.7, "Szegedy et al. 2016, table 2: one crop, validation images that are not blacklisted"),
    ),
    "inception_resnet_v1_face": _variant(
        Form(FACE, 512, 0.6),
        "facenet's Inception-ResNet-v1 with 512-d embedding (after Szegedy et al. 2016)",
        pixels=160,
    ),
    "inception_resnet_v2": _variant(
        Form(V2),
        "10, 20 and 10 wider inception modules as residuals (Szegedy et al. 2016, the release)",
        Published(80.4, "tensorflow/models, slim: table of pre-trained models, one crop of 299 px"),
    ),
}
