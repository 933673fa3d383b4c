"""Devices: the only file that names a mesh, a sharding or pmap. It compiles the pure steps and places their inputs.

Data parallelism in three forms, chosen by `ParallelismConfig`: `jit` over a named mesh (the compiler sees the global
batch, so batch norm is synchronised by itself), `jit` of a shard-mapped step (batch norm per replica), and `pmap`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from research.config import ParallelismConfig
from research.errors import UserError
from research.training import step as steps

PyTree = Any
AXIS = "batch"


@dataclass(frozen=True)
class Layout:
    """How one run uses the devices; built by `layout`."""

    mode: str
    per_replica: bool
    devices: tuple[jax.Device, ...]

    @property
    def axis_name(self) -> str | None:
        """The mapped axis a step reduces over, or None where the compiler sees the global batch."""
        return AXIS if self.mode == "pmap" or self.per_replica else None

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """One axis, `batch`, over the devices; Auto, so that the compiler places what is inside the step."""
        return jax.make_mesh((len(self.devices),), (AXIS,), devices=self.devices, axis_types=(AxisType.Auto,))

    def model(self, model: nn.Module) -> nn.Module:
        """The model as its replicas run it: batch norm reduces over the mapped axis where it must be synchronised."""
        if self.axis_name is None or self.per_replica or getattr(model, "norm", None) is None:
            return model
        return model.clone(norm=functools.partial(model.norm, axis_name=AXIS))

    def replicate(self, tree: PyTree) -> PyTree:
        """Put a pytree whole on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def replicated(self, tree: PyTree) -> PyTree:
        """Shapes of `tree`, with the sharding `replicate` gives: what a checkpoint is restored into."""
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    def split(self, feed: PyTree) -> PyTree:
        """Put a feed (leading axis: the global batch) on the devices, an equal share on each."""
        if self.mode == "pmap":
            count = len(self.devices)
            return jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), feed)
        return jax.device_put(feed, NamedSharding(self.mesh, PartitionSpec(AXIS)))

    def compile_train(self, step: steps.TrainStep, *example: PyTree) -> jax.stages.Compiled:
        """The compiled train step; the state it is given is donated. `example`: placed arguments or their shapes."""
        return self._compile(step, (None, None, 0, None), example, donate=(0,))

    def compile_eval(self, step: steps.EvalStep, *example: PyTree) -> jax.stages.Compiled:
        """The compiled eval step; the statistics it is given are donated."""
        return self._compile(step, (None, None, 0, None), example, donate=(3,))

    def _compile(
        self, step: Callable[..., PyTree], axes: tuple[int | None, ...], example: PyTree, donate: tuple[int, ...]
    ) -> jax.stages.Compiled:
        if self.mode == "pmap":
            mapped = jax.pmap(
                step, axis_name=AXIS, in_axes=axes, out_axes=None, donate_argnums=donate, devices=list(self.devices)
            )
            return mapped.lower(*example).compile()
        specs = tuple(PartitionSpec() if axis is None else PartitionSpec(AXIS) for axis in axes)
        if self.per_replica:
            # check_vma off: the step itself reduces its gradients, and must not find them already summed.
            step = jax.shard_map(step, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
        whole = NamedSharding(self.mesh, PartitionSpec())
        jitted = jax.jit(
            step,
            in_shardings=tuple(NamedSharding(self.mesh, spec) for spec in specs),
            out_shardings=whole,
            donate_argnums=donate,
        )
        return jitted.lower(*example).compile()


def layout(cfg: ParallelismConfig, *, batch_size: int) -> Layout:
    """The layout of `cfg` on this machine. Raises `UserError`: too few devices, batch not divisible by them."""
    available = jax.devices()
    count = cfg.devices or len(available)
    if count > len(available):
        raise UserError(f"parallelism.devices is {count}; this machine has {len(available)} ({available[0].platform})")
    if batch_size % count:
        below, above = batch_size // count * count, -(-batch_size // count) * count
        near = f"{below} or {above}" if below else str(above)
        raise UserError(f"data.batch_size is {batch_size}, not divisible by {count} devices; nearest: {near}")
    per_replica = cfg.batch_norm == "per_replica"
    return Layout(cfg.mode, per_replica, tuple(available[:count]))


def fit_batch(layout_: Layout, batch_size: int) -> int:
    """`batch_size` rounded up to a multiple of the devices (for evaluation, which pads)."""
    count = len(layout_.devices)
    return -(-batch_size // count) * count


def describe(layout_: Layout) -> dict[str, Any]:
    """Platform, kind and number of devices, for `environment.json`."""
    first = layout_.devices[0]
    return {"platform": first.platform, "device_kind": first.device_kind, "devices": len(layout_.devices)}


def host(tree: PyTree) -> PyTree:
    """A pytree as numpy arrays on the host; waits for the devices."""
    return jax.tree.map(np.asarray, jax.device_get(tree))
