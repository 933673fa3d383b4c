"""Does depth hurt a plain network where it helps a residual one?

He et al. 2015 (arXiv:1512.03385), section 4.2: stacking layers makes a plain network fit its *training* set worse,
and identity shortcuts, which cost nothing, undo that. `plain`, `residual_a` (parameter-free shortcuts, option A) and
`preactivation` (He et al. 2016) have the same parameters and multiply-adds at every depth 6n+2, so no cost has to be
matched; `residual_b` and `residual_c` (projections), `highway` (Srivastava et al. 2015) and the arms without batch
norm are what they are, at the cost the report shows. All run the same seeds under one recipe, and the same small grid
of learning rates (full: and weight decays); batch statistics are estimated anew before evaluation.

    python launch.py study residual_vs_plain --scale smoke --workdir runs/residual_vs_plain
    python launch.py bench --workdir runs/residual_vs_plain         # what each network's step takes, alone

smoke  digits (8x8), width 8, depths 8 and 32, six seeds, plain and residual_a. Cost: 135 s.
       Result, training error at depth 32: plain is worse than at depth 8 by 21.1 percentage points (95% interval 11.2
       to 31.0), residual is not (+0.1, -0.1 to +0.2: cannot tell), and residual is better than plain by 21.0.
small  Fashion-MNIST: 5,000 examples at 14x14, six epochs, width 8, depths 8, 14, 20, 32, five seeds, three arms, three
       learning rates. A micro regime: narrow, short and without augmentation, so that what is asked, how well the
       training set is fitted, can be seen. Left out: deeper networks, the arms that cost more, weight decay in the
       grid, more than 234 steps. Cost: 48 min. Kept with its report in experiments/reports/residual_vs_plain.
       Result, training error: plain at 32 layers is worse than at 8 by 17.3 points (13.5 to 21.1), residual better by
       1.3 (0.8 to 1.8), pre-activation cannot tell; residual is better than plain by 3.9, 9.3 and 18.2 points at 14,
       20 and 32 layers, and at 8 cannot tell.
full   The paper's: CIFAR-10, width 16, depths 20, 32, 44, 56, 110, five seeds, 64,000 steps, flips, pad-and-crop; the
       arms without batch norm at the shallowest depth. Deviations: all 50,000 training images (45,000 there), 400
       steps of warm-up for every arm (ResNet-110 alone there), and decoupled weight decay: 1e-3 here acts as the
       paper's 1e-4 inside momentum 0.9.

Probes, at the locked setting: gradient norms and response deviations (figure 7 there) of each layer, and the error
without each block (Veit et al. 2016). Published (CIFAR-10 test error, %): residual 20/32/44/56/110 layers
8.75/7.51/7.17/6.97/6.43.
"""

from collections.abc import Sequence
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
from research.reports import arms, tables
from research.reports.arms import Cells, Judged
from research.reports.comparison import Claim, mean_over
from research.reports.document import Document, Figure, Section, Table
from research.sweeps import design
from research.sweeps.design import Grid
from research.sweeps.plan import Planned
from research.values import Duration, Options

if TYPE_CHECKING:
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
                "data.train_examples": 5_000,
                "data.resolution": 14,
                "budget.train": Duration(6, "epochs"),
                "budget.eval_every": Duration(3, "epochs"),
                "probes.names": PROBES,
                "checkpointing.every": Duration(6, "epochs"),
            },
        ),
        arms=EQUAL,
        depths=(8, 14, 20, 32),
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
    question = (__doc__ or "").splitlines()[0]
    return arms.document("Residual against plain networks", question, results, _claims, _sections)


def _sections(group: "Sequence[Result]", judged: Judged) -> list[Section]:
    locked, best = arms.locked(group), arms.best_settings(group)
    items: list[Table | Figure] = [
        *(arms.error_figure(locked, metric, _depth, title_x="depth (weighted layers)") for metric in arms.METRICS),
        arms.table(group, _columns, note=_cost_note(group)),
        *([best] if best else []),
        *arms.difference_tables(judged),
    ]
    return [
        Section("Error against depth", arms.states(group), items),
        arms.probes(locked, PROBES, at=_depth, what="Depth {}"),
        arms.clock(group, lambda arm, budget: ("plain", budget), lambda arm: arm.partition("@")[0]),
    ]


def _depth(result: "Result") -> int:
    return _depth_of(result.budget)


def _depth_of(budget: str) -> int:
    return int(budget.partition(",")[0].removeprefix("depth"))


def _columns(arm: str, budget: str) -> dict[str, Any]:
    return {"arm": arm, "depth": _depth_of(budget)}


def _claims(group: "Sequence[Result]", metric: str, errors: Cells) -> list[Claim]:
    """The question first (what depth does to each arm), then arms of equal cost against each other at every depth."""
    depths, seeds = sorted({_depth(r) for r in group}), len({r.seed for r in group})
    present = [arm for arm in ARMS if any(arms.name(r) == arm for r in group)]
    cells = {(arm, depth): errors(arm, f"depth{depth}") for arm in present for depth in depths}
    claims = [
        Claim(
            f"{arm}, depth {depths[-1]} against {depths[0]}",
            metric,
            cells[arm, depths[-1]],
            cells[arm, depths[0]],
            seeds,
        )
        for arm in present
        if len(depths) > 1 and arm not in SHALLOW
    ]
    for first, second in (("residual_a", "plain"), ("preactivation", "residual_a")):
        if first in present and second in present:
            if len(depths) > 2:
                one, other = (mean_over([cells[arm, depth] for depth in depths]) for arm in (first, second))
                claims.append(Claim(f"{first} against {second}, mean over depths", metric, one, other, seeds))
            on_first_screen = metric == arms.TRAIN and second == "plain"
            claims += [
                Claim(f"{first} against {second}, depth {depth}", metric, *pair, seeds, first_screen=on_first_screen)
                for depth in depths
                for pair in [(cells[first, depth], cells[second, depth])]
            ]
    return claims


def _cost_note(group: "Sequence[Result]") -> str:
    """What the records say of the premise that both arms cost the same."""
    costs: dict[int, set[tuple[float | None, ...]]] = {}
    for r in tables.finished(group):
        if arms.name(r) in EQUAL:
            costs.setdefault(_depth(r), set()).add(tuple(tables.number(r, key) for key in ("params", "macs")))
    if all(len(found) == 1 for found in costs.values()):
        return f"Equal parameters and multiply-adds at every depth: {', '.join(EQUAL)}."
    return f"{', '.join(EQUAL)} differ in parameters or multiply-adds: this comparison is NOT at equal cost."
