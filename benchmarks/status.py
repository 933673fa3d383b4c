"""What `launch.py status` takes on a sweep of very many runs.

    python -m benchmarks.status [--runs 10000] [--repeats 5]

Writes records as runs leave them (half of the runs finished, a tenth failed, 20 running, the rest waiting), and prints
the median seconds of whole `launch.py status DIR` processes, beside those of `launch.py --help` in turn, which has
next to nothing to do.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from research.config import Config, to_json
from research.sweeps import store
from research.training import lease, record

ROOT = Path(__file__).resolve().parents[1]
SUMMARY = {"step": 3000, "params": 272474, "macs": 40551168, "train_seconds": 12.5, "eval/top1": 0.9, "eval/loss": 0.3}


def write(workdir: Path, count: int) -> list[lease.Lease]:
    """Records of `count` runs; the leases of those that are running."""
    runs = [{"id": f"{n:016x}", "arm": f"arm{n % 40}", "budget": "short", "seed": n // 40} for n in range(count)]
    record.write_json(workdir / store.STUDY, {"studies": [{"name": "study", "scale": "full", "runs": runs}]})
    text, held = to_json(Config()), []
    for n, run in enumerate(runs):
        folder = Path(store.run_folder(workdir, run["id"]))
        if n % 10 > 5 and n >= 20:
            continue
        folder.mkdir(parents=True)
        (folder / record.CONFIG).write_text(text)
        if n < 20:
            held.append(lease.take(folder))
            held[-1].done(100, 3000)
        else:
            record.write_json(folder / record.SUMMARY, {"status": "failed" if n % 10 == 5 else "finished", **SUMMARY})
    return held


def seconds(*words: str) -> float:
    """Of one `launch.py` process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "launch.py", *words], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        held = write(Path(folder), words.runs)
        status, listing = [], []
        for _ in range(words.repeats):
            status.append(seconds("status", folder))
            listing.append(seconds("--help"))
        for one in held:
            one.release()
    ours, floor = statistics.median(status), statistics.median(listing)
    print(f"status of {words.runs} runs {ours:.2f} s, {ours / floor:.2f} x `launch.py --help` ({floor:.2f} s)")


if __name__ == "__main__":
    main()
