"""Configs: frozen values that say all there is to say about one run.

A `Config` is built by a function in `configs/`, checked where it is constructed (type and range of every field), and
written to `config.json` from which it loads back equal. What needs the catalogue or the data to be judged (names,
contradictions) is checked by `research.training.resolve` before anything is compiled.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from research.errors import UserError, unknown
from research.values import (
    LEAST_CROP,
    MOST_BATCH,
    Count,
    Duration,
    Fraction,
    Natural,
    NonNegative,
    Options,
    Positive,
    Range,
    Share,
    Side,
    Value,
    annotations,
    cosmetic,
    encode,
    flatten,
    from_mapping,
)


@dataclass(frozen=True)
class ModelConfig(Value):
    """Which network: a catalogue name or `file.py:Name`, and the model's own fields that differ from the variant's."""

    section = "model."

    name: str = "lenet5"
    num_classes: Annotated[int, Range(low=1)] | None = None  # None: as many as the data has
    options: Options = Options()


@dataclass(frozen=True)
class TransferConfig(Value):
    """Weights to start from, and what of them stays as it is."""

    section = "transfer."

    weights: str | None = None  # a file, package:NAME/FILE of an installed package, or a run's folder; None: random
    source: str | None = None  # whose weights they are (torchvision, timm), where several would fit the network
    head: Literal["auto", "new"] = "auto"  # auto: the weights' own where it has as many classes
    freeze: str = "none"  # none, all_but_head, up_to:STAGE (stage3: it and all before it), auto: by number of examples
    # Batch statistics that stay as they are: of what is frozen, of all layers, or of none.
    frozen_statistics: Literal["with_weights", "all", "none"] = "with_weights"


@dataclass(frozen=True)
class DataConfig(Value):
    """Which examples, in what form. `name`: a row of `launch.py list datasets` or any prepared TFDS name."""

    section = "data."

    name: str = "digits"
    path: str | None = None  # image folder, or TFDS data directory
    batch_size: Count = 128  # global, over all devices
    eval_batch_size: Annotated[int, Range(low=1, high=MOST_BATCH)] = 512
    train_examples: Count | None = None  # a class-balanced subset of the training split
    validation: Fraction = 0.0  # share of the training split held out; evaluation then uses it, not the test split
    eval_on_train: bool = False  # also evaluate on the (unaugmented) training split
    resolution: Side | None = None  # pixels; None: as transfer.weights were trained, else the data's own
    fit: Literal["resize", "pad"] = "resize"  # how the data's own size becomes `resolution`
    # resize: share of the short side that the centre crop keeps; 0.875 is 256 to 224; None: as transfer.weights, else 1
    crop_fraction: Annotated[float, Range(low=LEAST_CROP, high=1)] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None  # resize; None: as transfer.weights, else bilinear
    channels: Literal[1, 3] | None = None  # None: as transfer.weights, else the data's own
    # per channel, 0 to 255; None: as transfer.weights were trained, else measured on the training images
    mean: tuple[float, ...] | None = None
    std: tuple[Positive, ...] | None = None
    shuffle: bool = True
    input: Literal["auto", "resident", "streaming"] = "auto"  # auto: resident up to 1 GiB of equally large images
    workers: Annotated[int, Range(low=0, high=128)] = cosmetic(
        0
    )  # streaming: processes that read and decode; 0: threads of this one
    corrupt: Literal["refuse", "skip"] = "refuse"  # an image that cannot be read ends the run, or counts as no example


@dataclass(frozen=True)
class AugmentationConfig(Value):
    """What is drawn anew for each training example, in this order; 0 and false: nothing."""

    section = "augmentation."

    random_resized_crop: bool = False  # of streamed files on the host, of equally large images inside the step
    crop_area: tuple[Share, Share] = (0.08, 1.0)  # random_resized_crop: share of the image
    crop_ratio: tuple[Positive, Positive] = (0.75, 1.3333333333333333)  # random_resized_crop: width over height
    flip: bool = False  # horizontal
    pad_and_crop: Natural = 0  # pixels of the mean colour on each side before a random crop back to size
    policy: Literal["none", "autoaugment_imagenet", "autoaugment_cifar", "randaugment"] = "none"
    layers: Count = 2  # randaugment: operations per image (N)
    magnitude: Annotated[float, Range(low=0, high=30)] = 9.0  # randaugment: strength of each (M), of 10 as in the paper
    brightness: Fraction = 0.0  # colour jitter: factors from 1 - x to 1 + x
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    hue: Annotated[float, Range(low=0, high=0.5)] = 0.0  # colour jitter: share of the colour circle, either way
    cutout: Natural = 0  # pixels: side of a square of the mean colour, its centre anywhere
    random_erasing: Fraction = 0.0  # probability of a rectangle of noise
    mixup: NonNegative = 0.0  # alpha of the Beta distribution; examples mix with their neighbours in the batch
    cutmix: NonNegative = 0.0  # alpha; with both, each pair draws one of the two


@dataclass(frozen=True)
class TaskConfig(Value):
    """How a batch meets a loss and metrics."""

    section = "task."

    name: str = "classification"
    loss: str = "softmax_cross_entropy"  # a name of `launch.py list losses` or `file.py:function`
    label_smoothing: Annotated[float, Range(low=0, high=1)] = 0.0
    pool: Literal["average", "places"] = "average"  # what the head sees; places: also where each channel is highest
    lambda_coord: NonNegative | None = None  # localization: weights of the loss's terms; None: the loss's own
    lambda_obj: NonNegative | None = None
    lambda_cls: NonNegative | None = None
    auxiliary_weight: NonNegative | None = None  # of each auxiliary head's loss; None: the network's own


@dataclass(frozen=True)
class OptimizerConfig(Value):
    """The update rule. Weight decay is masked, and decoupled (learning rate x decay x weight) but in lars and lamb."""

    section = "optimizer."

    name: str = "momentum"  # a name of `launch.py list optimizers`
    learning_rate: NonNegative = 0.1  # the schedule's peak, at `reference_batch` images where `batch_scaling` is set
    batch_scaling: Literal["none", "linear", "sqrt"] = "none"  # how the peak follows data.batch_size
    reference_batch: Count = 256  # images; batch_scaling: the batch at which the peak is learning_rate
    momentum: Fraction = 0.9
    beta1: Fraction = 0.9
    beta2: Fraction | None = None  # decay of squared gradients (rmsprop's rho); None: the rule's own
    epsilon: NonNegative | None = None  # None: the rule's own
    trust_coefficient: Positive = 0.001  # lars
    weight_decay: NonNegative = 0.0
    # kernels: arrays of rank 2 and more, no biases, no norm scales; not_depthwise: those not of a layer "depthwise"
    decay_on: Literal["kernels", "not_depthwise", "all"] = "kernels"
    clip_norm: Positive | None = None  # gradients of a larger global norm are scaled down to it
    groups: tuple[str, ...] = ()  # "PATTERN=FACTOR" on parameter paths ("stem/*=0.1"), first match; factor 0 freezes
    # Of a running average of the weights; 0: none. It is evaluated as well (eval_ema/...); best goes by the weights.
    ema_decay: Annotated[float, Range(low=0, below=1)] = 0.0


@dataclass(frozen=True)
class ScheduleConfig(Value):
    """Learning rate over the budget, as a factor on `optimizer.learning_rate`."""

    section = "schedule."

    name: str = "cosine"  # constant, step, exponential, cosine, polynomial, one_cycle
    warmup: Duration = Duration(0, "steps")  # linear, from peak / warmup at the first step
    boundaries: tuple[Fraction, ...] = (0.5, 0.75)  # step: shares of the budget at which the rate drops
    factor: Positive = 0.1  # step, exponential: what it is multiplied by at each boundary, or over each `every`
    every: Duration = Duration(1, "epochs")  # exponential
    staircase: bool = True  # exponential: at once at the end of each `every`, not bit by bit
    power: Positive = 1.0  # polynomial
    final: Fraction = 0.0  # cosine, polynomial, one_cycle: the factor it ends at
    initial: Fraction = 0.04  # one_cycle: the factor it begins at
    rise: Fraction = 0.3  # one_cycle: share of the budget at which it peaks


@dataclass(frozen=True)
class BudgetConfig(Value):
    """How long to train, how often to evaluate (0: only at the end)."""

    section = "budget."

    train: Duration = Duration(10, "epochs")
    eval_every: Duration = Duration(1, "epochs")
    log_every: Duration = cosmetic(Duration(50, "steps"))
    patience: Natural = 0  # evaluations without a better one after which the run ends early; 0: never


@dataclass(frozen=True)
class EvaluationConfig(Value):
    """What is done to the weights before they are evaluated."""

    section = "evaluation."

    batch_norm_batches: Natural = 0  # training batches from which batch statistics are estimated anew; 0: the running


@dataclass(frozen=True)
class ProbesConfig(Value):
    """What is looked at inside the network before the first step, in the course of training, and at its end."""

    section = "probes."

    names: tuple[str, ...] = ()  # of `launch.py list probes`
    every: Duration = Duration(0, "steps")  # 0: before the first step and after the last
    examples: Count = 128  # the first of the training split, without augmentation


@dataclass(frozen=True)
class ParallelismConfig(Value):
    """How the step is compiled and spread over devices."""

    section = "parallelism."

    mode: Literal["jit", "pmap"] = "jit"
    devices: Count | None = None  # None: every device there is
    batch_norm: Literal["synchronised", "per_replica"] = "synchronised"
    sharding: Literal["replicated", "fsdp"] = "replicated"  # fsdp: parameters and optimizer state split over devices
    accumulate: Count = 1  # parts of a batch computed one after the other, their gradients added up
    remat: bool = False  # compute each block's activations again in the backward pass instead of keeping them


@dataclass(frozen=True)
class PrecisionConfig(Value):
    """Compute type of the network (parameters, losses and metrics stay float32) and matrix-product precision."""

    section = "precision."

    compute: Literal["float32", "bfloat16"] = "float32"
    matmul: Literal["default", "high", "highest"] = "default"
    deterministic: bool = True  # on GPUs, only operations that give the same bits each time


@dataclass(frozen=True)
class CheckpointConfig(Value):
    """When state is saved and what is kept; changes no number of the run."""

    section = "checkpointing."

    every: Duration = cosmetic(Duration(1, "epochs"))  # 0: only when the run ends or is preempted
    keep_last: Count = cosmetic(2)
    keep_best: bool = cosmetic(True)
    asynchronous: bool = cosmetic(True)


@dataclass(frozen=True)
class Config(Value):
    """One run, complete."""

    model: ModelConfig = ModelConfig()
    transfer: TransferConfig = TransferConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    task: TaskConfig = TaskConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    budget: BudgetConfig = BudgetConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    probes: ProbesConfig = ProbesConfig()
    parallelism: ParallelismConfig = ParallelismConfig()
    precision: PrecisionConfig = PrecisionConfig()
    checkpointing: CheckpointConfig = CheckpointConfig()
    seed: Annotated[int, Range(low=0, high=2**32 - 1)] = 0  # 32 bits: all that a key of JAX's is made from
    notes: str = cosmetic("")


def to_dict(config: Value) -> dict[str, Any]:
    """The config as plain JSON values; `from_dict` of it is equal to `config`."""
    return encode(config)


def from_dict(values: Mapping[str, Any]) -> Config:
    """A `Config` from its JSON values. Raises `UserError` on an unknown key, a wrong type or range."""
    return from_mapping(Config, values, "")


def to_json(config: Config) -> str:
    """The complete config as indented JSON; `from_json` of it is equal to `config`."""
    return json.dumps(to_dict(config), indent=2, allow_nan=False) + "\n"


def from_json(text: str) -> Config:
    """A `Config` from `to_json`'s text. Raises `UserError`."""
    try:
        return from_dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise UserError(f"config is not JSON: {error}") from None


