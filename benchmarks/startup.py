"""How soon the command line answers, and what a second start of the same run costs.

    python benchmarks/startup.py [--rounds 5]

Prints medians in seconds for help, refusals and lists (each a process of its own), the number of programs that a
refused, a finished and a restarted run compile, and how far the restarted run's first step lies beyond importing and
tracing. The restarted run uses a compilation cache that its first start filled.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Runs launch.py in a process that adds up what JAX says it did; the last line of its output is the tally.
PROBE = """
import json, sys, time
began = time.perf_counter()
import jax, tensorboardX, launch, configs.fashion_mnist, research.overrides, research.training.loop
imported = time.perf_counter() - began
tally = {"imports": imported, "compiled": 0, "hits": 0, "tracing": 0.0}
def event(name, **kw):
    tally["hits"] += name == "/jax/compilation_cache/cache_hits"
    tally["compiled"] += name == "/jax/compilation_cache/cache_misses"
def duration(name, seconds, **kw):
    if name in ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration"):
        tally["tracing"] += seconds
jax.monitoring.register_event_listener(event)
jax.monitoring.register_event_duration_secs_listener(duration)
from research.training.loop import _Run
loop = _Run._loop
def begin(self):
    tally["ready"] = time.time() - float(sys.argv.pop(1))  # everything is compiled and placed: the first step begins
    return loop(self)
_Run._loop = begin
tally["code"] = launch.program(sys.argv[2:])
print(json.dumps(tally))
"""


def command(words: list[str]) -> tuple[float, int]:
    """Seconds and exit code of one `launch.py` process."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "launch.py", *words], cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - began, done.returncode


def run(words: list[str], cache: str, workdir: str) -> tuple[float | None, dict[str, float]]:
    """Seconds until the first record of a run (None if it wrote none), and the tally of its process."""
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", PROBE, str(time.time()), *words],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first, metrics = None, Path(workdir) / "metrics.jsonl"
    before = metrics.stat().st_size if metrics.exists() else 0
    while process.poll() is None and first is None:
        if metrics.exists() and metrics.stat().st_size > before:
            first = time.perf_counter() - began
        time.sleep(0.005)
    out, _ = process.communicate()
    return first, json.loads(out.strip().split("\n")[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    quick = {
        "--help": ["--help"],
        "unknown verb": ["trian"],
        "unknown flag": ["train", "digits", "--optimizer.learnin-rate", "1", "--workdir", "x"],
        "unknown config": ["train", "digitz", "--workdir", "x"],
        "contradiction": ["train", "digits", "--model.num-classes", "99", "--workdir", "x"],
        "list": ["list"],
        "list models": ["list", "models"],
        "inspect resnet152": ["inspect", "resnet152"],
    }
    times: dict[str, list[float]] = {name: [] for name in quick}
    for _ in range(rounds):
        for name, words in quick.items():
            times[name].append(command(words)[0])
    for name, seconds in times.items():
        print(f"{name:>16}: {statistics.median(seconds):.2f} s")
    with tempfile.TemporaryDirectory() as scratch:
        cache = f"{scratch}/cache"

        def words(folder: str) -> list[str]:
            budget = ["--budget.train", "3 steps", "--schedule.warmup", "1 steps", "--budget.log-every", "1 steps"]
            return ["train", "fashion_mnist:resnet20", *budget, "--workdir", folder]

        _, refused = run([*words(f"{scratch}/r"), "--model.num-classes", "99"], cache, f"{scratch}/r")
        print(f"programs compiled by a refused run: {refused['compiled'] + refused['hits']:.0f}")
        first, tally = run(words(f"{scratch}/a"), cache, f"{scratch}/a")
        print(f"first start, empty cache: first step after {first:.1f} s, {tally['compiled']:.0f} programs compiled")
        begins, ends = [], []
        for turn in range(rounds):
            first, tally = run(words(f"{scratch}/b{turn}"), cache, f"{scratch}/b{turn}")
            assert first is not None, tally
            own = tally["imports"] + tally["tracing"]
            begins.append(tally["ready"] - own)
            ends.append(first - own)
            parts = f"import {tally['imports']:.2f} + tracing {tally['tracing']:.2f} + {ends[-1]:.2f}"
            programs = f"{tally['compiled']:.0f} programs compiled, {tally['hits']:.0f} from the cache"
            print(f"start {turn + 2}: first step after {first:.2f} s = {parts} s; {programs}")
        begin, end = statistics.median(begins), statistics.median(ends)
        print(
            f"beyond import and tracing, medians: the first step begins at {begin:.2f} s and has ended at {end:.2f} s"
        )
        _, finished = run(words(f"{scratch}/a"), cache, f"{scratch}/a")
        print(f"programs compiled by a finished run: {finished['compiled'] + finished['hits']:.0f}")


if __name__ == "__main__":
    main()
