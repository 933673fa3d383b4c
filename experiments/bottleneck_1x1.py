"""What does a 1x1 convolution buy?

Seven networks that are known for theirs, each with and without, or with more and fewer of them, everything else as it
is. Each change is asked about twice: at equal structure (the same rows of the table, at the cost that they then have)
and at equal cost (the width at which the changed network has the multiply-adds of the reference, solved for and within
1%, or with its distance and the reason).

    python launch.py study bottleneck_1x1 --scale smoke --workdir runs/bottleneck_1x1
    python launch.py bench --workdir runs/bottleneck_1x1            # what each arm's step takes, alone

inception    GoogLeNet's modules without the 1x1 convolutions before larger ones, and without those after pools as well
             (Szegedy et al. 2014, arXiv:1409.4842, figure 2)
blocks       basic blocks against bottlenecks of ratio 1, 2, 4 and 8 (He et al. 2015, arXiv:1512.03385, figure 5), whose
             3x3 convolutions are as wide and whose outputs are wider
nin          Network in Network with 2, 1 and 0 of the 1x1 layers of each row (Lin et al. 2013, arXiv:1312.4400)
inverted     inverted residuals that expand 6, 4, 2 and 1 times, and with an activation after the last 1x1 (Sandler et
             al. 2018, arXiv:1801.04381, figure 6)
dense        dense layers without their 1x1 (no B) and transitions that keep all channels (no C) (Huang et al. 2016,
             arXiv:1608.06993)
excite       squeeze-and-excitation that reduces 4, 8, 16 and 32 times, and none (Hu et al. 2017, arXiv:1709.01507)
separable    depthwise 3x3 and 1x1 against ordinary 3x3 convolutions, and narrow against shallow (Howard et al. 2017,
             arXiv:1704.04861, tables 4 and 5: top-1 70.6% at 569 M multiply-adds against 71.7% at 4,866 M, and 68.4%
             against 65.3%)

smoke  digits (8x8): blocks and separable, four seeds. Cost: 156 s. Result, test error at equal cost: cannot tell of
       either (bottleneck_4 against basic +0.8 percentage points, 95% interval -1.8 to +3.3; ordinary against separable
       -1.0, -2.4 to +0.3).
small  Fashion-MNIST: 5,000 examples at 14x14, six epochs, three seeds, three learning rates; inception, blocks,
       inverted and separable, narrow. Left out: other ratios and expansions; nin, whose released initial weights are
       for its own width and which has no batch norm; dense, whose growth rates are too small to be matched when narrow;
       excite, which costs next to nothing at any reduction, so that five networks of 16 channels would be compared.
       Cost: 67 min beside other work. Kept with its report in experiments/reports/bottleneck_1x1. Result, test error at
       equal cost: better without the 1x1 convolutions of inception modules (-3.0 points, -4.1 to -1.9) and shallow
       instead of narrow (-3.5, -4.9 to -2.0); of the others cannot tell. Each arm's best rate is at an edge of the
       three in 14 of 17 arms.
full   CIFAR-10, all seven, five seeds, 200 epochs, flips and pad-and-crop.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from research.config import (
    BudgetConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
    ScheduleConfig,
    replace,
)
from research.errors import unknown
from research.reports import arms, tables
from research.reports.arms import Cells, Judged
from research.reports.comparison import Claim
from research.reports.document import Document, Section
from research.sweeps import design, predict
from research.sweeps.design import Grid
from research.sweeps.plan import Planned
from research.values import Duration

if TYPE_CHECKING:
    from research.sweeps.results import Result

SCALES = ("smoke", "small", "full")
# Config keys, beside the seed, in which runs of one scale differ: the network, and the tuning grid.
VARIES = (
    "model.name",
    "model.options.width",
    "model.options.width_multiplier",
    "model.options.depth_multiplier",
    "model.options.channel_divisor",
    "model.options.stem",
    "model.options.reductions",
    "model.options.bottleneck_ratio",
    "model.options.mixings",
    "model.options.expansion",
    "model.options.bottleneck",
    "model.options.compression",
    "model.options.reduction",
    "model.options.separable",
    "model.options.shallow",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
)
REFERENCE, STRUCTURE, COST = "reference", "structure", "cost"
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Topic:
    """Arms that differ in one thing: options of `model`, the reference's and each other arm's.

    `same_cost`: those whose multiply-adds are the reference's anyway, so that they have no twin.
    """

    question: str
    model: str
    reference: str
    arms: Mapping[str, Options]
    same_cost: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)  # of arms that are another variant


TOPICS = {
    "inception": Topic(
        "What do the 1x1 convolutions of an inception module save, and at what price?",
        "googlenet_bn",
        "all",
        {"all": {}, "no_reductions": {"reductions": "pool"}, "no_1x1": {"reductions": "none"}},
    ),
    "blocks": Topic(
        "Two 3x3 convolutions, or one between two 1x1 convolutions?",
        "resnet20",
        "basic",
        {"basic": {}} | {f"bottleneck_{ratio}": {"bottleneck_ratio": ratio} for ratio in (1, 2, 4, 8)},
    ),
    "nin": Topic(
        "What do the 1x1 layers after each convolution add?",
        "nin_cifar",
        "two",
        {"two": {}, "one": {"mixings": 1}, "none": {"mixings": 0}},
    ),
    "inverted": Topic(
        "How far should an inverted residual expand, and should its last 1x1 be linear?",
        "mobilenet_v2",
        "expand_6",
        {f"expand_{times}": {"expansion": float(times)} for times in (6, 4, 2, 1)} | {"relu": {"bottleneck": "relu"}},
        same_cost=("relu",),
    ),
    "dense": Topic(
        "What do the 1x1 convolutions of dense layers and of transitions buy?",
        "densenet_bc_100_12",
        "bc",
        {
            "bc": {},
            "no_b": {"bottleneck": False},
            "no_c": {"compression": 1.0},
            "neither": {"bottleneck": False, "compression": 1.0},
        },
    ),
    "excite": Topic(
        "How far may squeeze-and-excitation reduce, and is it worth its two 1x1 layers?",
        "se_resnet18",
        "reduce_16",
        {f"reduce_{times}": {"reduction": times} for times in (16, 4, 8, 32)} | {"none": {}},
        same_cost=("reduce_4", "reduce_8", "reduce_32", "none"),
        models={"none": "resnet18"},
    ),
    "separable": Topic(
        "A depthwise filter and a 1x1 convolution, or an ordinary convolution? Narrow and deep, or wide and shallow?",
        "mobilenet_v1",
        "separable",
        {"separable": {}, "ordinary": {"separable": False}, "shallow": {"shallow": True}},
    ),
}


@dataclass(frozen=True)
class Setting:
    """One scale: the shared recipe, which arms of which topics, the size of each topic's networks, seeds and grid."""

    recipe: Config
    topics: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, Options]
    seeds: int
    grid: Grid = field(default_factory=dict)