def _essential(value: Any) -> Any:
    """The JSON values of `value` without its cosmetic fields."""
    if not isinstance(value, Value):
        return encode(value)
    fields = [f for f in dataclasses.fields(typing.cast(Any, value)) if not f.metadata.get("cosmetic")]
    return {f.name: _essential(getattr(value, f.name)) for f in fields}


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ between two configs, cosmetic fields left out: key -> (one's, other's)."""
    a, b = flatten(_essential(one)), flatten(_essential(other))
    return {k: (a.get(k), b.get(k)) for k in sorted({*a, *b}) if k not in a or k not in b or a[k] != b[k]}


def digest(config: Config) -> str:
    """Content hash (sha256, hex): equal for configs that differ only in cosmetic fields, stable over key order."""
    text = json.dumps(_essential(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def replace(config: Config, **values: Any) -> Config:
    """A copy with dotted keys changed: `replace(cfg, **{"optimizer.learning_rate": 0.2})`. Raises `UserError`.

    `model.X`, where X is not a field of `ModelConfig`, sets the model's own field X.
    """
    for key, value in values.items():
        config = _replace_one(config, key.split("."), value, key)
    return config


def _replace_one(node: Any, path: list[str], value: Any, key: str) -> Any:
    head, rest = path[0], path[1:]
    if isinstance(node, ModelConfig) and not rest and head not in annotations(ModelConfig):
        return dataclasses.replace(node, options=Options({**node.options, head: value}))
    if isinstance(node, Options) and not rest:
        return Options({**node, head: value})
    if not dataclasses.is_dataclass(node) or isinstance(node, Duration) or head not in annotations(type(node)):
        raise unknown("config key", key, flatten(encode(Config())))
    new = _replace_one(getattr(node, head), rest, value, key) if rest else value
    return dataclasses.replace(typing.cast(Any, node), **{head: new})
