"""Whether memory stays flat while images stream: a folder of JPEGs, read again each epoch.

    python benchmarks/stream_memory.py [--epochs 6] [--images 600] [--workers 0] [--resolution 224]

Each epoch takes every training feed and evaluates once, then prints the resident memory of this process and of those
that read for it. The last line is the ratio of the last epoch to the second: the first fills buffers and caches.
"""

import argparse
import itertools
import multiprocessing
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from research import data
from research.config import AugmentationConfig, DataConfig


def write(root: Path, images: int) -> None:
    """Folders of two classes, 375x500 JPEGs of soft noise (about 25 kB each); a tenth for evaluation."""
    draws = np.random.default_rng(0)
    for number in range(images):
        folder = root / ("test" if number % 10 == 0 else "train") / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draws.integers(0, 256, (20, 26, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


def resident_bytes(process: int) -> int:
    """Resident memory of a process, shared pages included."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--resolution", type=int, default=224)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), words.images)
        cfg = DataConfig(
            name="image_folder",
            path=folder,
            resolution=words.resolution,
            batch_size=32,
            input="streaming",
            workers=words.workers,
        )
        pipeline = data.pipeline(cfg, AugmentationConfig(random_resized_crop=True), seed=0)
        steps = pipeline.info.train_examples // cfg.batch_size
        feeds = pipeline.train(0)
        totals: list[int] = []
        for epoch in range(1, words.epochs + 1):
            for _ in itertools.islice(feeds, steps):
                pass
            for _ in pipeline.evaluate("eval", 32):
                pass
            readers = [process.pid for process in multiprocessing.active_children() if process.pid is not None]
            own, theirs = resident_bytes(os.getpid()), sum(map(resident_bytes, readers))
            totals.append(own + theirs)
            print(
                f"epoch {epoch}: {own / 2**20:.0f} MiB and {theirs / 2**20:.0f} MiB in {len(readers)} readers",
                flush=True,
            )
        feeds.close()
    print(f"memory at epoch {words.epochs} / at epoch 2: {totals[-1] / totals[1]:.3f}")


if __name__ == "__main__":
    main()
