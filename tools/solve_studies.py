#!/usr/bin/env python
"""Search for equal cost at every scale of the studies that have it, and keep what was found beside each.

    python tools/solve_studies.py [--anew] [STUDY ...]

Each `experiments/STUDY.solved.json` has, for every network that was to cost what another does, the multiplier, the trim
of its channels and the multiply-adds it came to; and what every network of the study costs, with a digest of the code
that counted it. This file is for plans to be quick: where that code has changed, a plan counts again, and searches
where a network has changed. What is kept already and still holds is kept; `--anew` searches for all of it, which takes
minutes.
"""

import argparse
import json
from pathlib import Path

import experiments
from research import backend
from research.sweeps import design

backend.set_up()


def main(names: list[str], anew: bool) -> None:
    """Write the file of each study that searches."""
    for name in names or experiments.names():
        study = experiments.load(name)
        file = Path(study.__file__ or "").with_suffix(design.SOLVED)
        if anew:
            file.unlink(missing_ok=True)
        planned = [run for scale in study.SCALES for run in study.runs(scale)]
        search = design.search(str(study.__file__))
        if search.found:
            file.write_text(json.dumps(search.kept(planned), indent=1, sort_keys=True) + "\n")
            print(f"{file.name}: {len(search.found)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="STUDY")
    parser.add_argument("--anew", action="store_true", help="search also for what is kept already")
    given = parser.parse_args()
    main(given.names, given.anew)
