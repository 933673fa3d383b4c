#!/usr/bin/env python
"""Convscale's command line: it reads words, calls one function, and maps errors to exit codes.

Exit codes: 0 done; 1 a run failed (--debug shows the traceback); 2 the words are wrong (one line says how);
3 preempted (state is saved; the same command continues).
"""

import argparse
import contextlib
import functools
import gc
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import arguments
import listing
from research.errors import Preempted, RunFailed, UserError, described, nearest, one_line, unknown

if TYPE_CHECKING:
    from research.sweeps.plan import Planned
    from research.sweeps.results import Result
    from research.sweeps.study import Study
    from research.training.trained import Trained


def list_(words: argparse.Namespace, rest: list[str]) -> None:
    """Names of one kind, or of every kind, with one line each."""
    if shown := listing.show(words.kind, as_json=words.json):
        print(shown)


def inspect(words: argparse.Namespace, rest: list[str]) -> None:
    """Per-layer cost of a model and its totals in every published convention; or a config's learning rate."""
    if words.schedule:
        return _schedule(words, rest)
    if words.out is not None:
        raise UserError("--out names the figure of --schedule; expected both or neither")
    from research.overrides import parse_fields
    from research.scaling import inspect as inspection

    fields = parse_fields(words.model, rest)
    shown = inspection.show(
        words.model, resolution=words.resolution, num_classes=words.num_classes, json=words.json, fields=fields
    )
    print(shown)


def _schedule(words: argparse.Namespace, rest: list[str]) -> None:
    """The learning rate of a config as a table and a figure, whose path is the last line; nothing is trained."""
    import configs
    from research import overrides
    from research.reports import learning_rate
    from research.training import preview

    for flag, value in (("--resolution", words.resolution), ("--num-classes", words.num_classes)):
        if value is not None:
            raise UserError(f"{flag} is of a model; with --schedule, expected overrides such as --budget.train")
    target = learning_rate.check_target(words.out or "learning_rate.svg")
    cfg = overrides.apply(configs.load(words.model), rest, prog="launch.py inspect CONFIG --schedule")
    seen = preview.preview(cfg)
    learning_rate.draw(
        target,
        seen.rates,
        title=f"Learning rate of {words.model}",
        subtitle=seen.heading,
        factors={group.label: group.factor for group in seen.groups},
        warmup=seen.warmup,
        epochs=seen.epoch(seen.steps),
    )
    if words.json:
        print(json.dumps(seen.as_dict() | {"figure": str(target)}, indent=2))
    else:
        print(f"{seen.table()}\n{target}")


def train(words: argparse.Namespace, rest: list[str]) -> None:
    """One run, from where its folder left off."""
    import configs
    from research import overrides

    cfg = overrides.apply(configs.load(words.config), rest)
    _check_workdir(words.workdir)
    _backend()
    from research import training
    from research.training import processes

    if words.ray_address is not None:
        from research.sweeps import together

        if words.coordinator is not None or words.process_id is not None:
            raise UserError("--ray-address goes with --num-processes alone: Ray starts the processes")
        summary = together.train(
            cfg,
            words.workdir,
            processes=words.num_processes or 1,
            address=words.ray_address,
            cpus=words.cpus_per_process,
            chips=words.chips_per_process,
            track=words.track,
        )
    else:
        processes.connect(words.coordinator, words.process_id, words.num_processes)
        summary = training.train(cfg, words.workdir, track=words.track)
    if not processes.is_first():
        return
    shown = {
        key: value for key, value in summary.items() if key in ("status", "step", "train_seconds", "params_digest")
    }
    shown.update({key: value for key, value in summary.items() if key.startswith(("eval", "best")) and "/" in key})
    print(json.dumps(shown))


def _check_workdir(workdir: str | None) -> None:
    from research.training import record

    if workdir is None:
        raise UserError("--workdir is missing; expected the folder to write to")
    record.check_workdir(workdir)


