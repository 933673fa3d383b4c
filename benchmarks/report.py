"""How soon the report of many runs is there, and how soon it can be read.

    python -m benchmarks.report [--runs 1000] [--records 300] [--rounds 3] [--keep FOLDER]

Writes records for so many runs of residual_vs_plain at its full scale (numbers from a formula; every run logs `records`
lines and 16 evaluations, the probed ones five records of every layer and block; 64,000 steps, logged every 50, would be
1,280 lines), then prints

- seconds of `launch.py report`, a process of its own, imports included, and what of it goes into what;
- seconds from the start of its loading until headless Chromium shows text, has parsed the whole page (every table is
  there, sorted and searched), and has drawn the charts near the first screen, of which there may be none; then, how
  long it takes to scroll to every chart in turn, each drawn as it comes into view.
"""

import argparse
import dataclasses
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments import residual_vs_plain
from research import config, storage
from research.sweeps import store
from research.sweeps.plan import Planned
from research.training import record

ROOT = Path(__file__).resolve().parents[1]
STEPS, EVALUATIONS, PROBED = 64_000, 16, 5
# Error that a layer adds.
ADDED = {arm: 0.0012 / (1 + place) for place, arm in enumerate(residual_vs_plain.ARMS)}


def planned(count: int) -> list[Planned]:
    """The first `count` runs of the study's full scale; more seeds where it has fewer."""
    base = residual_vs_plain.runs("full")
    seeds = 1 + max(run.seed for run in base)
    made = []
    for number in range(count):
        again, place = divmod(number, len(base))
        run = base[place]
        seed = run.seed + again * seeds
        made.append(dataclasses.replace(run, seed=seed, config=config.replace(run.config, seed=seed)))
    return made


def error(run: Planned, share: float) -> float:
    """Some error that falls in the course of training (`share` of it is done) and differs by arm, depth and seed."""
    depth = int(run.budget.partition(",")[0].removeprefix("depth"))
    rate = math.log2(run.config.optimizer.learning_rate / 0.1)
    last = 0.06 + ADDED[run.arm] * depth + 0.004 * rate * rate + 0.004 * math.sin(7 * run.seed + depth + len(run.arm))
    return last + (0.9 - last) * math.exp(-5 * share) + 0.004 * math.sin(900 * share + run.seed)


