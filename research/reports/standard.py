"""What every report shows, whatever the study: facts, curves, arms, runs, cost, recipe, failures, environment."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from research.reports import figures, tables, wording
from research.reports.document import FAILED, FINISHED, Figure, Section, Table
from research.values import flatten

if TYPE_CHECKING:
    from research.sweeps.results import Result, StudyRecord

OVERLAYS = "overlays.svg"  # what a run of a task that places things leaves in its folder

Facts = list[tuple[str, str]]
_ALL_AGREE = ("device", "precision", "deterministic", "xla_flags", "versions.jax")  # parts of environment keys
_ARM_AGREES = ("code_digest", "dataset_fingerprint")  # arms may need other code or data, one arm's seeds may not


def progress(results: "Sequence[Result]") -> str:
    """How many runs are finished, failed, and in every other state, in one line."""
    counts = Counter(r.status for r in results)
    others = sorted(set(counts) - {FINISHED})
    rest = "".join(f", {counts[status]} {status}" for status in others)
    return f"{counts[FINISHED]} of {len(results)} runs finished{rest}" if results else "no runs yet"


def facts(results: "Sequence[Result]") -> Facts:
    """The regime the conclusions hold in: data, examples, length, resolution, precision, device, seeds."""
    flats = [tables.flat_config(r) for r in results]
    environments = [flatten(r.environment) for r in results if r.environment]
    examples = (
        "all" if _common(flats, "data.train_examples") == wording.MISSING else _common(flats, "data.train_examples")
    )
    seeds = wording.in_order(str(r.seed) for r in results)
    device = _common(environments, "device_kind", "device.device_kind", "device.kind", "device")
    count = _common(environments, "devices", "device.devices", "device.count")
    side = _common(flats, "data.resolution")
    return [
        ("data set", _common(flats, "data.name")),
        ("training examples", examples),
        ("training length", _common(flats, "budget.train")),
        ("batch size", _common(flats, "data.batch_size")),
        ("resolution", "the data's own" if side == wording.MISSING else f"{side} px"),
        ("precision", _common(flats, "precision.compute")),
        ("device", device if count in ("1", wording.MISSING) else f"{count} × {device}"),  # noqa: RUF001
        ("seeds", ", ".join(seeds) if len(seeds) <= 6 else f"{len(seeds)}: {seeds[0]} to {seeds[-1]}"),
    ]


def _common(flats: Sequence[Mapping[str, Any]], *keys: str) -> str:
    """The values of the first of `keys` that any mapping has, in order, at most four of them."""
    for key in keys:
        values = wording.in_order(wording.value(key, flat[key]) for flat in flats if flat.get(key) is not None)
        if values:
            return ", ".join(values[:4]) + (f" and {len(values) - 4} more" if len(values) > 4 else "")
    return wording.MISSING


def warnings(results: "Sequence[Result]") -> list[str]:
    """What a reader must know before comparing: runs of different devices, precisions, versions, code or data."""
    found = _so_far(results) + _disagreements(results, _ALL_AGREE, "The runs")
    for (arm, budget), runs in tables.by_arm(results).items():
        found += _disagreements(runs, _ARM_AGREES, f"The seeds of {arm}/{budget}")
    older = Counter(r.accepted_code for r in results if r.accepted_code)
    for code, count in sorted(older.items()):
        found.append(f"Results made by older code ({code[:16]}) and accepted with --accept-code: {count}.")
    return found


def _so_far(results: "Sequence[Result]") -> list[str]:
    counts = Counter(r.status for r in results if r.status not in (FINISHED, FAILED))
    left = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return (
        [f"Not the end: {left} of {len(results)} runs. What follows is of the runs that are finished."] if left else []
    )


def _disagreements(results: "Sequence[Result]", words: Sequence[str], who: str) -> list[str]:
    flats = [flatten(r.environment) for r in results if r.environment]
    found = []
    for key in tables.varying(flats):
        if any(word in key for word in words):
            counts = Counter(wording.value(key, flat.get(key)) for flat in flats)
            parts = (f"{value[:40]} (runs: {count})" for value, count in sorted(counts.items()))
            found.append(f"{who} do not agree on {key}: {', '.join(parts)}. Compare them with care.")
    return found


def sections(study: "StudyRecord") -> list[Section]:
    """The sections that follow the study's own."""
    results = study.results
    metric = tables.primary_metric(results)
    made = [_curves(results, metric), _arms(results, metric), _cost(results), _recipe(results)]
    made += [_overlays(results)]
    made += [_unfinished(results), _runs(results, metric), _environment(results), _commands(study)]
    return [section for section in made if section is not None]


def _curves(results: "Sequence[Result]", metric: str) -> Section:
    recorded = {key for r in results for record in r.metrics for key in record}
    wanted = [f"eval/{metric}", f"eval_train/{metric}", "train/loss"]
    text = (
        "Thin lines are runs, strong lines the mean of an arm's seeds; runs that failed or are not finished are drawn "
        "as far as they got, those at other settings of a tuning grid thinner still. Click on a line to open its "
        "run's record, drag to pan, hold shift and use the wheel to zoom, double click to reset."
    )
    items = []
    for key in wanted:
        if key in recorded:
            frame = tables.curve_frame(results, key)
            total = sum(len([m for m in r.metrics if m.get(key) is not None]) for r in results)
            thinned = f"Drawn from {frame.height:,} of {total:,} records." if frame.height < total else ""
            chart = figures.learning_curves(frame, title_y=wording.title(key))
            items.append(Figure(wording.title(key).capitalize(), chart, thinned))
    return Section("Learning curves", text if items else "No run has recorded anything yet.", items)


