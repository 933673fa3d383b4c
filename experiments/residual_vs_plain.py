"""Does depth hurt a plain network where it helps a residual one?

He et al. 2015 (arXiv:1512.03385), section 4.2: stacking layers makes a plain network fit its *training* set worse,
and identity shortcuts, which cost nothing, undo that. `plain`, `residual_a` (parameter-free shortcuts, option A) and
`preactivation` (He et al. 2016) have the same parameters and multiply-adds at every depth 6n+2, so no cost has to be
matched; `residual_b` and `residual_c` (projections), `highway` (Srivastava et al. 2015) and the arms without batch
norm are what they are, at the cost the report shows. All run the same seeds under one recipe, and the same small grid
of learning rates (full: and weight decays); batch statistics are estimated anew before evaluation.

    python launch.py study residual_vs_plain --scale smoke --workdir runs/residual_vs_plain

smoke  digits (8x8), width 8, depths 8 and 32, six seeds, plain and residual_a. Cost: 670 s beside a test suite.
       Result, training error at depth 32: plain is worse than at depth 8 by 21.1 percentage points (95% interval 11.2
       to 31.0), residual is not (+0.1, -0.1 to +0.2: cannot tell), and residual is better than plain by 21.0.
small  Fashion-MNIST: 10,000 examples at 14x14, width 8, depths 8, 20, 32, 56, five seeds, three arms, three learning
       rates. A micro regime: narrow, short and without augmentation, so that what is asked, how well the training set
       is fitted, can be seen. Not run yet; predicted 6,281 s, which is to be cut below 90 minutes.
full   The paper's: CIFAR-10, width 16, depths 20, 32, 44, 56, 110, five seeds, 64,000 steps, flips, pad-and-crop; the
       arms without batch norm at the shallowest depth. Deviations: all 50,000 training images (45,000 there), 400
       steps of warm-up for every arm (ResNet-110 alone there), and decoupled weight decay: 1e-3 here acts as the
       paper's 1e-4 inside momentum 0.9.

Probes, at the locked setting: gradient norms and response deviations (figure 7 there) of each layer, and the error
without each block (Veit et al. 2016). Published (CIFAR-10 test error, %): residual 20/32/44/56/110 layers
8.75/7.51/7.17/6.97/6.43.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from research.config import (
    BudgetConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ProbesConfig,
    ScheduleConfig,
    replace,
)
from research.errors import unknown
from research.reports.document import FINISHED, Document, Figure, Section, Table, Verdict
from research.sweeps import design
from research.sweeps.design import Grid
from research.sweeps.plan import Planned
from research.values import Duration, Options

if TYPE_CHECKING:
    from research.reports.comparison import BySeed, Claim, Family
    from research.sweeps.results import Result

SCALES = ("smoke", "small", "full")
# Config keys, beside the seed, in which runs of one scale differ: the arm, the tuning grid, and who is probed.
VARIES = (
    "model.name",
    "model.options.shortcut",
    "model.options.batch_norm",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "probes.names",
    "probes.every",
    "probes.examples",
)
ARMS: dict[str, dict[str, Any]] = {
    "plain": {"model.name": "plain{depth}"},
    "residual_a": {"model.name": "resnet{depth}"},
    "residual_b": {"model.name": "resnet{depth}", "model.shortcut": "B"},
    "residual_c": {"model.name": "resnet{depth}", "model.shortcut": "C"},
    "preactivation": {"model.name": "preresnet{depth}"},
    "highway": {"model.name": "highway{depth}", "model.batch_norm": True},
    "plain_without_norm": {"model.name": "plain{depth}", "model.batch_norm": False},
    "residual_without_norm": {"model.name": "resnet{depth}", "model.batch_norm": False},
}
EQUAL = ("plain", "residual_a", "preactivation")  # of equal cost at every depth
SHALLOW = ("plain_without_norm", "residual_without_norm")  # at the shallowest depth alone
TRAIN, TEST = "training error", "test error"
METRICS = {TRAIN: "eval_train/top1", TEST: "eval/top1"}


@dataclass(frozen=True)
class Setting:
    """One scale: the recipe that every arm shares, the arms, depths and seeds, and the tuning grid."""

    recipe: Config
    arms: tuple[str, ...]
    depths: tuple[int, ...]
    seeds: int
    grid: Grid = field(default_factory=dict)


_SMOKE = Config(
    model=ModelConfig(options=Options(width=8)),
    data=DataConfig("digits", batch_size=128, eval_on_train=True),
    optimizer=OptimizerConfig("momentum", learning_rate=0.1, weight_decay=1e-3),
    schedule=ScheduleConfig("step", warmup=Duration(1, "epochs"), boundaries=(0.5, 0.75), factor=0.1),
    budget=BudgetConfig(train=Duration(12, "epochs"), eval_every=Duration(3, "epochs")),
    evaluation=EvaluationConfig(batch_norm_batches=4),
    probes=ProbesConfig(("response_deviations",)),
    checkpointing=CheckpointConfig(every=Duration(0, "steps"), keep_last=1, keep_best=False),
)
PROBES = ("gradient_norms", "response_deviations", "block_deletion_errors")
SETTINGS = {
    "smoke": Setting(_SMOKE, arms=("plain", "residual_a"), depths=(8, 32), seeds=6),
    "small": Setting(
        replace(
            _SMOKE,
            **{
                "data.name": "fashion_mnist",
                "data.train_examples": 10_000,
                "data.resolution": 14,
                "budget.train": Duration(5, "epochs"),
                "budget.eval_every": Duration(1, "epochs"),
                "probes.names": PROBES,
                "checkpointing.every": Duration(5, "epochs"),
            },
        ),
        arms=EQUAL,
        depths=(8, 20, 32, 56),
        seeds=5,
        grid={"optimizer.learning_rate": (0.05, 0.1, 0.2)},
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
                "evaluation.batch_norm_batches": 50,
                "probes.names": PROBES,
                "probes.every": Duration(16_000, "steps"),
                "probes.examples": 256,
                "checkpointing.every": Duration(4_000, "steps"),
            },
        ),
        arms=tuple(ARMS),
        depths=(20, 32, 44, 56, 110),
        seeds=5,
        grid={"optimizer.learning_rate": (0.05, 0.1, 0.2), "optimizer.weight_decay": (5e-4, 1e-3)},
    ),
}


def runs(scale: str) -> list[Planned]:
    """Every arm at every depth, setting of the tuning grid and seed. Raises `UserError`."""
    if scale not in SETTINGS:
        raise unknown("scale", scale, SCALES)
    setting = SETTINGS[scale]
    return [
        run
        for depth in setting.depths
        for arm in setting.arms
        if arm not in SHALLOW or depth == setting.depths[0]
        for run in design.planned(
            arm, f"depth{depth}", _config(setting.recipe, arm, depth), seeds=range(setting.seeds), grid=setting.grid
        )
    ]


def _config(recipe: Config, arm: str, depth: int) -> Config:
    changes = {**ARMS[arm], "model.name": ARMS[arm]["model.name"].format(depth=depth)}
    return replace(recipe, **changes)


def report(results: "Sequence[Result]") -> Document:
    """Training and test error against depth, and what the paired differences over seeds say."""
    verdicts: list[Verdict] = []
    sections: list[Section] = []
    families: list[Family] = []
    for title, group in _groups(results).items():
        where = f" ({title})" if title else ""
        judged = _families(group)
        families += judged.values()
        for (_, setting), family in judged.items():
            verdicts += family.verdicts(f" ({setting}){where}" if len(judged) > len(METRICS) else where)
        locked = [r for r in group if not _setting(r)]
        figures = [_figure(locked, metric) for metric in METRICS]
        tables = [
            family.table(f"Paired differences: {metric}, {setting}") for (metric, setting), family in judged.items()
        ]
        items: list[Table | Figure] = [*figures, _arms_table(group), *tables]
        sections.append(Section(f"Error against depth{where}", _text(group), items))
        sections.append(_probes(locked, where))
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
    return int(result.budget.partition(",")[0].removeprefix("depth"))


def _setting(result: "Result") -> str:
    return result.budget.partition(",")[2]


def _families(group: "Sequence[Result]") -> "dict[tuple[str, str], Family]":
    """The claims on each error, at the locked setting and, where there is a tuning grid, at each arm's best."""
    from research.reports.comparison import Errors, Family

    errors = {metric: Errors(group, key) for metric, key in METRICS.items()}
    found = {(metric, "locked setting"): Family(_claims(group, metric, own.locked)) for metric, own in errors.items()}
    for metric, own in errors.items():
        if own.tuned:
            best = {cell: own.best(*cell).errors for cell in own.cells}
            found[metric, "each arm's best"] = Family(_claims(group, metric, functools.partial(_of, best)))
    return found


