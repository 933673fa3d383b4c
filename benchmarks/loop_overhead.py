"""What the training loop adds to the bare compiled step: ResNet-20, batch 128, Fashion-MNIST.

    python benchmarks/loop_overhead.py [--rounds 5] [--steps 20] [--input resident|streaming]

Alternates, in one process, `steps` steps of the whole loop (feeding, logging every 10 steps, TensorBoard, finite
check) with `steps` calls of the same compiled step on one feed, and prints the ratio of the medians per step.
"""

import argparse
import statistics
import tempfile
import time

import jax
import numpy as np

import configs
from research import backend, data
from research.config import replace
from research.training import programs, record, resolve
from research.training.loop import train


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--input", choices=("resident", "streaming"), default="resident")
    words = parser.parse_args()
    backend.set_up()
    cfg = replace(
        configs.load("fashion_mnist:resnet20"),
        **{
            "data.input": words.input,
            "schedule.warmup": "0 steps",
            "budget.train": f"{words.steps} steps",
            "budget.eval_every": "0 steps",
            "budget.log_every": "10 steps",
            "checkpointing.every": "0 steps",
        },
    )
    resolved = resolve.resolve(cfg)
    pipeline = data.pipeline(cfg.data, cfg.augmentation, seed=0)
    layout = resolved.layout
    current, resident = programs.new_state(resolved, pipeline), layout.replicate(pipeline.resident)
    feed, rate = layout.split(next(pipeline.train(0))), layout.replicate(np.float32(0.1))
    compiled = programs.compile_train(resolved, pipeline, current, resident)
    bare: list[float] = []
    looped: list[float] = []
    for turn in range(words.rounds):
        began = time.perf_counter()
        for _ in range(words.steps):
            current, measures = compiled(current, resident, feed, rate)
        jax.block_until_ready(measures)
        bare.append((time.perf_counter() - began) / words.steps)
        with tempfile.TemporaryDirectory() as folder:
            train(cfg, folder, display=False)
            rows = [row for row in record.read_metrics(f"{folder}/metrics.jsonl") if "images_per_second" in row]
        looped.append(rows[-1]["wall_time"] / words.steps)
        print(f"round {turn + 1}: bare {bare[-1] * 1e3:.1f} ms/step, loop {looped[-1] * 1e3:.1f} ms/step", flush=True)
    ratio = statistics.median(looped) / statistics.median(bare)
    print(f"{words.input} input: loop / bare step, ratio of medians over {words.rounds} rounds: {ratio:.3f}")


if __name__ == "__main__":
    main()
