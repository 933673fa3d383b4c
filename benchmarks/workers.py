"""A sweep in worker processes of one core each: two against one, and one against none (the launching process itself).

    python -m benchmarks.workers                       # 24 runs of ResNet-8 on digits, 3 rounds; about 12 minutes
    python -m benchmarks.workers --steps 300 --rounds 2

Whole wall clock of `launch.py sweep`, imports, the start of workers and the report included, after one sweep that fills
the compilation cache. Prints the ratio of two workers to one (0.6 asked for), and how much longer one worker takes for
a run than the launching process does on one core, a share of the worker's start included (under 1 s asked for).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.alternating import ROOT, ratio

RATES = "0.05,0.1,0.15,0.2,0.25,0.3"
SEEDS = 4
SIDES = {"none": ("--threads", "1"), "one": ("--workers", "1"), "two": ("--workers", "2")}


def command(side: str, steps: int, workdir: Path, seeds: int) -> list[str]:
    """The words of the sweep: each run on one core, and alone in its step."""
    grid = ["--grid", f"optimizer.learning-rate={RATES}", "--seeds", str(seeds)]
    budget = ["--budget.train", f"{steps} steps", "--population", "1", "--parallelism.devices", "1"]
    cores = [] if side == "none" else ["--cpus-per-run", "1"]
    sweep = ["launch.py", "sweep", "digits:resnet8", *grid, *budget, *SIDES[side], *cores, "--workdir", str(workdir)]
    # Whoever launches has one core where it trains, as a worker has.
    before = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))] if side == "none" else []
    return [*before, sys.executable, *sweep]


def seconds(side: str, steps: int, workdir: Path, cache: str, seeds: int = SEEDS) -> float:
    """Wall clock of the sweep. Exits where it fails."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}
    began = time.perf_counter()
    done = subprocess.run(
        command(side, steps, workdir, seeds), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"the sweep failed: {done.stderr.strip()[-400:]}")
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:  # programs for one core and for two threads' pools are not the same
            seconds(side, words.steps, Path(folder, f"warm-{side}"), f"{folder}/cache", seeds=1)
        for number in range(words.rounds):
            for side, found in taken.items():
                found.append(seconds(side, words.steps, Path(folder, f"{side}-{number}"), f"{folder}/cache"))
                print(f"round {number + 1}, {side:>4}: {found[-1]:.1f} s", flush=True)
    runs = len(RATES.split(",")) * SEEDS
    half, low, high = ratio(taken["one"], taken["two"])
    more = (statistics.median(taken["one"]) - statistics.median(taken["none"])) / runs
    print(f"{runs} runs of {words.steps} steps, {statistics.median(taken['none']) / runs:.1f} s each on one core")
    print(f"two workers / one: {half:.3f} (quartiles {low:.3f} to {high:.3f})")
    print(f"one worker / the launching process: {more:+.2f} s a run")


if __name__ == "__main__":
    main()
