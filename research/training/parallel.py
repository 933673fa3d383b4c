"""Devices: the only file that names a mesh, a sharding or pmap. It compiles the pure steps and places their inputs.

Data parallelism in three forms, chosen by `ParallelismConfig`: `jit` over a named mesh (the compiler sees the global
batch, so batch norm is synchronised by itself), `jit` of a shard-mapped step (batch norm per replica), and `pmap`.
With `fsdp`, `jit` over the mesh also splits what a run carries from step to step (parameters, optimizer state, averaged
weights) over the devices: the compiler gathers a parameter where it is used and scatters its gradient.
"""

import collections
import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from research import backend
from research.config import Config
from research.data import Host
from research.errors import UserError
from research.training import processes
from research.training import step as steps

PyTree = Any
AXIS = "batch"
SMALLEST = 1024  # elements from which on an array is split: below, gathering it costs more than keeping it


def split_axis(shape: tuple[int, ...], devices: int) -> int | None:
    """The axis along which `fsdp` splits an array: the largest that `devices` divides, the last of equals.

    None where there is no such axis, or the array has fewer than 1,024 elements: it is then whole on every device.
    """
    axes = [axis for axis, size in enumerate(shape) if size % devices == 0]
    if math.prod(shape) < SMALLEST or not axes:
        return None
    return max(axes, key=lambda axis: (shape[axis], axis))


