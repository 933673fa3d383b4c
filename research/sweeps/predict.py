"""What a plan would cost before anything runs: exact counts, and a rough time on this machine.

    seconds = passes x (macs / rate + activations / bandwidth),    passes = 3 x trained + 1 x evaluated examples

per example, for the training and evaluation steps alone: no compiling, no input, no saving. Three passes are the
forward and the two of the gradient (four with rematerialisation); averaged weights are evaluated like the others. Rate
and bandwidth are measured constants (`CPU_CORE`, `SPEEDS`) of a kind of device, the same for every network, so expect a
factor of 1.5 either way; a kind without a row has no prediction.
"""

import functools
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from research.config import Config, DataConfig, digest
from research.errors import UserError
from research.sweeps.plan import Planned

if TYPE_CHECKING:
    from research.scaling.totals import Counter


@dataclass(frozen=True)
class Speed:
    """Measured speed of a kind of device: multiply-adds and activations per second."""

    macs: float
    activations: float


@dataclass(frozen=True)
class Data:
    """What a prediction needs of the data: shape of an example, classes, and how many examples (None: unknown)."""

    shape: tuple[int, ...]
    num_classes: int
    train_examples: int | None
    eval_examples: int | None


# Per core of an x86 server CPU, float32: least squares over the CPU seconds of training steps of eight networks
# (resnet8/14/20, widths 4 to 32, 8 to 32 pixels, batch 64 and 128); each lies between 0.7 and 1.4 of its prediction.
CPU_CORE = Speed(macs=54e9, activations=0.14e9)
SPEEDS: dict[str, Speed] = {}  # by JAX's device kind, for accelerators


def rows(planned: Iterable[Planned]) -> list[dict[str, Any]]:
    """One row per run, for `--dry-run`; the first ten keys are those of `--json`.

    run, arm, seed, budget, target_macs, macs, params, activations, predicted_seconds (null where unknown), reason.
    Raises `UserError`: unknown model or data set, an image too small for the network.
    """
    networks: dict[tuple[Any, ...], tuple[Data, Mapping[str, int]]] = {}  # runs that differ in their rates share one
    found, device = [], this_device()
    for p in planned:
        network = p.config.model, p.config.transfer, p.config.data
        if network not in networks:
            data = known_data(p.config)
            networks[network] = data, counts(p.config, data)
        data, cost = networks[network]
        predicted = seconds(p.config, data, cost, device)
        found.append(
            {
                "run": p.label,
                "arm": p.arm,
                "seed": p.seed,
                "budget": p.budget,
                "target_macs": p.target_macs,
                **cost,
                "predicted_seconds": predicted,
                "reason": p.reason,
            }
        )
    return found


def known_data(config: Config) -> Data:
    """The data of `config`; of a set with a row that is not prepared here, as it was published.

    The plan of a large study can then be read on a machine that could never run it. Raises `UserError` for a data set
    that nobody knows.
    """
    from research import data
    from research.training import transfer

    try:
        info = data.info(transfer.data_config(config))
    except UserError as error:
        if config.data.path is not None or config.data.name not in data.names() or _is_here(config.data.name):
            raise error
        wanted = transfer.data_config(config)
        info = data.info(wanted, data.described(wanted)[0])
    return Data(info.shape, info.num_classes, info.train_examples, info.eval_examples)


def _is_here(name: str) -> bool:
    """Whether the data set itself can be read on this machine, so that what is wrong is the config."""
    from research import data

    try:
        data.info(DataConfig(name, resolution=32))
    except UserError:
        return False
    return True


_counted: dict[str, Mapping[str, int]] = {}


def network_digest(config: Config) -> str:
    """Digest of what `counts` depends on."""
    return digest(Config(model=config.model, data=config.data, transfer=config.transfer))[:16]


def counted_before(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Take these counts, by `network_digest`: what the same code has counted need not be counted again."""
    _counted.update(counts)


@functools.lru_cache(maxsize=4096)  # a plan asks for the same networks more than once, and tracing one takes seconds
def counts(config: Config, data: Data) -> Mapping[str, int]:
    """Exact macs, params and activations of the network for one example. Raises `UserError`.

    Networks of the catalogue are counted by parts, a user's own as a whole; those that were counted before are known.
    """
    from research import catalogue
    from research.scaling import complexity

    model, shape = network(config, data), (1, *data.shape)
    if (before := _counted.get(network_digest(config))) is not None:
        return MappingProxyType({name: before[name] for name in ("macs", "params", "activations")})
    cost = complexity.count(model, shape) if catalogue.is_path(config.model.name) else _counter().totals(model, shape)
    return MappingProxyType({"macs": cost.macs, "params": cost.params, "activations": cost.activations})


@functools.cache
def _counter() -> "Counter":
    from research.scaling.totals import Counter

    return Counter()


def network(config: Config, data: Data) -> Any:
    """The network of a config, checked against its data. Raises `UserError`."""
    from research import data as datasets
    from research import models
    from research.training import transfer

    fields = transfer.model_fields(config)
    models.check_input(config.model.name, data.shape, **fields)
    datasets.check_batch_size(config.data, data.train_examples)
    num_classes = config.model.num_classes or data.num_classes
    return models.create(config.model.name, num_classes=num_classes, **fields)


def macs(config: Config) -> int:
    """Multiply-adds of one example of a config's network, as `counts` has them. Raises `UserError`."""
    return counts(config, known_data(config))["macs"]


def macs_as_a_whole(config: Config) -> int:
    """The same, layer by layer: what is counted by parts is held against it once."""
    from research.scaling import complexity

    data = known_data(config)
    return complexity.count(network(config, data), (1, *data.shape)).macs


def seconds(config: Config, data: Data, cost: Mapping[str, int], speed: Speed | None) -> float | None:
    """Predicted seconds of the run's steps; None for a device without a row, or epochs of unknown length."""
    budget, batch = config.budget, config.data.batch_size
    if speed is None or (data.train_examples is None and budget.train.unit == "epochs"):
        return None
    length = {"examples": data.train_examples or 0, "batch_size": batch}
    steps, every = budget.train.steps(**length), budget.eval_every.exact(**length)
    evaluations = math.ceil(steps / every) if every else 1
    weights = 2 if config.optimizer.ema_decay else 1
    evaluated = (data.eval_examples or 0) + config.evaluation.batch_norm_batches * batch
    evaluated = weights * evaluated + (data.train_examples or 0) * config.data.eval_on_train
    passes = (4 if config.parallelism.remat else 3) * steps * batch + evaluations * evaluated
    return passes * (cost["macs"] / speed.macs + cost["activations"] / speed.activations)


def this_device() -> Speed | None:
    """Speed of the devices JAX has here, all together; None where their kind has no row."""
    import jax

    devices = jax.devices()
    if devices[0].platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return Speed(CPU_CORE.macs * cores, CPU_CORE.activations * cores)
    speed = SPEEDS.get(devices[0].device_kind)
    return speed and Speed(speed.macs * len(devices), speed.activations * len(devices))
