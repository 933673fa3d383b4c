"""One network for every table of inception modules: resolutions, auxiliary classifiers, pool and head."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn.conv import Dtype
from research.nn.inception import INCEPTION_CONV, Branches, Inception, Layer, Pool, Reductions, Step, follow
from research.nn.layers import (
    LECUN,
    Activation,
    BatchNorm,
    Builder,
    ConvNormAct,
    Features,
    classify,
    require_resolution,
)
from research.nn.pooling import average_pool, global_average_pool
from research.nn.remat import remat
from research.nn.trunk import scale_depth, scale_width
from research.values import Natural


@dataclass(frozen=True)
class InceptionStage:
    """A resolution: the steps of `entry` that lead to it, then `blocks` modules whose branches are `rows`, then `exit`.

    Where there are more blocks than rows the last row repeats. `block` builds a module of its branches (None: an
    `Inception`), and `closing` one more of the last row. An auxiliary classifier sees the output of each block whose
    number is in `auxiliary`.
    """

    entry: tuple[Step, ...]
    rows: tuple[Branches, ...] = ()
    blocks: int = 0
    block: Builder | None = None
    closing: Builder | None = None
    exit: tuple[Step, ...] = ()
    auxiliary: tuple[int, ...] = ()


def scale_stages(
    stages: Sequence[InceptionStage], *, width: float = 1.0, depth: float = 1.0, divisor: int = 8
) -> tuple[InceptionStage, ...]:
    """The rows with all widths and numbers of blocks multiplied; see `scale_width` and `scale_depth`."""

    def scaled(step: Any) -> Any:
        if isinstance(step, Layer):
            inner = step.inner and scale_width(step.inner, width, divisor)
            return step._replace(width=scale_width(step.width, width, divisor), inner=inner)
        return step if callable(step) else tuple(scaled(part) for part in step)

    return tuple(
        dataclasses.replace(
            stage,
            entry=scaled(stage.entry),
            rows=scaled(stage.rows),
            exit=scaled(stage.exit),
            blocks=scale_depth(stage.blocks, depth),
        )
        for stage in stages
    )


def count_padding_in(stages: Sequence[InceptionStage]) -> tuple[InceptionStage, ...]:
    """The rows with average pools whose padding counts as zeros, as in PyTorch unless told otherwise."""

    def counting(branches: Branches) -> Branches:
        return tuple(
            tuple(step._replace(count_padding=True) if isinstance(step, Pool) else step for step in branch)
            for branch in branches
        )

    return tuple(dataclasses.replace(stage, rows=tuple(map(counting, stage.rows))) for stage in stages)


def small_window_pool(x: Float[Array, "b *space c"]) -> Float[Array, "b *out c"]:
    """The 5x5 average pool of stride 3 before auxiliary classifiers; smaller where there are fewer pixels."""
    return average_pool(x, tuple(min(5, n) for n in x.shape[1:-1]), 3)


class AuxiliaryClassifier(nn.Module):
    """A classifier of maps inside of the network, "b *space c" -> float32 logits "b num_classes".

    Szegedy et al. 2014 (arXiv:1409.4842), section 5: `pool`, a 1x1 convolution of 128 channels, a dense layer of 1024
    and its activation, dropout, `head`.
    """

    num_classes: int
    pool: Callable[[Array], Array] = small_window_pool
    dropout: float = 0.7
    kernel_init: Callable[..., Array] = LECUN
    conv: Builder = INCEPTION_CONV
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b num_classes"]:
        """Logits."""
        parts = {"conv": self.conv, "norm": self.norm, "act": self.act, "dtype": self.dtype}
        y = ConvNormAct(128, 1, **parts, name="layer1")(self.pool(x), train=train)
        y = y.reshape(y.shape[0], -1)
        y = self.act(nn.Dense(1024, kernel_init=self.kernel_init, dtype=self.dtype, name="dense")(y))
        rates = {"dropout": self.dropout, "kernel_init": self.kernel_init, "dtype": self.dtype}
        return classify(y, self.num_classes, train=train, **rates)


class InceptionNet(nn.Module):
    """A network as its table of `InceptionStage` rows, then global average pool, `neck`, dropout and head.

    "b *space c" -> float32 logits "b num_classes", or the features that the head would see where `num_classes` is 0.
    Parameters: `stage1_layer1`, `stage4_mixed1` (entry), `stage3_block2`, `stage5_closing`, `stage5_exit_layer1`,
    `neck`, `head`, `aux1_head`; the output at each resolution is that of a module `stage3`. With `aux_heads` there is
    an auxiliary classifier `aux` wherever the table has a place for one: in training its float32 logits are sown in
    the collection `intermediates` as `aux1`, `aux2`, and the loss adds `aux_weight` times theirs. Raises `UserError`
    below `minimum` pixels. `remat` computes the inside of each module again in the backward pass.
    """

    stages: tuple[InceptionStage, ...]
    num_classes: Natural
    aux: Builder | None = None
    aux_heads: bool = False
    aux_weight: float = 0.0
    neck: Builder | None = None
    dropout: float = 0.0
    head_init: Callable[..., Array] = LECUN
    reductions: Reductions = "all"
    factorised: bool = True
    conv: Builder = INCEPTION_CONV
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    minimum: int = 1
    remat: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or pooled features."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        x, heads = images, 0
        for number, stage in enumerate(self.stages, 1):
            x = self._followed(stage.entry, x, f"stage{number}", train=train)
            # A place that a shortened table lacks is its last block.
            places = [min(place, stage.blocks) for place in stage.auxiliary]
            for index in range(stage.blocks):
                row = stage.rows[min(index, len(stage.rows) - 1)]
                x = self._module(stage.block, row, x, f"stage{number}_block{index + 1}", train=train)
                for _ in range(places.count(index + 1)):
                    heads += 1
                    self._classified_early(x, f"aux{heads}", train=train)
            if stage.closing is not None:
                x = self._module(stage.closing, stage.rows[-1], x, f"stage{number}_closing", train=train)
            x = self._followed(stage.exit, x, f"stage{number}_exit", train=train)
            x = Features(name=f"stage{number}")(x)
        features = global_average_pool(x)
        if self.neck is not None:
            features = self.neck(dtype=self.dtype, name="neck")(features, train=train)
        rates = {"dropout": self.dropout, "kernel_init": self.head_init, "dtype": self.dtype}
        return classify(features, self.num_classes, train=train, **rates)

    def _parts(self) -> dict[str, Any]:
        return {"conv": self.conv, "norm": self.norm, "act": self.act, "dtype": self.dtype}

    def _followed(
        self, steps: Sequence[Step], x: Float[Array, "b *space c"], prefix: str, *, train: bool
    ) -> Float[Array, "b *out d"]:
        def module(branches: Branches, x: Array, name: str) -> Array:
            return self._module(None, branches, x, name, train=train)

        return follow(steps, x, prefix=prefix, train=train, factorised=self.factorised, module=module, **self._parts())

    def _module(
        self, block: Builder | None, branches: Branches, x: Float[Array, "b *space c"], name: str, *, train: bool
    ) -> Float[Array, "b *out d"]:
        switches: dict[str, Any] = {"reductions": self.reductions, "factorised": self.factorised}
        built = (block or Inception)(branches=branches, **switches, **self._parts(), name=name)

        def call(module: nn.Module, x: Array) -> Array:
            return module(x, train=train)

        return remat(call)(built, x) if self.remat else call(built, x)

    def _classified_early(self, x: Float[Array, "b *space c"], name: str, *, train: bool) -> None:
        if self.aux is not None and self.aux_heads and self.num_classes and (train or self.is_initializing()):
            head = self.aux(num_classes=self.num_classes, **self._parts(), name=f"{name}_head")
            self.sow("intermediates", name, head(x, train=train))
