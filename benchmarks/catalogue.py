"""How long it takes to build and count every network by shape: the slowest, and all of them one after the other.

    python benchmarks/catalogue.py

Targets: under 10 s for any variant, under 3 minutes for the whole catalogue, on one core.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from research import models
from research.scaling import complexity

SHOWN = 8


def main() -> None:
    """Count each variant once and print the times."""
    complexity.count(models.create("lenet5"), (1, 32, 32, 1))  # what JAX does once in a process is not any network's
    seconds = {}
    for name in models.names():
        began = time.perf_counter()
        complexity.count(models.create(name), (1, *models.variant(name).input_shape))
        seconds[name] = time.perf_counter() - began
    for name in sorted(seconds, key=lambda name: -seconds[name])[:SHOWN]:
        print(f"{name:<24} {seconds[name]:6.2f} s")
    print(f"{len(seconds)} variants, {sum(seconds.values()):.0f} s in all")


if __name__ == "__main__":
    main()
