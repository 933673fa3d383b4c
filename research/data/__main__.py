"""`python -m research.data prepare NAME`: the one command of this project that may download or build a data set.

Needs the extra tfds-prepare (TensorFlow); reading what it wrote does not. `fashion_mnist` is built without internet
from the files of Debian's dataset-fashion-mnist, into the same official set as from its own downloads.
"""

import argparse
import importlib.util
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from etils import epath

from research.data import tfds
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; expected: {self.prog} prepare NAME [--data-dir DIR] [--manual-dir DIR]")


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code: 0, or 2 when the words or what is installed are wrong (one line)."""
    parser = _Parser(prog="python -m research.data", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("verb", choices=["prepare"])
    parser.add_argument(
        "name", help="fashion_mnist, cifar10, ...: any name of TensorFlow-Datasets (NAME/CONFIG:VERSION)"
    )
    parser.add_argument("--data-dir", help="default: TFDS_DATA_DIR, else ~/tensorflow_datasets")
    parser.add_argument("--manual-dir", help="files that TensorFlow-Datasets asks to be fetched by hand")
    try:
        options = parser.parse_args(words)
        print(prepare(options.name, data_dir=options.data_dir, manual_dir=options.manual_dir))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