def plan(words: argparse.Namespace, rest: list[str]) -> None:
    """What a config's training step needs in memory and time on TPUs that are not here, or on the devices that are."""
    from research.analysis import topologies

    wanted = None
    if words.topology is not None:
        wanted = topologies.parse(words.topology)
        topologies.prepare()
        os.environ["JAX_PLATFORMS"] = "cpu"  # keys and constants need no accelerator that may be here
    import configs
    from research import overrides

    cfg = overrides.apply(configs.load(words.config), rest, prog="launch.py plan CONFIG")
    _backend()
    from research.analysis import plan as planning
    from research.analysis import plan_report

    made = planning.plan(cfg, wanted, say=lambda line: print(line, file=sys.stderr))
    if words.json:
        print(json.dumps(plan_report.as_dict(made, words.config), indent=2))
    else:
        print(plan_report.table(made, words.config))


def evaluate(words: argparse.Namespace, rest: list[str]) -> None:
    """Metrics of a checkpoint, printed; those per class are in the file written beside it."""
    _backend()
    from research import training
    from research.training import record

    values = training.evaluate(words.workdir, checkpoint=words.checkpoint, dataset=words.dataset)
    numbers = {key: value for key, value in values.items() if not isinstance(value, list)}
    print(json.dumps(record.finite(numbers), indent=2))


def predict(words: argparse.Namespace, rest: list[str]) -> None:
    """Class names and probabilities for image files."""
    trained = _trained(words)
    from research.training.trained import predict as predicted

    if words.top < 1:
        raise UserError(f"--top is {words.top}; expected a number at least 1")
    found = predicted(trained, words.files, top=words.top)
    if words.json:
        print(json.dumps([{"file": p.file, "classes": [list(c) for c in p.classes]} for p in found], indent=2))
        return
    for prediction in found:
        print(prediction.file)
        for name, probability in prediction.classes:
            print(f"  {probability:.4f}  {name}")


def export(words: argparse.Namespace, rest: list[str]) -> None:
    """The network as one file of StableHLO, weights and normalisation inside, that needs none of this code."""
    from research.training import export as exporting

    exporting.check_target(words.out)
    exporting.export(_trained(words), words.out)
    print(f"{words.out}.json\n{words.out}")


def explain(words: argparse.Namespace, rest: list[str]) -> None:
    """Grad-CAM: where in an image the network finds what speaks for a class; the picture's path is the last line."""
    from etils import epath

    from research.analysis import explain as explaining

    trained = _trained(words)
    out = words.out or epath.Path(words.workdir) / "explain" / f"{epath.Path(words.image).stem}.png"
    seen = explaining.explain(trained, words.image, out, layer=words.layer, class_name=words.class_name)
    print(f"{seen.class_name}, probability {seen.probability:.4f}, at {seen.layer}\n{seen.path}")


def _trained(words: argparse.Namespace) -> "Trained":
    _backend()
    from research.training import trained

    return trained.load(words.workdir, checkpoint=words.checkpoint)


def study(words: argparse.Namespace, rest: list[str]) -> None:
    """Run what is not finished of a study, then report."""
    import experiments
    from research.sweeps import plan
    from research.sweeps.study import Study

    module = experiments.load(words.name)
    scale = words.scale or module.SCALES[0]
    if scale not in module.SCALES:
        raise unknown(f"scale of study {words.name}", scale, module.SCALES)
    planned, follow_up = experiments.runs(module, scale), getattr(module, "follow_up", None)
    plan.check(planned)
    if words.dry_run:
        _dry_run(plan.select(planned, words.filter), words.json)
        if not words.json:
            from research.reports import dry_run

            print(dry_run.power(module.report, planned, getattr(module, "SPREAD", None)))
            if follow_up is not None:
                print(dry_run.then(follow_up))
        return None
    chosen = Study(words.name, scale, experiments.question(module), words.command, tuple(planned))
    return _launch(chosen, words, follow_up and functools.partial(follow_up, scale))


def sweep(words: argparse.Namespace, rest: list[str]) -> None:
    """Run a config over a grid given on the command line, then report."""
    import configs
    from research import overrides
    from research.sweeps import plan
    from research.sweeps.study import Study

    base = overrides.apply(configs.load(words.config), rest, prog="launch.py sweep CONFIG")
    planned = plan.grid(base, words.grid, seeds=words.seeds)
    if words.dry_run:
        return _dry_run(plan.select(planned, words.filter), words.json)
    grid = " ".join(words.grid)
    axes = tuple(plan.axis(base, text)[0] for text in words.grid)
    chosen = Study(
        "sweep", f"{words.config} {grid}", f"{words.config} over {grid}", words.command, tuple(planned), axes
    )
    return _launch(chosen, words)


