"""What it gains to compute with a convolution what follows it, and from which size on for pointwise ones.

    python -m benchmarks.epilogues [mobilenet_v2:128 resnet50:128 ...]

For each network and resolution (batch 16) the evaluation as it is written, and joined with different bounds on the
bytes of a pointwise convolution's maps (`research.nn.convolution.epilogue.WORTH`), in turns in one process: how many
times as long the written one takes, ratio of medians.
"""

import functools
import sys

import jax
import numpy as np

from benchmarks.alternating import alternate, ratio, wall_timer
from research import models
from research.analysis.workload import uncached
from research.nn.convolution import epilogue
from research.testing import model_laws

NETWORKS = ("mobilenet_v2:128", "mobilenet_v2:224", "efficientnet_b0:128", "efficientnet_b0:224", "resnet50:128")
BOUNDS = (0, 1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000, 10**12)
BATCH = 16


def main() -> None:
    """Measure and print."""
    for asked in sys.argv[1:] or NETWORKS:
        name, side = asked.split(":")
        model, shape = models.create(name), (int(side), int(side), 3)
        variables = model_laws.fill(model_laws.initial_shapes(model, shape)[1])
        images = np.random.default_rng(0).standard_normal((BATCH, *shape), np.float32)
        arguments = jax.device_put((variables, images))
        programs = {"as written": jax.jit(lambda v, x, model=model: model.apply(v, x, train=False))}
        timers = {}
        with uncached():
            for bound in BOUNDS:
                programs[f"{bound / 1e6:g} MB"] = jax.jit(lambda v, x, model=model: models.evaluate(model, v, x))
            for (label, program), bound in zip(programs.items(), (0, *BOUNDS), strict=True):
                epilogue.WORTH = bound
                jax.clear_caches()
                compiled = program.lower(*arguments).compile()
                timers[label] = wall_timer(functools.partial(compiled, *arguments), jax.block_until_ready)
        seconds = alternate(timers, budget=60, most=30)
        plain = seconds.pop("as written")
        gains = (f"{label} {ratio(taken, plain)[0]:.2f}" for label, taken in seconds.items())
        print(f"{asked}: from {', '.join(gains)}", flush=True)


if __name__ == "__main__":
    main()