_SMOKE = Config(
    data=DataConfig("digits", batch_size=128, eval_on_train=True),
    optimizer=OptimizerConfig("momentum", learning_rate=0.1, weight_decay=1e-3),
    schedule=ScheduleConfig("cosine", warmup=Duration(1, "epochs")),
    budget=BudgetConfig(train=Duration(8, "epochs"), eval_every=Duration(4, "epochs")),
    evaluation=EvaluationConfig(batch_norm_batches=8),
    checkpointing=CheckpointConfig(every=Duration(0, "steps"), keep_last=1, keep_best=False),
)
# Widths of the references are such that every arm that is to cost the same can: three stages of few channels move in
# steps of several percent.
_SMALL_IMAGES = {"stem": "cifar", "channel_divisor": 1}
SETTINGS = {
    "smoke": Setting(
        _SMOKE,
        topics={"blocks": ("basic", "bottleneck_4"), "separable": ("separable", "ordinary")},
        sizes={
            "blocks": {"width": 8, "width_multiplier": 1.161, "channel_divisor": 1},
            "separable": {"width_multiplier": 0.1354, "depth_multiplier": 0.5, **_SMALL_IMAGES},
        },
        seeds=4,
    ),
    "small": Setting(
        replace(
            _SMOKE,
            **{
                "data.name": "fashion_mnist",
                "data.train_examples": 5_000,
                "data.resolution": 14,
                "budget.train": Duration(6, "epochs"),
                "budget.eval_every": Duration(6, "epochs"),
                "checkpointing.every": Duration(6, "epochs"),
            },
        ),
        topics={
            "inception": ("all", "no_1x1"),
            "blocks": ("basic", "bottleneck_1", "bottleneck_4"),
            "inverted": ("expand_6", "expand_1", "relu"),
            "separable": ("separable", "ordinary", "shallow"),
        },
        sizes={
            "inception": {"width_multiplier": 0.0625, **_SMALL_IMAGES},
            "blocks": {"width": 8, "width_multiplier": 0.9, "channel_divisor": 1},
            "inverted": {"width_multiplier": 0.25, "depth_multiplier": 0.5, **_SMALL_IMAGES},
            "separable": {"width_multiplier": 0.1285, **_SMALL_IMAGES},
        },
        seeds=3,
        grid={"optimizer.learning_rate": (0.05, 0.1, 0.2)},
    ),
    "full": Setting(
        replace(
            _SMOKE,
            **{
                "data.name": "cifar10",
                "augmentation.flip": True,
                "augmentation.pad_and_crop": 4,
                "schedule.warmup": Duration(5, "epochs"),
                "budget.train": Duration(200, "epochs"),
                "budget.eval_every": Duration(10, "epochs"),
                "evaluation.batch_norm_batches": 50,
                "checkpointing.every": Duration(10, "epochs"),
            },
        ),
        topics={name: tuple(topic.arms) for name, topic in TOPICS.items()},
        sizes={
            "inception": {"width_multiplier": 0.5, **_SMALL_IMAGES},
            "blocks": {"width": 32},
            "nin": {},
            "inverted": dict(_SMALL_IMAGES),
            "dense": {},
            "excite": {"width_multiplier": 0.5, **_SMALL_IMAGES},
            "separable": dict(_SMALL_IMAGES),
        },
        seeds=5,
        grid={"optimizer.learning_rate": (0.03, 0.1, 0.3), "optimizer.weight_decay": (5e-4, 1e-3)},
    ),
}


