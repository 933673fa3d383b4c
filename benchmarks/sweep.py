"""A sweep over seed and learning rate by `launch.py sweep`, against as many processes of the same recipe on stock Flax.

    python -m benchmarks.sweep digits                           # 24 runs of LeNet-5 on digits; about 8 minutes
    python -m benchmarks.sweep fashion_mnist --runs 24          # on Fashion-MNIST, 5 epochs each; about 40 minutes

Both sides: whole wall clock, from the command to its end, imports and compilation included. Ours twice, with an empty
compilation cache and with the one that left behind; theirs one process after the other, each with default settings
(`benchmarks/stock_training.py`), half of them before ours and half after. Prints seconds, stock / ours and the mean
test accuracy of each side, by which to see that both did the work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import configs
from benchmarks.alternating import ROOT
from research import config
from research.config import Config
from research.errors import UserError
from research.training import resolve

RECIPES = {"digits": "digits:lenet5", "fashion_mnist": "fashion_mnist:lenet5"}
RATES = (0.3, 1.0, 0.5, 0.1, 2.0, 0.7)  # times the recipe's own


def cells(cfg: Config, runs: int) -> tuple[list[float], int]:
    """Learning rates and a number of seeds that make `runs`; 24 are six rates at four seeds. Raises `UserError`."""
    fitting = [n for n in (4, 3, 2, 1) if runs > 0 and runs % n == 0 and runs // n <= len(RATES)]
    if not fitting:
        raise UserError(f"--runs is {runs}; expected 1 to {len(RATES)}, times 1, 2, 3 or 4")
    seeds = fitting[0]
    return [float(f"{factor * cfg.optimizer.learning_rate:.3g}") for factor in RATES[: runs // seeds]], seeds


def stock_words(cfg: Config, rate: float, seed: int) -> list[str]:
    """The command line of `benchmarks.stock_training` for a run of the recipe."""
    run = resolve.resolve(cfg)
    values = {
        "dataset": cfg.data.name,
        "steps": run.steps,
        "batch-size": cfg.data.batch_size,
        "warmup": run.warmup,
        "eval-every": round(run.eval_every) or run.steps,
        "weight-decay": cfg.optimizer.weight_decay,
        "learning-rate": rate,
        "seed": seed,
    }
    return [
        "-m",
        "benchmarks.stock_training",
        *(word for key, value in values.items() for word in (f"--{key}", str(value))),
    ]


def timed(words: Sequence[str], environment: Mapping[str, str | None]) -> tuple[float, str]:
    """Seconds and output of a Python process. Exits where it fails."""
    env = {key: value for key, value in {**os.environ, **environment}.items() if value is not None}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed: {done.stderr.strip()[-400:]}")
    return seconds, done.stdout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--runs", type=int, default=24, help="up to six learning rates at up to four seeds")
    parser.add_argument("--steps", type=int, help="of a run; default: the recipe's")
    words = parser.parse_args()
    cut = [] if words.steps is None else ["--budget.train", f"{words.steps} steps"]
    name = RECIPES[words.recipe]
    cfg = configs.load(name)
    cfg = cfg if words.steps is None else config.replace(cfg, **{"budget.train": f"{words.steps} steps"})
    try:
        rates, seeds = cells(cfg, words.runs)
    except UserError as error:
        parser.error(str(error))
    plain: dict[str, str | None] = {"XLA_FLAGS": None, "CONVSCALE_LOWERING": None, "JAX_COMPILATION_CACHE_DIR": None}
    plain["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
    processes = [stock_words(cfg, rate, seed) for rate in rates for seed in range(seeds)]
    half = len(processes) // 2
    stock = [timed(process, plain) for process in processes[:half]]
    ours: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("cold", "warm"):
            grid = ["--grid", f"optimizer.learning_rate={','.join(map(str, rates))}", "--seeds", str(seeds)]
            sweep = ["launch.py", "sweep", name, *grid, *cut, "--workdir", f"{folder}/{cache}"]
            ours[cache], _ = timed(sweep, {**plain, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"})
        summaries = [json.loads(file.read_text()) for file in Path(folder, "warm").glob("runs/*/summary.json")]
    stock += [timed(process, plain) for process in processes[half:]]
    theirs = sum(seconds for seconds, _ in stock)
    print(f"{name}, {len(processes)} runs: learning rates {', '.join(map(str, rates))} at {seeds} seeds")
    print(f"  stock Flax {theirs:8.1f} s, {statistics.median(s for s, _ in stock):.1f} s a process (median)")
    for cache, seconds in ours.items():
        print(f"  ours, {cache} {seconds:8.1f} s: stock / ours {theirs / seconds:.2f}")
    accuracies = [json.loads(out)["accuracy"] for _, out in stock]
    mean = statistics.mean(summary["eval/top1"] for summary in summaries)
    print(f"  mean test accuracy: stock {statistics.mean(accuracies):.4f}, ours {mean:.4f} over {len(summaries)} runs")


if __name__ == "__main__":
    main()