def lines(run: Planned, records: int) -> list[dict[str, Any]]:
    """What a run logs: training, evaluations, probes."""
    depth = int(run.budget.partition(",")[0].removeprefix("depth"))
    made = []
    for number in range(1, records + 1):
        made.append(
            _at(number / records)
            | {"train/loss": 2.3 * error(run, number / records), "train/top1": 1 - error(run, number / records)}
            | {"train/gradient_norm": 1 / number, "learning_rate": 0.1, "images_per_second": 5000.0 + number}
        )
    made += [_at(number / EVALUATIONS) | evaluation(run, number / EVALUATIONS) for number in range(1, EVALUATIONS + 1)]
    for number in range(PROBED if run.config.probes.names else 0):
        share = number / (PROBED - 1)
        made.append(
            _at(share)
            | {
                f"probe/{name}/layer{place}": (1 + math.sin(place + 2 * run.seed) / 9)
                * (1 - 0.5 * share)
                * 100 ** (-ADDED[run.arm] * place * 9)
                for name in run.config.probes.names
                for place in range(1, (depth - 2) // 2 + 1 if "block" in name else depth + 1)
            }
        )
    return sorted(made, key=lambda row: row["step"])


def _at(share: float) -> dict[str, Any]:
    step = round(STEPS * share)
    return {"step": step, "epoch": step / 391, "wall_time": 0.031 * step}


def evaluation(run: Planned, share: float) -> dict[str, float]:
    """What an evaluation finds."""
    wrong = error(run, share)
    return {"eval/loss": 2.4 * wrong, "eval/top1": 1 - wrong - 0.01, "eval/macro_f1": 1 - wrong - 0.011} | {
        "eval_train/loss": 2.2 * wrong,
        "eval_train/top1": 1 - wrong,
    }


def write(workdir: Path, count: int, records: int) -> None:
    """The folder of a study: every fiftieth run has failed, every seventieth goes on, the last few wait."""
    runs = []
    for number, run in enumerate(planned(count)):
        identity = f"{number * 2_654_435_761 % 2**64:016x}"
        runs.append({"id": identity, "arm": run.arm, "budget": run.budget, "seed": run.seed})
        if number < count - 3:
            status = "failed" if number % 50 == 49 else "running" if number % 70 == 69 else "finished"
            _write_run(store.run_folder(workdir, identity), run, status, records)
    entry = {"name": "residual_vs_plain", "scale": "full", "question": "", "axes": [], "runs": runs}
    command = "python launch.py study residual_vs_plain --scale full --workdir DIR"
    store.write_study(workdir, entry | {"command": command})


def _write_run(folder: Any, run: Planned, status: str, records: int) -> None:
    storage.write(folder / record.CONFIG, config.to_json(run.config))
    record.write_json(folder / record.ENVIRONMENT, ENVIRONMENT)
    written = lines(run, records)
    if status != "finished":
        written = written[: len(written) // 2]
    storage.write(folder / record.METRICS, "".join(record.metrics_line(row) for row in written))
    if status == "running":
        return
    depth = int(run.budget.partition(",")[0].removeprefix("depth"))
    summary = {"status": status, "step": written[-1]["step"], "params": 14_000 * depth, "macs": 2_050_000 * depth}
    summary |= {"activations": 9_400 * depth, "train_seconds": 0.031 * STEPS, "compile_seconds": 30.0 + depth}
    if status == "failed":
        summary["reason"] = (
            "the loss is nan at step 32000 (learning rate 0.2, gradient norm 7e+11; 8.1 one step before)"
        )
    else:
        summary |= evaluation(run, 1.0) | {"best/top1": evaluation(run, 1.0)["eval/top1"], "best/step": STEPS}
        summary["eval/per_class_recall"] = [0.9] * 10
    record.write_json(folder / record.SUMMARY, summary)


ENVIRONMENT = {
    "python": "3.13.1",
    "versions": {"jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8"},
    "device": {"platform": "gpu", "device_kind": "NVIDIA H100", "devices": 1},
    "xla_flags": "",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_dirty": False,
    "code_digest": "c0de" * 16,
    "dataset_fingerprint": "da7a" * 16,
}


def build(workdir: Path) -> tuple[float, float]:
    """Seconds of one `launch.py report`, by the clock and of processor time (which other work changes less)."""
    began, used = time.perf_counter(), _processor()
    subprocess.run([sys.executable, "launch.py", "report", str(workdir)], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began, _processor() - used


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def parts(workdir: Path) -> dict[str, float]:
    """Seconds of the parts of a report, in this process."""
    from research import reports
    from research.sweeps import results

    times = [time.perf_counter()]
    studies = results.read(workdir)
    times.append(time.perf_counter())
    documents = [residual_vs_plain.report(study.results) for study in studies]
    times.append(time.perf_counter())
    reports.write(documents, studies, workdir)
    times.append(time.perf_counter())
    names = ("reading the records", "the study's own part", "tables, figures, files")
    return {name: later - earlier for name, earlier, later in zip(names, times, times[1:], strict=False)}


# Seconds since the navigation began, by the browser's own clock.
OPENED = """const [page] = performance.getEntriesByType("navigation");
const [paint] = performance.getEntriesByName("first-contentful-paint");
const [charts] = performance.getEntriesByName("first charts");
return [paint?.startTime, page.domContentLoadedEventEnd, page.loadEventEnd, charts?.startTime].map((ms) => ms / 1000)"""


def opened(page: Path) -> tuple[dict[str, float], dict[str, int]]:
    """Seconds of the page in a new browser, and what is in it."""
    from tests.reports.browser import browse

    with tempfile.TemporaryDirectory() as profile, browse(Path(profile)) as browser:
        browser.open(page)
        times = browser.run(OPENED)
        began = time.perf_counter()
        browser.draw_all()
        every = time.perf_counter() - began
        count = browser.run(
            """return {"charts": document.querySelectorAll(".drawing").length,
                       "elements": document.getElementsByTagName("*").length}"""
        )
        problems = browser.console()
    assert problems == [], problems
    names = ("text is on the screen", "the whole page is parsed", "loaded", "first charts drawn")
    return dict(zip(names, times, strict=True)) | {"then, scrolled through, every chart": every}, count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder for the records and the report; used again if it is there")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        workdir = words.keep or Path(scratch)
        if not (workdir / store.STUDY).exists():
            write(workdir, words.runs, words.records)
        print(f"{words.runs} runs of {words.records} records; medians of {words.rounds}, in seconds")
        clock, processor = zip(*(build(workdir) for _ in range(words.rounds)), strict=True)
        print(f"launch.py report{' ' * 23}{statistics.median(clock):7.2f}", flush=True)
        print(f"  of processor time{' ' * 20}{statistics.median(processor):7.2f}", flush=True)
        for name, seconds in parts(workdir).items():
            print(f"  {name:<37} {seconds:7.2f}", flush=True)
        page = workdir / "report.html"
        rounds = [opened(page) for _ in range(words.rounds)]
        print(f"report.html, {page.stat().st_size / 1e6:.1f} MB, {rounds[0][1]}, in headless Chromium")
        for name in rounds[0][0]:
            print(f"  {name:<37} {statistics.median(seconds[name] for seconds, _ in rounds):7.2f}")


if __name__ == "__main__":
    main()
