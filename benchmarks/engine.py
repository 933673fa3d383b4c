"""The engine's own share of a study: wall clock in which no run was trained and nothing that runs use was compiled.

    python -m benchmarks.engine                                        # residual_vs_plain, smoke: about 3 minutes
    python -m benchmarks.engine residual_vs_plain --scale small --filter "plain/*"

Runs the study in a folder of its own, as `launch.py study` does, and notes when a run (or a population) is trained and
when a program is compiled; what is compiled for a trial is kept for the runs. What is left is the engine's: planning,
identities, the trial of how many runs at a time, records of studies, and the report at the end. Imports are left out.
"""

import argparse
import contextlib
import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import experiments
from research import backend
from research.sweeps import plan, results, study
from research.sweeps.study import Study

Interval = tuple[float, float]


@contextlib.contextmanager
def noted(owner: Any, name: str, intervals: list[Interval]) -> Iterator[None]:
    """While this lasts, every call of `owner.name` adds when it began and ended."""
    inner: Callable[..., Any] = getattr(owner, name)

    def timed(*args: Any, **keywords: Any) -> Any:
        began = time.monotonic()
        try:
            return inner(*args, **keywords)
        finally:
            intervals.append((began, time.monotonic()))

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, inner)


def covered(intervals: list[Interval]) -> float:
    """Seconds in which at least one of these was under way."""
    total, end = 0.0, float("-inf")
    for began, ended in sorted(intervals):
        total += max(ended - max(began, end), 0.0)
        end = max(end, ended)
    return total


def main() -> None:
    """Print the seconds of each, and the engine's share."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", default="residual_vs_plain", metavar="STUDY")
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--filter", metavar="GLOB")
    words = parser.parse_args()
    backend.set_up()
    for name in ("scipy.stats", "altair", "vl_convert"):  # which a report imports when it comes to it
        importlib.import_module(name)
    from research import reports
    from research.training import loop, population, programs, state

    trained: list[Interval] = []
    compiled: list[Interval] = []
    module = experiments.load(words.name)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for owner, name in ((loop, "train"), (population, "train")):
            stack.enter_context(noted(owner, name, trained))
        for owner, name in ((programs, "compile_train"), (programs, "compile_members"), (state, "compile_init")):
            stack.enter_context(noted(owner, name, compiled))
        began = time.monotonic()
        planned = tuple(module.runs(words.scale))
        plan.select(planned, words.filter)
        chosen = Study(words.name, words.scale, experiments.question(module), "benchmark", planned)
        study.launch(chosen, folder, pattern=words.filter)
        launched = time.monotonic()
        records = results.read(folder)
        reports.write([module.report(record.results) for record in records], records, folder)
        ended = time.monotonic()
    own = ended - began - covered(trained + compiled)
    print(f"{len(trained)} trained, {ended - began:.1f} s in all; the report {ended - launched:.1f} s")
    print(f"trained or compiled {covered(trained + compiled):.1f} s (compiled before a run {covered(compiled):.1f} s)")
    print(f"the engine's own {own:.1f} s: {own / (ended - began):.2%}")


if __name__ == "__main__":
    main()