@functools.cache
def _planned(scale: str) -> tuple[Planned, ...]:
    setting, search, found = SETTINGS[scale], design.search(__file__), []
    add = functools.partial(design.planned, seeds=range(setting.seeds), grid=setting.grid)
    for name, chosen in setting.topics.items():
        topic = TOPICS[name]
        configs = {arm: _config(setting, name, arm) for arm in chosen}
        target = predict.macs(configs[topic.reference])
        for arm, config in configs.items():
            label = f"{name}_{arm}"
            found += add(label, REFERENCE if arm == topic.reference else STRUCTURE, config)
            if arm != topic.reference and arm not in topic.same_cost:
                twin = search.twin(config, target)
                found += add(label, COST, twin.config, target_macs=target, reason=twin.reason)
    return tuple(found)


def runs(scale: str) -> list[Planned]:
    """Each topic's reference, and every other arm at equal structure and at equal cost. Raises `UserError`."""
    if scale not in SETTINGS:
        raise unknown("scale", scale, SCALES)
    return list(_planned(scale))


def _config(setting: Setting, name: str, arm: str) -> Config:
    topic = TOPICS[name]
    options = {**setting.sizes[name], **topic.arms[arm]}
    model = topic.models.get(arm, topic.model)
    return replace(setting.recipe, **{"model.name": model}, **{f"model.{key}": v for key, v in options.items()})


def report(results: "Sequence[Result]") -> Document:
    """Each arm against its topic's reference, at equal cost and at equal structure."""
    question = (__doc__ or "").splitlines()[0]
    return arms.document("Bottlenecks of 1x1 convolutions", question, results, _claims, _sections)


def _topic(arm: str) -> str:
    return arm.partition("@")[0].partition("_")[0]


def _claims(group: "Sequence[Result]", metric: str, errors: Cells) -> list[Claim]:
    """Every other arm against its reference: at equal cost on the first screen, at equal structure in the tables."""
    seeds = len({r.seed for r in group})
    present = dict.fromkeys((arms.name(r), arms.budget(r)) for r in group)
    claims = []
    for arm, budget in sorted(present, key=lambda cell: cell[1]):
        topic = TOPICS[_topic(arm)]
        reference = f"{_topic(arm)}_{topic.reference}"
        if budget != REFERENCE:
            same = arm.removeprefix(f"{_topic(arm)}_") in topic.same_cost
            how = f"equal {budget}" + (" and cost" if same else "")
            text = f"{arm} against {reference}, {how}"
            first = metric == arms.TEST and (budget == COST or same)
            pair = errors(arm, budget), errors(reference, REFERENCE)
            claims.append(Claim(text, metric, *pair, seeds, first_screen=first, family=_topic(arm)))
    return claims


def _sections(group: "Sequence[Result]", judged: Judged) -> list[Section]:
    best = arms.best_settings(group)
    made = [_of_topic(name, group, judged) for name in TOPICS if any(_topic(r.arm) == name for r in group)]
    return [
        *made,
        arms.clock(group, _reference, _topic),
        Section("All arms", arms.states(group), [best] if best else []),
    ]


def _reference(arm: str, budget: str) -> tuple[str, str]:
    return f"{_topic(arm)}_{TOPICS[_topic(arm)].reference}", REFERENCE


def _of_topic(name: str, group: "Sequence[Result]", judged: Judged) -> Section:
    own = [r for r in group if _topic(r.arm) == name]
    figure = arms.error_figure(
        arms.locked(own),
        arms.TEST,
        lambda r: tables.number(r, "macs"),
        title_x="multiply-adds",
        title=f"{name.capitalize()}: test error against multiply-adds",
    )
    table = arms.table(own, lambda arm, budget: {"arm": arm, "budget": budget}, title=f"Arms of {name}")
    return Section(name.capitalize(), TOPICS[name].question, [figure, table, *arms.difference_tables(judged, name)])
