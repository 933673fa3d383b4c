"""How fast examples are streamed on one core, against what training takes: ResNet-20, batch 128, Fashion-MNIST.

    python -m benchmarks.feed [--rounds 5] [--batches 100]

Measures the compiled train step on all cores, then pins itself to one core and reads batches as the loop is fed them;
prints images per second of each, and streamed / taken (ratio of medians; the aim is 3). About half a minute.
"""

import argparse
import os
import statistics
import time
from contextlib import closing

import jax
import numpy as np

import configs
from research import backend, data
from research.config import replace
from research.training import programs, resolve


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=100)
    words = parser.parse_args()
    backend.set_up()
    cfg = replace(configs.load("fashion_mnist:resnet20"), **{"data.input": "streaming", "data.workers": 0})
    resolved = resolve.resolve(cfg)
    pipeline = data.pipeline(cfg.data, cfg.augmentation, seed=0)
    layout = resolved.layout
    current, resident = programs.new_state(resolved, pipeline), layout.replicate(pipeline.resident)
    compiled = programs.compile_train(resolved, pipeline, current, resident)
    rate, batch = layout.replicate(np.float32(0.1)), cfg.data.batch_size
    with closing(pipeline.train(0)) as feeds:
        feed = layout.split(next(feeds))
    taken = []
    for _ in range(words.rounds * 4):
        began = time.perf_counter()
        current, measures = compiled(current, resident, feed, rate)
        jax.block_until_ready(measures)
        taken.append(batch / (time.perf_counter() - began))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    streamed = []
    with closing(pipeline.train(0)) as feeds:
        next(feeds)
        for _ in range(words.rounds):
            began = time.perf_counter()
            for _ in range(words.batches):
                next(feeds)
            streamed.append(words.batches * batch / (time.perf_counter() - began))
    need, rate_of_feed = statistics.median(taken), statistics.median(streamed)
    print(f"ResNet-20 takes {need:.0f} images/s; streamed on one core: {rate_of_feed:.0f} images/s")
    print(f"streamed / taken: {rate_of_feed / need:.2f}")


if __name__ == "__main__":
    main()
