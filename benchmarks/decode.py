"""Images per second on one core: JPEG files decoded, random-resized cropped to 224x224, against tf.data.

    python tools/photo_crops.py photos --packages side
    python benchmarks/decode.py photos/train [--tensorflow-python PATH] [--rounds 7] [--images 700]

PATH is the interpreter of an environment with TensorFlow (`python -m venv tf && tf/bin/pip install tensorflow`: then
tf/bin/python). Rounds alternate between the two, pinned to the same core, over the same files, and count the time that
the core worked for each, as other programs may use it too; at the end come medians and their ratios. tf.data does what
ImageNet pipelines in TensorFlow do: `sample_distorted_bounding_box`, `decode_and_crop_jpeg`, which makes pixels of the
crop alone, and a bilinear `resize`, antialiased as ours is; how fast it is without antialiasing, which lets details
alias in crops larger than 224, is printed beside. Without PATH it is ours and the decoder alone.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from research.data.crops import random_resized_crop
from research.data.stored import Encoded

_SIZE = 224
_TENSORFLOW = """
import os, sys, time
core, antialias, names = int(sys.argv[1]), (True, False), sys.argv[2:]
os.sched_setaffinity(0, {core})  # before TensorFlow counts the cores
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

def pipeline(antialias):
    def load(name):
        data = tf.io.read_file(name)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data), tf.zeros([0, 0, 4]), min_object_covered=0.0, max_attempts=10,
            aspect_ratio_range=(3 / 4, 4 / 3), area_range=(0.08, 1.0), use_image_if_no_bounding_boxes=True)
        box = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.image.decode_and_crop_jpeg(data, box, channels=3)
        return tf.saturate_cast(tf.round(tf.image.resize(image, (SIZE, SIZE), antialias=antialias)), tf.uint8)
    return tf.data.Dataset.from_tensor_slices(names).map(load, num_parallel_calls=1)

both = [pipeline(flag) for flag in antialias]
for dataset in both:
    for image in dataset.take(20):
        pass
print(tf.__version__, flush=True)
for _ in sys.stdin:
    seconds = []
    for dataset in both:
        began = time.process_time()
        for image in dataset:
            pass
        seconds.append(time.process_time() - began)
    print(*seconds, flush=True)
"""


def ours(files: list[Path], turn: int) -> float:
    """Core-seconds for all files, as training reads an image folder; `turn` draws other crops."""
    began = time.process_time()
    for number, file in enumerate(files):
        random_resized_crop(
            Encoded(file.read_bytes, 3, str(file)),
            size=(_SIZE, _SIZE),
            channels=3,
            area=(0.08, 1.0),
            ratio=(3 / 4, 4 / 3),
            salt=(0, turn, number),
        )
    return time.process_time() - began


def alone(files: list[Path]) -> float:
    """Core-seconds to decode all files whole and do nothing else."""
    began = time.process_time()
    for file in files:
        with Image.open(file) as image:
            image.load()
    return time.process_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tensorflow-python", metavar="PATH")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=700)
    words = parser.parse_args()
    every = sorted(words.folder.rglob("*.jpg"))
    if not every:
        sys.exit(f"{words.folder} has no .jpg files; expected what tools/photo_crops.py made")
    files = every[:: max(len(every) // words.images, 1)][: words.images]
    core = max(os.sched_getaffinity(0))
    other = None
    if words.tensorflow_python:
        code = _TENSORFLOW.replace("SIZE", str(_SIZE))
        command = [words.tensorflow_python, "-c", code, str(core), *map(str, files)]
        start = functools.partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        other = start(command, stderr=subprocess.DEVNULL)
        assert other.stdin
        assert other.stdout
        version = other.stdout.readline().strip()
        if not version:
            sys.exit(f"{words.tensorflow_python} cannot import tensorflow")
    os.sched_setaffinity(0, {core})
    ours(files[:20], 0)
    seconds: dict[str, list[float]] = {"ours": [], "decoding alone": []}
    for turn in range(words.rounds):
        seconds["ours"].append(ours(files, turn))
        seconds["decoding alone"].append(alone(files))
        if other and other.stdin and other.stdout:
            print("go", file=other.stdin, flush=True)
            names = (f"tf.data {version}", "tf.data without antialiasing")
            for name, taken in zip(names, other.stdout.readline().split(), strict=True):
                seconds.setdefault(name, []).append(float(taken))
        print(
            f"round {turn + 1}: " + ", ".join(f"{n} {len(files) / s[-1]:.0f}" for n, s in seconds.items()), flush=True
        )
    if other and other.stdin:
        other.stdin.close()
        other.wait()
    speed = {name: len(files) / statistics.median(values) for name, values in seconds.items()}
    print(f"images/s on one core, medians over {words.rounds} rounds of {len(files)} files:")
    for name, value in speed.items():
        print(f"  {name}: {value:.0f}" + ("" if name == "ours" else f"  (ours / this {speed['ours'] / value:.3f})"))


if __name__ == "__main__":
    main()
