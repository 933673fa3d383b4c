"""Vision Transformer: an image as a sequence of patches, and no convolution beyond cutting them out.

Alexey Dosovitskiy, Lucas Beyer, Alexander Kolesnikov, Dirk Weissenborn, Xiaohua Zhai, Thomas Unterthiner, Mostafa
Dehghani, Matthias Minderer, Georg Heigold, Sylvain Gelly, Jakob Uszkoreit, Neil Houlsby: "An Image is Worth 16x16
Words: Transformers for Image Recognition at Scale", 2020, arXiv:2010.11929, eq. 1 to 4, table 1 (B, L), appendix B.1
(dropout 0.1 for training on ImageNet alone, table 3). Ti and S: Touvron et al. 2020, "Training data-efficient image
transformers", arXiv:2012.12877, table 1, with their stochastic depth 0.1 and no dropout (table 9); no distillation.

Heads are 64 channels wide in all of them. The class token's features go to the head, a dense layer that starts at zero,
as in the release (google-research/vision_transformer), whose other initial values are used here too; GELU is exact, as
in timm (the release approximates it by tanh). `stem="cifar"` cuts patches of 4 pixels instead of 16.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.nn.conv import Conv, Dtype
from research.nn.layers import Activation, Builder, Features, classify, drop_path, fixed, require_resolution
from research.nn.remat import remat
from research.nn.trunk import SmallImageStem, Stage, scale
from research.values import Count, Fraction, Natural, Positive

INPUT_SHAPE = (224, 224, 3)
PATCH = {"imagenet": 16, "cifar": 4}
HEAD_WIDTH = 64
XAVIER = nn.initializers.xavier_uniform()
NEAR_ZERO = nn.initializers.normal(1e-6)
LayerNorm = functools.partial(nn.LayerNorm, epsilon=1e-6)
exact_gelu = functools.partial(nn.gelu, approximate=False)


def drawn_apart(parts: int, init: Callable[..., Array]) -> Callable[..., Array]:
    """An initialiser of `parts` kernels side by side, each drawn as if alone: what fan-outs add up to is none's own."""

    def initial(key: Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        alone = (*shape[:-1], shape[-1] // parts)
        return jnp.concatenate([init(part, alone, dtype) for part in jax.random.split(key, parts)], axis=-1)

    return initial


XAVIER_QKV = drawn_apart(3, XAVIER)  # the release has a dense layer for each


class Attention(nn.Module):
    """Self-attention of heads `head_width` channels wide, as many as c has room for, "b tokens c" -> "b tokens c".

    The queries, keys and values of all heads are one dense layer's outputs, in this order, each head by head.
    """

    head_width: int = HEAD_WIDTH
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b tokens c"]) -> Float[Array, "b tokens c"]:
        """What each token gathers from all."""
        heads = max(1, round(x.shape[-1] / self.head_width))
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        qkv = dense(3 * heads * self.head_width, kernel_init=XAVIER_QKV, name="qkv")(x)
        qkv = qkv.reshape(*x.shape[:2], 3, heads, self.head_width)
        query, key, value = (qkv[:, :, part] for part in range(3))
        gathered = nn.dot_product_attention(query, key, value, dtype=self.dtype, force_fp32_for_softmax=True)
        return dense(x.shape[-1], kernel_init=XAVIER, name="out")(gathered.reshape(*x.shape[:2], -1))


class EncoderBlock(nn.Module):
    """Attention, then a perceptron of `mlp_ratio` times the width, each after a norm and added to what it saw.

    "b tokens c" -> "b tokens c" (eq. 2 and 3). `dropout` follows each dense layer but that of queries, keys and values.
    """

    mlp_ratio: float = 4.0
    dropout: float = 0.0
    norm: Builder = LayerNorm
    act: Activation = exact_gelu
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b tokens c"], *, train: bool) -> Float[Array, "b tokens c"]:
        """The tokens, each the wiser."""
        norm = functools.partial(self.norm, dtype=self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=XAVIER, bias_init=NEAR_ZERO, dtype=self.dtype)
        drop = functools.partial(nn.Dropout, self.dropout, deterministic=not train)
        y = Attention(dtype=self.dtype, name="attention")(norm(name="norm1")(x))
        x = x + drop_path(self, drop(name="dropout1")(y), self.drop_path, train=train)
        y = self.act(dense(round(self.mlp_ratio * x.shape[-1]), name="mlp1")(norm(name="norm2")(x)))
        y = dense(x.shape[-1], name="mlp2")(drop(name="dropout2")(y))
        return x + drop_path(self, drop(name="dropout3")(y), self.drop_path, train=train)


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions, `stages` of blocks, norm and head.

    "b *space c" -> float32 logits "b num_classes" (0: the class token's features). Any resolution can be started from:
    the positions are as many as its patches, what is left over at the end being cut off. Features `stage1` and so on
    are tokens "b 1+patches c". `remat` and `stochastic_depth` are as in `research.nn.trunk.Trunk`, the rate growing
    from 0 at the first block.
    """

    stages: tuple[Stage, ...]
    num_classes: int = 1000
    patch: int = 16
    block: Builder = EncoderBlock
    conv: Builder = Conv
    norm: Builder = LayerNorm
    act: Activation = exact_gelu
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    remat: bool = False
    dtype: Dtype = jnp.float32

    @property
    def minimum(self) -> int:
        """Pixels a side of one patch."""
        return self.patch

    @nn.compact
    def __call__(self, images: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or the class token's features."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        x = self._tokens(images)
        x = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(x)
        parts = {"dropout": self.dropout, "norm": self.norm, "act": self.act, "dtype": self.dtype}
        depth, total = 0, sum(stage.blocks for stage in self.stages)
        for number, stage in enumerate(self.stages, 1):
            for index in range(stage.blocks):
                rate = self.stochastic_depth * depth / max(1, total - 1)
                block = self.block(**parts, drop_path=rate, name=f"stage{number}_block{index + 1}")

                def call(module: nn.Module, x: Array) -> Array:
                    return module(x, train=train)

                x = remat(call)(block, x) if self.remat else call(block, x)
                depth += 1
            x = Features(name=f"stage{number}")(x)
        token = self.norm(dtype=self.dtype, name="norm")(x[:, 0])
        return classify(token, self.num_classes, train=train, kernel_init=nn.initializers.zeros, dtype=self.dtype)

    def _tokens(self, images: Float[Array, "b *space c"]) -> Float[Array, "b tokens width"]:
        """The class token and the patches, with their positions (eq. 1)."""
        width = self.stages[0].width
        cut = functools.partial(self.conv, padding=0, use_bias=True, kernel_init=nn.initializers.lecun_normal())
        x = cut(width, self.patch, self.patch, dtype=self.dtype, name="patches")(images).reshape(len(images), -1, width)
        token = self.param("class_token", nn.initializers.zeros, (1, 1, width), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(token.astype(x.dtype), (len(x), 1, width)), x], axis=1)
        positions = self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]), jnp.float32)
        return x + positions.astype(x.dtype)


class Row(NamedTuple):
    """A network: channels, blocks, what it is trained with, and where it is printed."""

    width: int
    blocks: int
    dropout: float
    stochastic_depth: float
    paper: str
    source: str
    top1: float | None = None


DEIT = ("arXiv:2012.12877", "Touvron et al. 2020, table 1")
PAPER = ("arXiv:2010.11929", "Dosovitskiy et al. 2020, table 1")
ROWS = {
    "ti": Row(192, 12, 0.0, 0.1, *DEIT, 72.2),
    "s": Row(384, 12, 0.0, 0.1, *DEIT, 79.8),
    "b": Row(768, 12, 0.1, 0.0, *PAPER),
    "l": Row(1024, 24, 0.1, 0.0, *PAPER),
}


def vit(
    *,
    row: Row,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = HEAD_WIDTH,
    stem: SmallImageStem = "imagenet",
    mlp_ratio: Positive = 4.0,
    dropout: Fraction | None = None,
    stochastic_depth: Fraction | None = None,
    conv: Builder = Conv,
    norm: Builder = LayerNorm,
    act: Callable[[Array], Array] = exact_gelu,
    dtype: Dtype = jnp.float32,
) -> VisionTransformer:
    """The network of one row, its blocks in three stages; a rate of None is the row's. Widths are whole heads."""
    stages = (Stage(row.blocks // 3, row.width),) * 3
    return VisionTransformer(
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        patch=PATCH[stem],
        block=fixed(EncoderBlock, mlp_ratio=mlp_ratio),
        conv=conv,
        norm=norm,
        act=act,
        dropout=row.dropout if dropout is None else dropout,
        stochastic_depth=row.stochastic_depth if stochastic_depth is None else stochastic_depth,
        dtype=dtype,
    )


VARIANTS = {
    f"vit_{size}16": Variant(
        build=functools.partial(vit, row=row),
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=PATCH["imagenet"],
        summary=f"Vision Transformer {size.capitalize()}/16: {row.blocks} blocks, {row.width} channels ({row.source})",
        paper=row.paper,
        published=Published(row.top1, "Touvron et al. 2020, table 5, 224 px, no distillation") if row.top1 else None,
    )
    for size, row in ROWS.items()
}
