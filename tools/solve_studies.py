#!/usr/bin/env python
"""Search for equal cost anew, at every scale of the studies that have it, and keep what was found beside each.

    python tools/solve_studies.py [STUDY ...]

Each `experiments/STUDY.solved.json` has, for every network that was to cost what another does, the multiplier, the trim
of its channels and the multiply-adds it came to. A plan counts each again before it uses it, and searches where a
network has changed: this file is for plans to be quick. Some minutes.
"""

import json
import sys
from pathlib import Path

import experiments
from research import backend
from research.sweeps import design

backend.set_up()


def main(names: list[str]) -> None:
    """Write the file of each study that searches."""
    for name in names or experiments.names():
        study = experiments.load(name)
        file = Path(study.__file__ or "").with_suffix(design.SOLVED)
        file.unlink(missing_ok=True)
        for scale in study.SCALES:
            study.runs(scale)
        found = design.search(str(study.__file__)).found
        if found:
            file.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
            print(f"{file.name}: {len(found)}")


if __name__ == "__main__":
    main(sys.argv[1:])
