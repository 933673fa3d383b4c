"""Does depth hurt a plain network where it helps a residual one?

He et al. 2015 (arXiv:1512.03385), section 4.2: stacking layers makes a plain network fit its *training* set worse,
and identity shortcuts, which cost nothing, undo that. Arms: `plain` and `residual_a` (parameter-free shortcuts, option
A), which have the same parameters and multiply-adds at every depth 6n+2, so no cost has to be matched; both run the
same seeds (data order, initial values) under one recipe, and only the network's name differs.

    python launch.py study residual_vs_plain --scale smoke --workdir runs/residual_vs_plain

smoke  digits (8x8), width 8, depths 8, 20, 32, three seeds. Cost: under 2 minutes on two CPU cores. Result, training
       error at depth 32: plain is worse than at depth 8 by 19.4 percentage points (95% interval 7.7 to 31.1), residual
       is not (+0.02, -0.24 to +0.29: cannot tell), and residual is better than plain by 19.4 (7.8 to 30.9).
small  Fashion-MNIST: 10,000 examples at 14x14, width 8, depths 8, 20, 32, 56, three seeds. A micro regime: narrow,
       short and without augmentation, so that what is asked, how well the training set is fitted, is seen in minutes.
full   The paper's: CIFAR-10, width 16, depths 20, 32, 44, 56, 110, five seeds, 64,000 steps, flips, pad-and-crop.
       Deviations: all 50,000 training images (45,000 there), 400 steps of warm-up for every arm (ResNet-110 alone
       there), and decoupled weight decay: 1e-3 here acts as the paper's 1e-4 inside momentum 0.9.

Left out until their own studies' parts exist: pre-activation, options B and C, highway networks, gradient and response
probes, block deletion; tuning per arm and re-estimated batch statistics.
Published (CIFAR-10 test error, %): residual 20/32/44/56/110 layers 8.75/7.51/7.17/6.97/6.43.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from research.config import (
    BudgetConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    replace,
)
from research.errors import unknown
from research.reports.document import FINISHED, Document, Figure, Section, Table, Verdict
from research.sweeps.plan import Planned
from research.values import Duration, Options

if TYPE_CHECKING:
    from research.reports.comparison import Family
    from research.sweeps.results import Result

SCALES = ("smoke", "small", "full")
VARIES = ("model.name",)  # the only config key, beside the seed, in which runs of one scale differ
ARMS = {"plain": "plain{depth}", "residual_a": "resnet{depth}"}
TRAIN, TEST = "training error", "test error"
METRICS = {TRAIN: "eval_train/top1", TEST: "eval/top1"}


@dataclass(frozen=True)
class Setting:
    """One scale: the recipe that every arm shares, the depths, and how many seeds."""

    recipe: Config
    depths: tuple[int, ...]
    seeds: int


_SMOKE = Config(
    model=ModelConfig(options=Options(width=8)),
    data=DataConfig("digits", batch_size=128, eval_on_train=True),
    optimizer=OptimizerConfig("momentum", learning_rate=0.1, weight_decay=1e-3),
    schedule=ScheduleConfig("step", warmup=Duration(1, "epochs"), boundaries=(0.5, 0.75), factor=0.1),
    budget=BudgetConfig(train=Duration(12, "epochs"), eval_every=Duration(3, "epochs")),
    checkpointing=CheckpointConfig(every=Duration(0, "steps"), keep_last=1, keep_best=False),
)
SETTINGS = {
    "smoke": Setting(_SMOKE, depths=(8, 20, 32), seeds=3),
    "small": Setting(
        replace(
            _SMOKE,
            **{
                "data.name": "fashion_mnist",
                "data.train_examples": 10_000,
                "data.resolution": 14,
                "budget.train": Duration(20, "epochs"),
                "checkpointing.every": Duration(5, "epochs"),
            },
        ),
        depths=(8, 20, 32, 56),
        seeds=3,
    ),
    "full": Setting(
        replace(
            _SMOKE,
            **{
                "model.width": 16,
                "data.name": "cifar10",
                "augmentation.flip": True,
                "augmentation.pad_and_crop": 4,
                "schedule.warmup": Duration(400, "steps"),
                "budget.train": Duration(64_000, "steps"),
                "budget.eval_every": Duration(4_000, "steps"),
                "checkpointing.every": Duration(4_000, "steps"),
            },
        ),
        depths=(20, 32, 44, 56, 110),
        seeds=5,
    ),
}


def runs(scale: str) -> list[Planned]:
    """Every arm at every depth and seed; only the network's name differs within a seed. Raises `UserError`."""
    if scale not in SETTINGS:
        raise unknown("scale", scale, SCALES)
    setting = SETTINGS[scale]
    return [
        Planned(
            arm=arm,
            budget=f"depth{depth}",
            seed=seed,
            config=replace(setting.recipe, **{"model.name": name.format(depth=depth), "seed": seed}),
        )
        for depth in setting.depths
        for arm, name in ARMS.items()
        for seed in range(setting.seeds)
    ]


def report(results: "Sequence[Result]") -> Document:
    """Training and test error against depth, and what the paired differences over seeds say."""
    verdicts: list[Verdict] = []
    sections: list[Section] = []
    families: list[Family] = []
    for title, group in _groups(results).items():
        where = f" ({title})" if title else ""
        family = _family(group)
        families.append(family)
        verdicts += family.verdicts(where)
        sections.append(
            Section(
                f"Error against depth{where}",
                _text(group),
                [*(_figure(group, metric) for metric in METRICS), _arms_table(group), family.table()],
            )
        )
    return Document("Residual against plain networks", _question(), verdicts, sections, families)