def _launch(
    chosen: "Study",
    words: argparse.Namespace,
    follow_up: "Callable[[Sequence[Result]], Sequence[Planned]] | None" = None,
) -> None:
    """Execute what is left of a study or sweep and report it; failed runs are reported and make the exit code 1."""
    _check_workdir(words.workdir)
    _backend()
    from research.reports.live import Live
    from research.sweeps import study as engine
    from research.sweeps.jobs import Resources

    say = functools.partial(print, flush=True)
    with Live(words.workdir, [sys.executable, __file__, "report"], say) as page:
        outcomes = engine.launch(
            chosen,
            words.workdir,
            executor=words.executor,
            resources=Resources(
                workers=words.workers,
                threads=words.threads,
                cpus=words.cpus_per_run,
                chips=words.chips_per_run,
                retries=words.retries,
                stall=words.stall_timeout,
                partition=words.partition,
                minutes=words.time_limit,
                address=words.ray_address,
            ),
            population=words.population,
            pattern=words.filter,
            accept_code=words.accept_code,
            track=words.track,
            changed=page.changed,
            progress=sys.stderr.isatty(),
            follow_up=follow_up,
            say=say,
        )
    _report([words.workdir], None)
    failed = [outcome.job.label for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise RunFailed(f"{len(failed)} of {len(outcomes)} runs: {', '.join(failed)}; the report shows why")


def _dry_run(planned: "Sequence[Planned]", as_json: bool) -> None:
    """Print the runs with their predicted cost."""
    from research.reports import dry_run
    from research.sweeps import predict

    rows = predict.rows(planned)
    print(json.dumps(rows, indent=2) if as_json else dry_run.table(rows, planned))


def report(words: argparse.Namespace, rest: list[str]) -> None:
    """Rebuild tables, figures and verdicts from the run records alone."""
    _report(words.folders, words.open, live=words.live)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: the records of many runs are none, and looking takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _report(folders: Sequence[str], show: bool | None, *, live: float | None = None) -> None:
    """Write the report of one workdir, or of several merged into `merged/` of the first; its path is the last line.

    `live`: seconds after which its page is to load itself again.
    """
    from etils import epath

    import experiments
    from research import catalogue, reports, storage
    from research.reports import between
    from research.reports.sweep import sweep_document
    from research.sweeps import results
    from research.training import record

    if show and storage.is_remote(folders[0]):
        raise UserError(f"--open shows files of this machine, not of {folders[0]}; expected no --open")
    with _uncollected():
        read = list(zip(results.folder_names(folders), map(results.read, folders), strict=True))
        studies = read[0][1] if len(read) == 1 else results.merge(read)
        documents = []
        for found in studies:
            for folder in folders:
                catalogue.refuse_inside(folder, [found.name], f"{folder}/study.json")
            own = (
                sweep_document(found.results, found.axes)
                if found.name == "sweep"
                else experiments.load(found.name).report(found.results)
            )
            who = found.name, found.scale
            copies = [(folder, one) for folder, of_folder in read for one in of_folder if (one.name, one.scale) == who]
            documents.append(between.compared(own, copies))
        target = epath.Path(folders[0]) if len(folders) == 1 else epath.Path(folders[0]) / "merged"
        record.check_workdir(target)
        path = reports.write(documents, studies, target, live=live)
    if show:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    print(path)


def status(words: argparse.Namespace, rest: list[str]) -> None:
    """What of a sweep is waiting, running, finished and failed."""
    from research.sweeps import watching

    if words.watch:
        return watching.follow(words.folder)
    rows = watching.rows(words.folder)
    if words.json:
        return print(json.dumps(rows, indent=2))
    for row in rows:
        print(watching.line(row))
    print(watching.counts(rows))


def bench(words: argparse.Namespace, rest: list[str]) -> None:
    """Step time, images per second, compile time, memory and achieved FLOP/s of models on this machine."""
    if words.workdir is not None:
        if words.models or rest:
            raise UserError("bench takes MODEL or --workdir; expected one of them")
        from research.sweeps import timing

        timing.measure(words.workdir, [sys.executable, __file__, "bench"], repeats=words.repeats)
        return _report([words.workdir], None)
    if not words.models:
        raise UserError("bench has no MODEL; expected names of `launch.py list models`, or --workdir DIR")
    _backend()
    from research.analysis import bench as benching
    from research.overrides import parse_fields

    works = benching.works(
        {name: parse_fields(name, rest) for name in words.models},
        passes=[name for name in benching.PASSES if getattr(words, name)] or benching.PASSES,
        repeats=words.repeats,
        batch_size=words.batch_size,
        resolution=words.resolution,
        num_classes=words.num_classes,
        channels=words.channels,
        compute=words.compute,
    )
    measured = []
    for at, (work, cost) in enumerate(works):
        if sys.stderr.isatty():
            print(f"[{at + 1}/{len(works)}] {work.model}", file=sys.stderr)
        measured.append(benching.measure(work, cost, words.repeats))
    print(benching.show(measured, as_json=words.json))


def _backend() -> None:
    from research import backend

    backend.set_up()


VERBS: dict[str, arguments.Verb] = {
    "list": list_,
    "inspect": inspect,
    "train": train,
    "plan": plan,
    "eval": evaluate,
    "predict": predict,
    "export": export,
    "explain": explain,
    "study": study,
    "sweep": sweep,
    "report": report,
    "status": status,
    "bench": bench,
}


def _quiet_threads() -> None:
    """Show what a library's thread or callback raises as one line, once: it also reaches whoever waits for it."""
    said: set[str] = set()

    def say(kind: type[BaseException], error: BaseException | None) -> None:
        line = f"{kind.__name__}: {' '.join(str(error).split())[:200]}"
        if line not in said:
            said.add(line)
            print(line, file=sys.stderr)

    threading.excepthook = lambda raised: say(raised.exc_type, raised.exc_value)
    sys.unraisablehook = lambda raised: say(raised.exc_type, raised.exc_value)


def program(argv: Sequence[str]) -> int:
    """`main` in a process of its own, whose signals and last words are set up for it; returns its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until a run's own handler: as control-C
    if "--debug" not in argv:
        _quiet_threads()
    return main(argv)


def main(argv: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    debug = "--debug" in argv
    try:
        _dispatch(argv)
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        if debug:
            raise
        print(f"failed: {one_line(str(error))}", file=sys.stderr)
        return 1
    except Preempted as error:
        print(error, file=sys.stderr)
        return 3
    except BrokenPipeError:  # `launch.py list | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted: the same command continues", file=sys.stderr)
        return 3
    except Exception as error:
        if debug:
            raise
        said, more = one_line(described(error))[:300], " (--debug shows more)"
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in said:  # XLA's, of a device
            said, more = f"there is not enough memory: {said}", ""
        print(f"failed: {said}{more}", file=sys.stderr)
        return 1
    return 0


def _dispatch(argv: Sequence[str]) -> None:
    parser, verbs = arguments.parser(__doc__, VERBS)
    if argv and not argv[0].startswith("-") and argv[0] not in verbs:
        raise unknown("verb", argv[0], verbs)
    if not argv:
        parser.print_help()
        return
    if list(argv) in (["train", "--help"], ["train", "-h"]):  # with a config, `--help` lists its flags instead
        verbs["train"].print_help()
        return
    words, rest = parser.parse_known_args([word for word in argv if word != "--debug"])
    if words.verb is None:
        raise unknown("option", argv[0], ["--help", "--debug", *verbs])
    words.command = shlex.join(["python", "launch.py", *argv])
    if rest and words.verb not in arguments.OVERRIDDEN:
        close = nearest(rest[0], [option for action in verbs[words.verb]._actions for option in action.option_strings])
        raise UserError(f"unexpected {rest[0]!r}; {'nearest: ' + close[0] if close else verbs[words.verb].usage}")
    words.run(words, rest)


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]))
