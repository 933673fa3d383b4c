"""A set of photographs like ImageNet's, made from those in installed packages: for trials and for measuring speed.

    pip install --no-deps --target side scikit-image foolbox
    python tools/photo_crops.py DIR --packages side                      # DIR/train/CLASS/*.jpg, DIR/test/CLASS/*.jpg
    python tools/photo_crops.py DIR --packages side --format tfrecord    # DIR/photos/1.0.0, a prepared set
    python launch.py train imagenet:resnet18 --data.name photos --data.path DIR --workdir runs/photos

One class a photograph: 2 in scikit-learn, which is always there, 13 in scikit-image and 20 in foolbox (these are
ImageNet's). An image is a random crop, 210 to 600 pixels along its longer side (half of them beyond 420) as a JPEG of
some 70 kB, grey where the photograph is. Training and test images are different crops of the same photographs, so an
accuracy on them says that training works and nothing more. The same words make the same images.
"""

import argparse
import hashlib
import importlib.util
import io
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from research.data import convert
from research.data.crops import crop_box
from research.errors import UserError

# package -> (its folder of images, those of them that are photographs of a size)
PHOTOGRAPHS = {
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
    "skimage": (
        "data",
        (
            *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png"),
            *("hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg"),
        ),
    ),
    "foolbox": ("data", ("imagenet_*.jpg",)),
}
LONGEST = 600  # pixels
SHARD = 500  # records a file


def photographs(packages: str | None) -> dict[str, Path]:
    """Class -> file, of the packages that are in the folder `packages` or installed; none of them is imported."""
    found: dict[str, Path] = {}
    for package, (folder, patterns) in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        installed = list(spec.submodule_search_locations or []) if spec else []
        beside = [os.fspath(Path(packages, package))] if packages else []
        root = next((Path(place, folder) for place in (*beside, *installed) if Path(place, folder).is_dir()), None)
        files = [file for pattern in patterns for file in sorted(root.glob(pattern))] if root else []
        print(f"{package}: {len(files)} photographs" if files else f"{package}: not found", flush=True)
        found |= {file.stem: file for file in files}
    return dict(sorted(found.items()))  # the order in which image folders number their classes


def crop(photograph: Image.Image, *salt: int) -> bytes:
    """A random crop as a JPEG file; its box and quality are fixed by `salt`."""
    box = crop_box(photograph.height, photograph.width, area=(0.3, 1.0), ratio=(3 / 4, 4 / 3), salt=salt)
    top, left, height, width = box
    cropped = photograph.crop((left, top, left + width, top + height))
    draws = hashlib.sha256(repr(("size and quality", salt)).encode()).digest()
    if max(height, width) > LONGEST:
        cropped.thumbnail((longest := 400 + draws[0] * (LONGEST - 400) // 255, longest), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    cropped.save(file, "jpeg", quality=90 + draws[1] % 9)  # colour at half resolution
    return file.getvalue()


def images(files: dict[str, Path], split: str, count: int, seed: int) -> Iterator[tuple[bytes, int, int]]:
    """`count` images, as (JPEG, class, number within its class), classes in turn."""
    opened = [Image.open(file) for file in files.values()]
    pictures = [picture.convert("L" if picture.mode == "L" else "RGB") for picture in opened]
    for number in range(count):
        within, label = divmod(number, len(pictures))
        yield crop(pictures[label], seed, split == "test", label, within), label, within


def write_folder(target: Path, files: dict[str, Path], counts: dict[str, int], seed: int) -> None:
    """Write DIR/train/CLASS/0000.jpg and so on."""
    names = list(files)
    with convert.whole(target) as folder:
        for split, count in counts.items():
            for name in names:
                (folder / split / name).mkdir(parents=True)
            for image, label, within in images(files, split, count, seed):
                (folder / split / names[label] / f"{within:04d}.jpg").write_bytes(image)


def write_set(target: Path, files: dict[str, Path], counts: dict[str, int], seed: int, form: convert.Form) -> None:
    """Write a prepared TensorFlow-Datasets set into DIR/NAME/1.0.0, without TensorFlow."""
    name = target.parent.name
    with convert.whole(target) as folder:
        written: dict[str, list[tuple[int, int]]] = {}
        for split, count in counts.items():
            records = (convert.example(image, label) for image, label, _ in images(files, split, count, seed))
            shards = -(-count // SHARD)
            written[split] = []
            for number in range(shards):
                file = folder / convert.file_name(name, split, number, shards, form)
                written[split].append(convert.write(os.fspath(file), itertools.islice(records, SHARD), form))
        about = "Random crops of photographs in Python packages, a class each."
        convert.describe(folder, name, convert.photographs(list(files)), written, about)


def main() -> int:
    """Make the set; returns 0, or 2 when it cannot be made (one line says why)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--format", choices=["folder", "array_record", "tfrecord"], default="folder")
    parser.add_argument("--name", default="photos", help="of the prepared set; default: photos")
    parser.add_argument("--train", type=int, default=2100, metavar="N", help="training images; default: 2100")
    parser.add_argument("--test", type=int, default=350, metavar="N", help="test images; default: 350")
    parser.add_argument("--packages", metavar="DIR", help="where pip install --target put packages")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    try:
        files = photographs(words.packages)
        counts = {"train": words.train, "test": words.test}
        if min(counts.values()) < len(files):
            raise UserError(f"--train {words.train} --test {words.test}: expected at least {len(files)}, one a class")
        if words.format == "folder":
            target, use = words.folder, "image_folder"
            write_folder(target, files, counts, words.seed)
        else:
            target, use = words.folder / words.name / "1.0.0", words.name
            write_set(target, files, counts, words.seed, words.format)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{words.train} and {words.test} images of {len(files)} classes are in {target}")
    print(f"use it with --data.name {use} --data.path {words.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