def _question() -> str:
    return (__doc__ or "").splitlines()[0]


def _groups(results: "Sequence[Result]") -> "dict[str, list[Result]]":
    """Results that may be compared with each other: one folder (of several merged), one platform and precision.

    One group, without a title, is the rule. Runs that did not start have no platform and count in the first group.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        folder = result.arm.partition("@")[2]
        groups.setdefault(", ".join(filter(None, [folder, result.conditions])), []).append(result)
    if len(groups) > 1 and "" in groups:
        unstarted = groups.pop("")
        next(iter(groups.values())).extend(unstarted)
    return {"": list(results)} if len(groups) < 2 else groups


def _arm(result: "Result") -> str:
    return result.arm.partition("@")[0]


def _depth(result: "Result") -> int:
    return int(result.budget.removeprefix("depth"))


def _family(group: "Sequence[Result]") -> "Family":
    """The question first (what depth does to each arm), then residual against plain over all and at every depth."""
    from research.reports.comparison import Claim, Errors, Family, mean_over

    depths, seeds = sorted({_depth(r) for r in group}), len({r.seed for r in group})
    claims: list[Claim] = []
    for metric, key in METRICS.items():
        errors = Errors(group, key)
        cells = {(arm, depth): errors.locked(arm, f"depth{depth}") for arm in ARMS for depth in depths}
        for arm in ARMS if len(depths) > 1 else ():
            text = f"{arm}, depth {depths[-1]} against {depths[0]}"
            claims.append(Claim(text, metric, cells[arm, depths[-1]], cells[arm, depths[0]], seeds))
        first, second = (mean_over([cells[arm, depth] for depth in depths]) for arm in ("residual_a", "plain"))
        claims.append(Claim("residual_a against plain, mean over depths", metric, first, second, seeds))
        for depth in depths:
            text = f"residual_a against plain, depth {depth}"
            pair = cells["residual_a", depth], cells["plain", depth]
            claims.append(Claim(text, metric, *pair, seeds, first_screen=metric == TRAIN))
    return Family(claims)


def _text(group: "Sequence[Result]") -> str:
    from research.sweeps.results import count

    states = ", ".join(f"{n} {state}" for state, n in count(group).items() if n) or "none planned"
    text = f"""Runs: {states}. Only finished runs have an error; the others are listed, and pairs they break are left
        out of the differences. Error is measured at the end of the run, on the whole test set and, without
        augmentation, on the training examples."""
    older = sorted({r.accepted_code[:16] for r in group if r.accepted_code})
    if older:
        text += (
            f"\n\nResults of older code were accepted (`--accept-code`): {', '.join(f'`{code}`' for code in older)}."
        )
    return text


def _arms_table(group: "Sequence[Result]") -> Table:
    from research.reports import comparison, tables

    rows: list[dict[str, Any]] = []
    for (arm, budget), cell in tables.by_arm(group).items():
        done = [r for r in cell if r.status == FINISHED]
        failed = sum(r.status == "failed" for r in cell)
        row: dict[str, Any] = {
            "arm": arm,
            "depth": int(budget.removeprefix("depth")),
            "finished": f"{len(done)}/{len(cell)}",
        }
        row["failed"] = failed
        for key in ("params", "macs", "activations"):
            row[key] = tables.same_or_mean(tables.number(r, key) for r in done)
        for metric in METRICS:
            row[metric] = tables.spread([e for r in done if math.isfinite(e := comparison.error(r, METRICS[metric]))])
        row["train_seconds"] = tables.spread([s for r in done if (s := tables.number(r, "train_seconds")) is not None])
        rows.append(row)
    note = f"Mean ± standard deviation over seeds. {_cost_note(group)}"
    return Table("Arms", tables.frame(rows, ["arm", "depth"]), note)


def _cost_note(group: "Sequence[Result]") -> str:
    """What the records say of the premise that both arms cost the same."""
    from research.reports import tables

    costs: dict[int, set[tuple[float | None, ...]]] = {}
    for r in tables.finished(group):
        costs.setdefault(_depth(r), set()).add(tuple(tables.number(r, key) for key in ("params", "macs")))
    if all(len(found) == 1 for found in costs.values()):
        return "The arms have equal parameters and multiply-adds at every depth."
    return "The arms differ in parameters or multiply-adds: this comparison is NOT at equal cost."


def _figure(group: "Sequence[Result]", metric: str) -> Figure:
    """Error against depth; an empty figure while no run has finished."""
    from research.reports import comparison, figures, tables

    finished = [(r, comparison.error(r, METRICS[metric])) for r in tables.finished(group)]
    rows = [
        {"arm": r.arm, "depth": _depth(r), "error": error, "run": r.id} for r, error in finished if math.isfinite(error)
    ]
    frame = tables.frame(rows, ["arm", "depth", "error", "run"])
    chart = figures.metric_against(frame, "depth", "error", "arm", title_x="depth (weighted layers)", title_y=metric)
    return Figure(
        f"{metric.capitalize()} against depth",
        chart,
        "Points are runs, lines their means, bars 95% intervals of the mean (Student's t over seeds)."
        if rows
        else "No run has finished yet.",
    )