def _of(cells: "Mapping[tuple[str, str], BySeed]", arm: str, budget: str) -> "BySeed":
    return cells.get((arm, budget), {})


def _claims(group: "Sequence[Result]", metric: str, errors: "Callable[[str, str], BySeed]") -> "list[Claim]":
    """The question first (what depth does to each arm), then arms of equal cost against each other at every depth."""
    from research.reports.comparison import Claim, mean_over

    depths, seeds = sorted({_depth(r) for r in group}), len({r.seed for r in group})
    arms = [arm for arm in ARMS if any(_arm(r) == arm for r in group)]
    cells = {(arm, depth): errors(arm, f"depth{depth}") for arm in arms for depth in depths}
    claims = [
        Claim(
            f"{arm}, depth {depths[-1]} against {depths[0]}",
            metric,
            cells[arm, depths[-1]],
            cells[arm, depths[0]],
            seeds,
        )
        for arm in arms
        if len(depths) > 1 and arm not in SHALLOW
    ]
    for first, second in (("residual_a", "plain"), ("preactivation", "residual_a")):
        if first in arms and second in arms:
            if len(depths) > 2:
                one, other = (mean_over([cells[arm, depth] for depth in depths]) for arm in (first, second))
                claims.append(Claim(f"{first} against {second}, mean over depths", metric, one, other, seeds))
            on_first_screen = metric == TRAIN and second == "plain"
            claims += [
                Claim(f"{first} against {second}, depth {depth}", metric, *pair, seeds, first_screen=on_first_screen)
                for depth in depths
                for pair in [(cells[first, depth], cells[second, depth])]
            ]
    return claims