@dataclass(frozen=True)
class Layout:
    """How one run uses the devices; built by `layout`."""

    mode: str
    per_replica: bool
    devices: tuple[jax.Device, ...]
    fsdp: bool = False
    parts: int = 1
    deterministic: bool = True
    lasting: bool = False  # its steps are compiled for this run alone, and may then call oneDNN (`backend.unkept`)
    processes: int = 1  # that train together, each with its share of the devices and of every batch

    @property
    def axis_name(self) -> str | None:
        """The mapped axis a step reduces over, or None where the compiler sees the global batch."""
        return AXIS if self.mode == "pmap" or self.per_replica else None

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """One axis, `batch`, over the devices; Auto, so that the compiler places what is inside the step.

        Those of a process follow one another, as its rows of a batch do.
        """
        if self.processes > 1:
            ordered = sorted(self.devices, key=lambda device: (device.process_index, device.id))
            return jax.sharding.Mesh(np.array(ordered), (AXIS,), axis_types=(AxisType.Auto,))
        return jax.make_mesh((len(self.devices),), (AXIS,), devices=self.devices, axis_types=(AxisType.Auto,))

    def model(self, model: nn.Module) -> nn.Module:
        """The model as its replicas run it: batch norm reduces over the mapped axis where it must be synchronised."""
        if self.axis_name is None or self.per_replica or getattr(model, "norm", None) is None:
            return model
        return model.clone(norm=functools.partial(model.norm, axis_name=AXIS))

    def replicate(self, tree: PyTree) -> PyTree:
        """Put a pytree whole on every device."""
        return _put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def _sharding(self, x: Any) -> NamedSharding:
        axis = split_axis(x.shape, len(self.devices)) if self.fsdp else None
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)
        return NamedSharding(self.mesh, spec)

    def place(self, state: PyTree) -> PyTree:
        """Put the state of a run where it is kept: whole on every device, or split by `split_axis`."""
        return _put(state, jax.tree.map(self._sharding, state))

    def gathered(self, variables: PyTree) -> PyTree:
        """Variables whole on every device, which is how a step of `fsdp` computes with them; gradients come back split.

        Without it the compiler splits images by their channels where a kernel is, and moves those between devices.
        """
        return jax.tree.map(self._gathered, variables) if self.fsdp else variables

    def _gathered(self, x: jax.Array) -> jax.Array:
        whole, kept = NamedSharding(self.mesh, PartitionSpec()), self._sharding(x)

        def split(_: None, dx: jax.Array) -> tuple[jax.Array]:
            # Summed over the devices whole: of a gradient that is to be split the compiler makes loops of exchanges.
            return (jax.lax.with_sharding_constraint(jax.lax.with_sharding_constraint(dx, whole), kept),)

        gather = jax.custom_vjp(lambda x: jax.lax.with_sharding_constraint(x, whole))
        gather.defvjp(lambda x: (gather(x), None), split)
        return gather(x)

    def placed(self, shapes: PyTree) -> PyTree:
        """Shapes with the sharding that `place` gives: what a checkpoint is restored into."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._sharding(x)), shapes)

    def replicated(self, shapes: PyTree) -> PyTree:
        """The shapes of what `replicate` gives."""
        whole = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)

    def fed(self, shapes: PyTree, *, parts: int = 1) -> PyTree:
        """The shapes of what `split` gives."""

        def one(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            rows = x.shape[0] * self.processes
            before = (parts, rows // parts) if parts > 1 else (rows,)
            spec = PartitionSpec(*[None] * (len(before) - 1), AXIS)
            if self.mode == "pmap":
                count = len(self.devices)
                before, spec = (count, *before[:-1], before[-1] // count), PartitionSpec(AXIS)
            return jax.ShapeDtypeStruct((*before, *x.shape[1:]), x.dtype, sharding=NamedSharding(self.mesh, spec))

        return jax.tree.map(one, shapes)

    def split(self, feed: PyTree, *, parts: int = 1, members: bool = False) -> PyTree:
        """Put a feed (leading axis: this process's rows of the batch) on the devices, an equal share on each.

        With `parts` above 1, consecutive parts of the batch get a leading axis of their own, and each is split; so is
        each member of a population, whose axis stands before the batch.
        """
        if parts > 1:
            feed = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), feed)
        before = int(parts > 1 or members)
        if self.mode == "pmap":
            feed = jax.tree.map(functools.partial(self._mapped, axis=before), feed)
            return self._put_rows(feed, PartitionSpec(AXIS))
        return self._put_rows(feed, PartitionSpec(*[None] * before, AXIS))

    def _put_rows(self, feed: PyTree, spec: PartitionSpec) -> PyTree:
        sharding = NamedSharding(self.mesh, spec)
        if self.processes == 1:
            return jax.device_put(feed, sharding)
        return jax.tree.map(functools.partial(jax.make_array_from_process_local_data, sharding), feed)

    @functools.cached_property
    def _most(self) -> Callable[[jax.Array], jax.Array]:
        return jax.jit(jnp.max, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    def any_process(self, flag: bool) -> jax.Array:
        """Whether any of the processes says so, bool []; not waited for. Each must ask."""
        own = np.full(len(self.devices) // self.processes, flag)
        return self._most(self._put_rows(own, PartitionSpec(AXIS)))

    def _mapped(self, x: np.ndarray, *, axis: int) -> np.ndarray:
        """pmap's form of one array of a feed: the devices first."""
        return np.moveaxis(x.reshape(*x.shape[:axis], len(self.devices), -1, *x.shape[axis + 1 :]), axis, 0)

    def ahead(self, feeds: Iterator[PyTree], depth: int = 2, *, members: bool = False) -> Iterator[PyTree]:
        """The feeds of training, placed `depth` steps before they are due: copying goes on beside computing."""
        split = functools.partial(self.split, parts=self.parts, members=members)
        waiting = collections.deque(map(split, itertools.islice(feeds, depth)))
        while waiting:
            yield waiting.popleft()
            waiting.extend(map(split, itertools.islice(feeds, 1)))

    @property
    def holds_members(self) -> bool:
        """Whether a population can train in one step: where the compiler sees the global batch, whole and at once."""
        return self.axis_name is None and not self.fsdp and self.parts == 1

    @property
    def overlaps(self) -> bool:
        """Whether programs that do not wait for one another run side by side, as on CPUs, not one after the other.

        Their collectives would then meet those of other processes in another order: only one may be under way.
        """
        return self.devices[0].platform == "cpu"

    @property
    def deterministic_ops(self) -> bool:
        """Whether the compiler is told to use only operations that give the same bits each time: a choice on GPUs."""
        return self.deterministic and self.devices[0].platform == "gpu"

    @property
    def calls_onednn(self) -> bool:
        """Whether the compiled steps may call oneDNN: those of a lasting run, on a CPU that they have to themselves."""
        divided = len(self.devices) > 1 and self.axis_name is None
        asked = self.lasting and backend.lowering() == "measured" and backend.has_onednn()
        return asked and not divided and self.devices[0].platform == "cpu"

    @property
    def step_parts(self) -> steps.Parts:
        """How the train step computes its batch."""
        return steps.Parts(self.parts, unroll=self.devices[0].platform == "cpu")

    def compile_train(self, step: steps.TrainStep, *example: PyTree, members: bool = False) -> jax.stages.Compiled:
        """The compiled train step; the state it is given is donated. `example`: placed arguments or their shapes.

        (state, resident, feed, learning rate) -> (state, measures): a feed as `split` gives it with all `parts`, or
        with the members of a population.
        """
        kept, axis = jax.tree.map(self._sharding, example[0]), int(self.parts > 1 or members)
        return self._compile(step, example, kept=(kept, None, None, None), axis=axis, out=(kept, None), donate=0)

    def compile_eval(self, step: steps.EvalStep, *example: PyTree) -> jax.stages.Compiled:
        """The compiled (state, resident, feed, sums) -> sums; the sums it is given are donated."""
        kept = jax.tree.map(self._sharding, example[0])
        return self._compile(step, example, kept=(kept, None, None, None), axis=0, out=None, donate=3)

    def _compile(
        self,
        step: Callable[..., PyTree],
        example: tuple[PyTree, ...],
        *,
        kept: tuple[PyTree, ...],
        axis: int,
        out: PyTree,
        donate: int,
    ) -> jax.stages.Compiled:
        """Compile a step whose third argument is a feed, split along `axis`; `kept`, `out`: shardings, None: whole."""
        if self.mode == "pmap":
            axes = (None, None, 0, None)
            mapped = jax.pmap(
                step, axis_name=AXIS, in_axes=axes, out_axes=None, donate_argnums=donate, devices=list(self.devices)
            )
            return self._compiled(mapped, example)
        rows = PartitionSpec(*[None] * axis, AXIS)
        if self.per_replica:
            # check_vma off: the step itself reduces its gradients, and must not find them already summed.
            specs = (PartitionSpec(), PartitionSpec(), rows, PartitionSpec())
            step = jax.shard_map(step, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
        whole = NamedSharding(self.mesh, PartitionSpec())
        state, *others = (whole if sharding is None else sharding for sharding in kept)
        inputs = (state, others[0], NamedSharding(self.mesh, rows), others[2])
        outputs = jax.tree.map(lambda s: whole if s is None else s, out, is_leaf=lambda s: s is None)
        jitted = jax.jit(step, in_shardings=inputs, out_shardings=outputs, donate_argnums=donate)
        return self._compiled(jitted, example)

    def _compiled(self, function: Any, example: tuple[PyTree, ...]) -> jax.stages.Compiled:
        options: dict[str, str | bool] = {"xla_gpu_deterministic_ops": True} if self.deterministic_ops else {}
        with backend.unkept() if self.lasting else contextlib.nullcontext():
            return function.lower(*example).compile(options)


def layout(config: Config, devices: Sequence[jax.Device] | None = None) -> Layout:
    """The layout of `config` on `devices`, by default this machine's: they need not be here to compile for.

    Raises `UserError`: too few devices, or what does not go together.
    """
    cfg, batch_size = config.parallelism, config.data.batch_size
    together = processes.count() if devices is None else 1
    if devices is None and jax.process_count() > together:
        raise UserError(f"the devices belong to {jax.process_count()} processes; expected --coordinator auto in each")
    available = jax.devices() if devices is None else devices
    count = cfg.devices or len(available)
    if count > len(available):
        raise UserError(f"parallelism.devices is {count}; there are {len(available)} ({available[0].platform})")
    if together > 1:
        _check_processes(config, together, available, count)
    per_replica = cfg.batch_norm == "per_replica"
    if cfg.sharding == "fsdp" and (cfg.mode == "pmap" or per_replica):
        other = "mode pmap" if cfg.mode == "pmap" else "batch_norm per_replica"
        raise UserError(f"parallelism.sharding is fsdp, which {other} cannot do; expected mode jit, synchronised")
    _check_batch(batch_size, count, cfg.accumulate, even=bool(config.augmentation.mixup or config.augmentation.cutmix))
    return Layout(
        mode=cfg.mode,
        per_replica=per_replica,
        devices=tuple(available[:count]),
        fsdp=cfg.sharding == "fsdp",
        parts=cfg.accumulate,
        deterministic=config.precision.deterministic,
        processes=together,
    )


def _check_processes(config: Config, together: int, available: Sequence[jax.Device], count: int) -> None:
    """Raise `UserError` where processes cannot train together: they have what differs, or are not all needed."""
    if config.parallelism.mode == "pmap":
        raise UserError(f"parallelism.mode is pmap, and {together} processes train together; expected jit")
    if count != len(available):
        raise UserError(
            f"parallelism.devices is {count}, and {together} processes have {len(available)}; expected all of them"
        )
    each = collections.Counter(device.process_index for device in available)
    if len(set(each.values())) > 1:
        shown = ", ".join(str(each[number]) for number in sorted(each))
        raise UserError(f"the processes have {shown} devices; expected as many in each")
    if available[0].platform == "cpu" and count > together and config.parallelism.accumulate > 1:
        # XLA's exchanges through Gloo then meet one another's messages, and the processes abort.
        raise UserError(
            f"parallelism.accumulate is {config.parallelism.accumulate}, on {count // together} CPU devices in each of "
            f"{together} processes; expected one device in each, or accumulate 1"
        )


def _check_batch(batch_size: int, devices: int, parts: int, *, even: bool) -> None:
    """Raise `UserError` where a batch has no equal share for each device and part, or one that cannot be paired."""
    unit = devices * parts * (2 if even else 1)
    if batch_size % unit:
        below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
        near = f"{below} or {above}" if below else str(above)
        among = [f"{devices} devices"]
        among += [f"{parts} parts (parallelism.accumulate)"] if parts > 1 else []
        among += ["pairs (mixup, cutmix)"] if even else []
        raise UserError(f"data.batch_size is {batch_size}, not divisible by {' x '.join(among)}; nearest: {near}")


def this_host(parts: int = 1) -> Host:
    """Which of the processes that train together this is, for batches that are trained on in `parts`."""
    together = processes.count()
    return Host(jax.process_index(), together, parts) if together > 1 else Host()


def _put(tree: PyTree, shardings: PyTree) -> PyTree:
    """Put arrays, of which each process has the whole, where the shardings say."""
    if all(sharding.is_fully_addressable for sharding in jax.tree.leaves(shardings)):
        return jax.device_put(tree, shardings)

    def one(x: Any, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(x)
        array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda x: one(x, shardings), tree)
    return jax.tree.map(one, tree, shardings)


def whole_here(shapes: PyTree) -> PyTree:
    """Placed shapes as those of arrays that this process has whole."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one_device()), shapes)


def put_as(tree: PyTree, shapes: PyTree) -> PyTree:
    """Put arrays, of which each process has the whole, as placed shapes say."""
    return _put(tree, jax.tree.map(lambda x: x.sharding, shapes))


def one_device() -> jax.sharding.Sharding:
    """Arrays whole on the first device of this process."""
    return SingleDeviceSharding(jax.local_devices()[0])


def per_device_bytes(tree: PyTree) -> int:
    """Bytes that one device keeps of a placed pytree: the most that any of them does."""
    kept: collections.Counter[jax.Device] = collections.Counter()
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            kept[shard.device] += shard.data.nbytes
    return max(kept.values(), default=0)


def per_device_bytes_of(shapes: PyTree) -> int:
    """Bytes that one device keeps of a pytree of placed shapes (`Layout.placed`, `replicated`, `fed`)."""
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


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
    if processes.count() > 1:
        return jax.tree.map(processes.whole, tree)
    return jax.tree.map(np.asarray, jax.device_get(tree))
