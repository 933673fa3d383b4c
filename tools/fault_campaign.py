"""Kill a run again and again at random moments, and compare what it ends with to a run that nothing happened to.

    python tools/fault_campaign.py [--kills 20] [--input resident|streaming] [--workers N] [--seed S]
    python tools/fault_campaign.py --members 4      # a sweep of four seeds that train in one step

Each kill is a SIGKILL at a random moment after a start: the process may be importing, compiling, training, evaluating
or saving. The same command then continues. When a run gets to its end before the kills are spent, the next begins in a
new folder. Compared are the digest of the parameters and every record, without what a clock wrote. Prints one line per
kill, and a verdict.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from research.training import record  # noqa: E402

OVERRIDES = {
    "augmentation.pad-and-crop": "1",
    "budget.train": "1200 steps",
    "budget.eval-every": "150 steps",
    "budget.log-every": "10 steps",
    "checkpointing.every": "20 steps",
}


def start(folder: Path, words: list[str], members: int) -> subprocess.Popen[bytes]:
    """`launch.py train`, or a `sweep` of several, in a process of its own."""
    flags = [word for key, value in OVERRIDES.items() for word in (f"--{key}", value)]
    group = ["--grid", f"seed=0:{members - 1}:1", "--population", str(members)] if members > 1 else []
    verb = "sweep" if group else "train"
    command = [sys.executable, "launch.py", verb, "digits:resnet8", *group, *flags, *words, "--workdir", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def folders(folder: Path) -> list[Path]:
    """Those of the runs: of a sweep, or the one."""
    return sorted((folder / "runs").iterdir()) if (folder / "runs").exists() else [folder]


def outcome(folder: Path) -> list[tuple[Any, list[dict[str, Any]]]]:
    """The digests and the records of finished runs, without what a clock wrote."""
    clock, found = ("wall_time", "images_per_second"), []
    for run in folders(folder):
        rows = record.read_metrics(run / record.METRICS)
        summary = json.loads((run / record.SUMMARY).read_text())
        assert summary["status"] == "finished", summary
        found.append((summary["params_digest"], [{k: v for k, v in row.items() if k not in clock} for row in rows]))
    return found


def reached(folder: Path) -> int:
    """The last step that is recorded."""
    return max((row["step"] for run in folders(folder) for row in record.read_metrics(run / record.METRICS)), default=0)


def ended(folder: Path, members: int) -> bool:
    """Whether every run has its summary."""
    return sum((run / record.SUMMARY).exists() for run in folders(folder)) == members


def main() -> int:
    """Run the campaign; 0 where every run ended as the one that nothing happened to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--input", choices=["resident", "streaming"], default="resident")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    words = ["--data.input", options.input, "--data.workers", str(options.workers)]
    with tempfile.TemporaryDirectory() as scratch:
        began = time.monotonic()
        assert start(Path(scratch, "whole"), words, options.members).wait() == 0
        longest = time.monotonic() - began
        expected = outcome(Path(scratch, "whole"))
        digests, records = ", ".join(digest[:12] for digest, _ in expected), sum(len(rows) for _, rows in expected)
        print(f"uninterrupted: {longest:.0f} s, digest {digests}, {records} records", flush=True)
        kills, run, same = 0, 0, 0
        while kills < options.kills:
            folder = Path(scratch, f"run{run}")
            process = start(folder, words, options.members)
            moment = chance.uniform(0, 0.4 * longest)
            try:
                assert process.wait(moment) == 0, "a run ended that nobody killed"
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                print(f"kill {kills}: run {run}, {moment:.1f} s after its start, at step {reached(folder)}", flush=True)
            if ended(folder, options.members) or kills == options.kills:
                assert start(folder, words, options.members).wait() == 0
                same += outcome(folder) == expected
                run += 1
        print(f"{kills} kills, {run} runs, {same} equal to the uninterrupted one to the bit ({options.input})")
    return 0 if same == run else 1


if __name__ == "__main__":
    sys.exit(main())
