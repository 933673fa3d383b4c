#!/usr/bin/env python
"""Keep a study that ran to its end under `experiments/reports/STUDY/`: its records, and the report made of them.

    python tools/keep_study.py WORKDIR          # of `launch.py study STUDY --workdir WORKDIR`, one study in it
    python tools/keep_study.py --again          # the reports of all that are kept, from their records

A kept study is a workdir without what training alone needs (checkpoints, logs for TensorBoard): `launch.py report`
reads it, its links lead to the records of its runs, and tests build it again and compare.
"""

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import launch  # noqa: E402
from research.errors import UserError  # noqa: E402
from research.sweeps import results, store  # noqa: E402
from research.training import record  # noqa: E402

KEPT = ROOT / "experiments" / "reports"
OF_A_WORKDIR = (store.STUDY, store.TIMINGS)
OF_A_RUN = (record.CONFIG, record.ENVIRONMENT, record.METRICS, record.SUMMARY)


def keep(workdir: Path) -> Path:
    """The records of the one study in a workdir, copied to where they are kept. Raises `UserError`."""
    studies = results.read(workdir)
    unfinished = [r.label for study in studies for r in study.results if r.status not in ("finished", "failed")]
    if len(studies) != 1 or unfinished:
        raise UserError(f"{workdir} has {len(studies)} studies, {len(unfinished)} runs to come; expected 1 and none")
    folder = KEPT / studies[0].name
    shutil.rmtree(folder, ignore_errors=True)
    copy_records(workdir, folder)
    return folder


def copy_records(workdir: Path, folder: Path) -> None:
    """What a report is made of, and nothing else."""
    names = [*OF_A_WORKDIR, *(f"runs/*/{name}" for name in OF_A_RUN)]
    for file in sorted(file for name in names for file in workdir.glob(name)):
        copy = folder / file.relative_to(workdir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def main() -> None:
    """Keep a workdir's study, or build all the reports again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workdir", nargs="?", type=Path)
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    if given.again == (given.workdir is not None):
        parser.error("expected WORKDIR or --again")
    try:
        folders = sorted(KEPT.iterdir()) if given.again else [keep(given.workdir)]
    except UserError as error:
        sys.exit(f"error: {error}")
    for folder in folders:
        launch.main(["report", str(folder)])


if __name__ == "__main__":
    main()
