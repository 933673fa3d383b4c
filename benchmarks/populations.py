"""A sweep over seeds, in each way that there is: separate processes, one shared executable, populations.

    python benchmarks/populations.py [--configs digits digits:resnet8 digits:resnet20] [--runs 4] [--steps 150]

Trains the same `runs` runs of each config in turn: each in a process of its own (`launch.py train`, with the persistent
compilation cache filled before), one after the other in one process, as many at a time as there are cores, and in one
step as a population. Prints wall-clock seconds with imports, their ratios, and which way `launch.py sweep` takes by
itself, with its seconds, the trial included. Every way begins a process of its own, and evaluates at the end alone.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from research.sweeps import store

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "one shared executable": ["--population", "1", "--threads", "1"],
    "as many at a time as cores": ["--population", "1", "--threads", str(len(os.sched_getaffinity(0)))],
    "a population": ["--population", "{runs}"],
    "by itself": [],
}


def launch(*words: str) -> float:
    """Seconds of one `launch.py` process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "launch.py", *words], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def separate(config: str, runs: int, flags: list[str], folder: Path) -> float:
    """Seconds of a process for each run."""
    return sum(
        launch("train", config, *flags, "--seed", str(n), "--workdir", str(folder / str(n))) for n in range(runs)
    )


def sweep(config: str, runs: int, flags: list[str], way: list[str], folder: Path) -> float:
    """Seconds of one `launch.py sweep`, its report included."""
    seeds = ",".join(map(str, range(runs)))
    words = [word.format(runs=runs) for word in way]
    return launch("sweep", config, "--grid", f"seed={seeds}", *flags, *words, "--workdir", str(folder))


def chosen(folder: Path) -> str:
    """What a sweep took by itself."""
    from research.training import record

    (entry,) = store.read_studies(folder)
    groups = entry["population"]["groups"]
    if groups:
        return f"populations of {len(groups[0])}"
    (first, *_) = (folder / "runs").iterdir()
    return f"{record.read_json(first / record.ENVIRONMENT)['runs_at_once']} at a time, sharing one executable"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["digits", "digits:resnet8", "digits:resnet20"])
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=1)
    words = parser.parse_args()
    budget = ["--budget.train", f"{words.steps} steps", "--budget.eval-every", "0 steps", "--checkpointing.every", "0"]
    for config in words.configs:
        times: dict[str, list[float]] = {}
        took = ""
        with tempfile.TemporaryDirectory() as scratch:
            separate(config, 1, budget, Path(scratch, "first"))  # fills the compilation cache
            sweep(config, words.runs, budget, WAYS["a population"], Path(scratch, "filled"))
            for turn in range(words.rounds):
                folder = Path(scratch, str(turn))
                times.setdefault("separate processes", []).append(
                    separate(config, words.runs, budget, folder / "separate")
                )
                for name, way in WAYS.items():
                    times.setdefault(name, []).append(sweep(config, words.runs, budget, way, folder / name))
                took = chosen(folder / "by itself")
        best = {name: min(seconds) for name, seconds in times.items()}
        fastest = min(seconds for name, seconds in best.items() if name != "by itself")
        print(f"{config}: {words.runs} runs of {words.steps} steps; by itself it took {took}")
        for name, seconds in best.items():
            print(f"  {name:<28} {seconds:7.1f} s   {seconds / fastest:5.2f} x the fastest", flush=True)


if __name__ == "__main__":
    main()
