"""`python -m research.data`: the one command of this project that may download, build or convert a data set.

prepare NAME     by TensorFlow-Datasets, as array_record. Needs the extra tfds-prepare (TensorFlow); reading what it
                 wrote does not. fashion_mnist is built without internet from the files of Debian's
                 dataset-fashion-mnist, into the same official set as from its own downloads.
convert FOLDER   TFRecords as array_record, without TensorFlow: a prepared set (which training also reads as it is)
                 into another data directory, or train-* and validation-* as TensorFlow's ImageNet scripts write them
                 into a set of the given name, for --data.name NAME --data.path DIR.
"""

import argparse
import functools
import importlib.util
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from etils import epath

from research import paths
from research.data import tfds
from research.data.convert import Keys, prepared, raw
from research.data.sources import SOURCES, fashion_files
from research.errors import UserError, unknown

# Modification times (seconds since 1970) that the published files carry in their gzip headers, which Debian cleared.
_FASHION_TIMES = {"train": 1504176606, "t10k": 1504176627}


def restore_header(data: bytes, name: str, time: int) -> bytes:
    """A gzip file with `name` and modification `time` put back into a header that holds neither (RFC 1952, sec. 2.3).

    Raises `UserError` when `data` is not such a file.
    """
    if data[:4] != b"\x1f\x8b\x08\x00":
        raise UserError(f"{name}.gz has another gzip header than Debian's dataset-fashion-mnist; expected 1f8b0800")
    return b"\x1f\x8b\x08\x08" + struct.pack("<I", time) + data[8:10] + name.encode() + b"\0" + data[10:]


def restore_fashion(files: dict[str, epath.Path], folder: Path) -> None:
    """Write the files as they were published, byte for byte, into `folder`, from Debian's (`fashion_files`)."""
    for name, file in files.items():
        time = _FASHION_TIMES[name.split("-")[0]]
        (folder / name).write_bytes(restore_header(file.read_bytes(), name.removesuffix(".gz"), time))


def _check(name: str, path: str | None) -> str | None:
    """What to print instead of preparing; None when there is something to prepare. Raises `UserError`."""
    base = tfds.base_name(name)
    if name in ("digits", "synthetic", "image_folder"):
        return f"{name} needs no preparation"
    if folder := tfds.prepared(name, path):
        return f"{name} is prepared in {folder}"
    if base not in (registered := tfds.registered()):
        raise unknown("data set", name, {*SOURCES, *registered})
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "preparing needs TensorFlow, which is not installed: pip install -c constraints.txt -e .[tfds-prepare]"
        )
    return None


def prepare(name: str, *, data_dir: str | None = None, manual_dir: str | None = None) -> str:
    """Download or build a TFDS set as array_record; returns a line that says where it is. Raises `UserError`.

    `data_dir`: as `data.path`. `manual_dir`: files that TFDS asks to be fetched by hand (ImageNet's).
    """
    if (message := _check(name, data_dir)) is not None:
        return message
    import tensorflow_datasets

    with tempfile.TemporaryDirectory() as restored:
        files = fashion_files(None) if tfds.base_name(name) == "fashion_mnist" and not manual_dir else None
        if files:
            restore_fashion(files, Path(restored))
            manual_dir = restored
        folder = tfds.data_dir(data_dir)
        builder = tensorflow_datasets.builder(name, data_dir=folder, file_format="array_record")
        config = tensorflow_datasets.download.DownloadConfig(manual_dir=manual_dir)
        builder.download_and_prepare(download_config=config)
    return f"{name} is prepared in {builder.data_dir}"


def convert(
    folder: str, *, data_dir: str | None, name: str | None, keys: Keys = Keys(), classes: str | None = None
) -> str:
    """Convert a folder of TFRecords (`research.data.convert`), with lines of progress; returns where it is now."""
    source = paths.expanded(folder)
    if not paths.answer(source.is_dir):
        raise UserError(f"{source} is no folder; expected one of TFRecords")
    report = functools.partial(print, flush=True)
    if (source / "dataset_info.json").exists():
        if name or classes or keys != Keys():
            raise UserError(
                f"{source} is a prepared set, which keeps its name, features and classes; expected no options"
            )
        where = prepared(source, data_dir, report)
    elif name is None:
        raise UserError(
            f"{source} has no dataset_info.json, so it is no prepared set; expected --name NAME for the new one"
        )
    else:
        where = raw(source, data_dir, name, report, keys=keys, classes=classes)
    return f"converted: {where}"


_USAGE = {
    "prepare": "NAME [--data-dir DIR] [--manual-dir DIR]",
    "convert": "FOLDER [--data-dir DIR] [--name NAME --image-key KEY --label-key KEY --first-label N --classes FILE]",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        verbs = [verb for verb in _USAGE if self.prog.endswith(f" {verb}")] or list(_USAGE)
        usage = ", or ".join(f"python -m research.data {verb} {_USAGE[verb]}" for verb in verbs)
        raise UserError(f"{message}; expected: {usage}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m research.data", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{prepare,convert}")
    where = "default: TFDS_DATA_DIR, else ~/tensorflow_datasets"
    verb = verbs.add_parser("prepare", help="download or build a set of TensorFlow-Datasets")
    verb.add_argument("name", help="fashion_mnist, cifar10, ...: any name of TensorFlow-Datasets (NAME/CONFIG:VERSION)")
    verb.add_argument("--data-dir", help=where)
    verb.add_argument("--manual-dir", help="files that TensorFlow-Datasets asks to be fetched by hand")
    verb = verbs.add_parser("convert", help="TFRecords to array_record")
    verb.add_argument("folder", help="a prepared set (with dataset_info.json), or train-*, validation-* of TFRecords")
    verb.add_argument("--data-dir", help=f"where it goes; {where}")
    verb.add_argument("--name", help="of the new set, where the folder is no prepared one")
    verb.add_argument("--image-key", default=Keys.image, help="feature with the encoded image; default: %(default)s")
    verb.add_argument("--label-key", default=Keys.label, help="feature with the class; default: %(default)s")
    verb.add_argument("--first-label", type=int, default=Keys.first_label, help="of all; default: %(default)s")
    verb.add_argument("--classes", metavar="FILE", help="a class name a line, in the order of the labels")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code: 0, or 2 when the words or what is installed are wrong (one line)."""
    try:
        options = _parser().parse_args(words)
        if options.verb == "prepare":
            print(prepare(options.name, data_dir=options.data_dir, manual_dir=options.manual_dir))
        else:
            keys = Keys(options.image_key, options.label_key, options.first_label)
            made = {"data_dir": options.data_dir, "name": options.name, "classes": options.classes}
            print(convert(options.folder, keys=keys, **made))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