def _summary_keys(results: "Sequence[Result]", metric: str) -> list[str]:
    present = {key for r in results for key in (r.summary or {})}
    wanted = (f"eval/{metric}", f"best/{metric}", f"eval_train/{metric}", "eval/loss")
    return [key for key in wanted if key in present]


def _arms(results: "Sequence[Result]", metric: str) -> Section:
    keys = _summary_keys(results, metric)
    if not keys:
        return Section("Results by arm", "No run has finished yet.")
    frame = tables.arm_frame(results, [key for key in keys if key != "eval/loss"] or keys, each=keys[0])
    each = f"`each seed` is the {wording.title(keys[0])} of each run"
    note = f"Mean ± standard deviation over seeds, at the end of training; {each}."
    return Section("Results by arm", "", [Table("Every arm", frame, note)])


def _cost(results: "Sequence[Result]") -> Section | None:
    if not tables.finished(results):
        return None
    note = (
        "Counts are exact. Seconds are measured, mean ± standard deviation over seeds; images per second is the median."
    )
    return Section("Cost", "", [Table("Cost of every arm", tables.cost_frame(results), note)])


def _overlays(results: "Sequence[Result]") -> Section | None:
    """The pictures that the first finished run of each arm left, where its task places things."""
    found: dict[str, Figure] = {}
    for result in tables.finished(results):
        file = epath.Path(result.path) / OVERLAYS
        if result.arm not in found and file.exists():
            found[result.arm] = Figure(
                f"{result.label} on its first evaluation examples", None, picture=file.read_text()
            )
    text = "Green is where things are, red where the network says they are; below, the true class and the network's."
    return Section("Pictures", text, list(found.values())) if found else None


def _recipe(results: "Sequence[Result]") -> Section | None:
    with_config = [r for r in tables.ordered(results) if r.config]
    if not with_config:
        return None
    hidden = tables.cosmetic_keys() | {"seed"}
    flats = {r.label: {k: v for k, v in tables.flat_config(r).items() if k not in hidden} for r in with_config}
    changing = tables.varying(list(flats.values()))
    shared = {k: v for k, v in next(iter(flats.values())).items() if k not in changing}
    rows = []
    for (arm, budget), runs in tables.by_arm(with_config).items():
        row: dict[str, Any] = {"arm": arm, "budget": budget}
        for key in changing:
            row[key] = ", ".join(dict.fromkeys(wording.value(key, flats[r.label].get(key), "g") for r in runs))
        rows.append(row)
    text = (
        "All arms share one recipe but for these keys."
        if changing
        else "All arms share one recipe; only the seed differs."
    )
    items = [Table("What differs between arms", tables.frame(rows))] if changing else []
    settings = [
        {"key": k, "value": wording.value(k, v, "g" if isinstance(v, float) else "")} for k, v in shared.items()
    ]
    return Section("Recipe", text, [*items, Table("What all arms share", tables.frame(settings))])


def _unfinished(results: "Sequence[Result]") -> Section | None:
    left = [r for r in tables.ordered(results) if r.status != FINISHED]
    if not left:
        return None
    rows = [
        {"arm": r.arm, "budget": r.budget, "seed": r.seed, "run": r.id, "status": r.status}
        | {"step": (r.summary or {}).get("step", r.metrics[-1].get("step") if r.metrics else None)}
        | {"reason": (r.summary or {}).get("reason")}
        for r in left
    ]
    failed = sum(r.status == FAILED for r in left)
    heading = "Failed and unfinished runs" if failed else "Unfinished runs"
    return Section(
        heading,
        "None of these is part of a mean in a table; curves are drawn as far as they got.",
        [Table(heading, tables.frame(rows))],
    )


def _runs(results: "Sequence[Result]", metric: str) -> Section | None:
    done = tables.finished(results)
    if not done:
        return None
    keys = [*_summary_keys(done, metric), "params", "macs", "activations", "step", "train_seconds", "compile_seconds"]
    rows = [
        {"arm": r.arm, "budget": r.budget, "seed": r.seed, "run": r.id}
        | {key: {"value": (r.summary or {}).get(key), "run": r.id} for key in _summary_keys(done, metric)}
        | {key: (r.summary or {}).get(key) for key in keys if not key.startswith(("eval", "best"))}
        for r in done
    ]
    note = "Each result links to the record it was read from; pointing at a number shows all its digits."
    return Section("Runs", "", [Table("Every finished run", tables.frame(rows), note)])


def _environment(results: "Sequence[Result]") -> Section | None:
    flats = [flatten(r.environment) for r in results if r.environment]
    keys = sorted({key for flat in flats for key in flat})
    if not keys:
        return None
    rows = [{"key": key, "value": _common(flats, key)} for key in keys]
    return Section(
        "Environment", "What the runs ran on, from their records.", [Table("Environment", tables.frame(rows))]
    )


def _commands(study: "StudyRecord") -> Section:
    rows = [
        {"what": "the runs and this report", "command": study.command or wording.MISSING},
        {"what": "this report again, from the records alone", "command": "python launch.py report DIR"},
        {"what": "one run alone", "command": "python launch.py train DIR/runs/ID/config.json --workdir NEW_DIR"},
    ]
    text = """DIR is the folder of this report, ID a run's name in it. Every number of every run is in `results.parquet`
        and `results.csv`."""
    return Section("How this was made", text, [Table("Commands", tables.frame(rows))])