def _probes(locked: "Sequence[Result]", where: str) -> Section:
    """What the probes found in the deepest networks, before and after training."""
    from research.reports import probed

    deepest = max((_depth(r) for r in locked), default=0)
    chosen = [r for r in locked if _depth(r) == deepest]
    known = [name for name in PROBES if any(name in r.config.get("probes", {}).get("names", ()) for r in chosen)]
    made = [probed.figure(chosen, name, when) for name in known for when in ("first", "last")]
    figures = [figure for figure in made if "block" not in figure.title.lower() or "after" in figure.title]
    text = f"Depth {deepest}, the locked setting; on training examples without augmentation."
    return Section(f"Inside the networks{where}", text if figures else "No run has been probed yet.", figures)


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
    tuned = any(_setting(r) for r in group)
    for (arm, budget), cell in tables.by_arm(group).items():
        done = [r for r in cell if r.status == FINISHED]
        failed = sum(r.status == "failed" for r in cell)
        row: dict[str, Any] = {
            "arm": arm,
            "depth": int(budget.partition(",")[0].removeprefix("depth")),
            **({"setting": budget.partition(",")[2] or "locked"} if tuned else {}),
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
        if _arm(r) in EQUAL:
            costs.setdefault(_depth(r), set()).add(tuple(tables.number(r, key) for key in ("params", "macs")))
    if all(len(found) == 1 for found in costs.values()):
        return f"Equal parameters and multiply-adds at every depth: {', '.join(EQUAL)}."
    return f"{', '.join(EQUAL)} differ in parameters or multiply-adds: this comparison is NOT at equal cost."


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
