"""Files of weights: read right, or refused in one line and never run. `tools/parity.py --files` wrote PyTorch's."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from research.errors import UserError
from research.pretrained import files
from research.testing import named_weights

FOLDER = Path(__file__).parent / "files"
SHAPES = {
    "0.weight": (3, 2, 3, 3),
    "0.bias": (3,),
    **{f"1.{name}": (3,) for name in ("weight", "bias", "running_mean", "running_var")},
    "2.weight": (2, 3),
    "2.bias": (2,),
}
EXPECTED = {name: named_weights.array(name, shape) for name, shape in SHAPES.items()}
EXPECTED["view"] = EXPECTED["0.weight"].transpose(2, 3, 1, 0)[1:]


@pytest.mark.parametrize("name", ["zip", "legacy", "wrapped"])
def test_pytorch_files(name):
    arrays = files.read(FOLDER / f"{name}.pth")
    assert {key for key in arrays if not key.endswith("num_batches_tracked")} == EXPECTED.keys()
    tolerance = 2**-8 if name == "wrapped" else 0  # bfloat16 keeps 8 bits
    for key, expected in EXPECTED.items():
        np.testing.assert_allclose(np.asarray(arrays[key], np.float32), expected, rtol=tolerance)


def test_safetensors(tmp_path):
    save_file({key: np.ascontiguousarray(array) for key, array in EXPECTED.items()}, tmp_path / "w.safetensors")
    arrays = files.read(tmp_path / "w.safetensors")
    assert all(np.array_equal(arrays[key], expected) for key, expected in EXPECTED.items())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_arrays_in_containers(tmp_path, protocol):
    kernel = np.asfortranarray(EXPECTED["0.weight"])
    content = {"conv1": [kernel, EXPECTED["0.bias"].astype(">f4")], "count": 3, "scalar": np.float32(2)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol))
    arrays = files.read(tmp_path / "w.pkl")
    assert set(arrays) == {"conv1/0", "conv1/1", "scalar"}
    assert np.array_equal(arrays["conv1/0"], kernel)
    assert np.array_equal(arrays["conv1/1"], EXPECTED["0.bias"])
    assert arrays["scalar"] == 2


class Attack:
    """Pickles as a call of a function: what a hostile file would do."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (Path(self.marker),)


def in_zip(pickled):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("w/data.pkl", pickled)
    return archive.getvalue()


def in_legacy(pickled):
    return b"".join(pickle.dumps(part, 2) for part in (files.LEGACY_MAGIC, 1001, {})) + pickled


WRAPPINGS = {"pickle": bytes, "zip": in_zip, "legacy": in_legacy}


@pytest.mark.parametrize("wrapped", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("inside", [lambda a: a, lambda a: {"w": [1, a]}, lambda a: np.array([a], object)])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, wrapped, inside):
    marker = tmp_path / "ran"
    (tmp_path / "evil.pth").write_bytes(wrapped(pickle.dumps(inside(Attack(marker)), 2)))
    with pytest.raises(UserError, match="cannot be read as weights") as refusal:
        files.read(tmp_path / "evil.pth")
    assert "\n" not in str(refusal.value)
    assert not marker.exists()


@pytest.mark.parametrize("call", ["os\nsystem", "builtins\neval", "posix\nsystem", "numpy\nload", "torch\nload"])
def test_a_named_function_is_refused(tmp_path, call):
    hand_written = f"\x80\x02c{call}\nX\x04\x00\x00\x00true\x85R.".encode("latin1")
    (tmp_path / "evil.pkl").write_bytes(hand_written)
    with pytest.raises(UserError, match=f"names {call.replace(chr(10), '.')}, which is no array"):
        files.read(tmp_path / "evil.pkl")


def test_a_whole_pickled_module_is_refused():
    with pytest.raises(UserError, match=r"names torch\.nn\.modules\.container\.Sequential, which is no array"):
        files.read(FOLDER / "module.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a file of weights"),
        (b"hello, these are no weights", "not a file of weights"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a file of weights"),
        (in_zip(b"")[:60], "cannot be read"),
        (pickle.dumps({"a": 1}), "holds no arrays"),
        (pickle.dumps([]), "holds no arrays"),
        (pickle.dumps(np.array(["text"])), "no number"),
        (struct.pack("<Q", 20) + b'{"a": 1}', "cannot be read"),
    ],
    ids=["empty", "text", "png", "zip", "number", "list", "strings", "safetensors"],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, content, message):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        files.read(tmp_path / "w")
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="do not exist"):
        files.read(tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    data = (FOLDER / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError):
        files.read(tmp_path / name)


@pytest.mark.parametrize("value", [8, 12, 14, 255])
def test_no_changed_byte_gives_anything_but_arrays_or_a_refusal(tmp_path, value):
    """At every place: 8, 12 and 14 are zip's numbers of deflate, bzip2 and LZMA, where nothing is compressed."""
    sound, file, refused = (FOLDER / "zip.pth").read_bytes(), tmp_path / "changed.pth", 0
    for place in range(len(sound)):
        file.write_bytes(sound[:place] + bytes([value]) + sound[place + 1 :])
        try:
            files.read(file)
        except UserError:
            refused += 1
    assert refused > len(sound) / 4


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "wrapped.pth"])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused_and_nothing_else(tmp_path_factory, name, place, value):
    data = bytearray((FOLDER / name).read_bytes())
    data[place % len(data)] = value
    file = tmp_path_factory.getbasetemp() / f"changed-{name}"
    file.write_bytes(bytes(data))
    try:
        arrays = files.read(file)
    except UserError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


def reading(file):
    """Peak bytes that Python asked for while a file is refused, and what was said."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as refusal:
            files.read(file)
        return tracemalloc.get_traced_memory()[1], str(refusal.value)
    finally:
        tracemalloc.stop()


def laughs():
    """A list of lists of lists: 9 ** 40 items, in 500 bytes."""
    pickled = b"\x80\x02](K\x01K\x01eq\x00"
    for level in range(1, 40):
        pickled += b"](" + (b"h" + bytes([level - 1])) * 9 + b"eq" + bytes([level])
    return pickled + b"."


@pytest.mark.parametrize("wrapped", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
        laughs(),
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02" + b"]" * 10**5 + b"a" * 10**5 + b".",
        b"\x80\x02cnumpy\ndtype\nX\x03\x00\x00\x00,,,\x85R.",
        b"\x80\x02cnumpy\ndtype\nX\x0f\x00\x00\x00(1000000000,)f4\x85R.",
    ],
    ids=["note", "bytearray", "bytes", "laughs", "itself", "deep", "no type", "wide type"],
)
def test_instructions_that_ask_for_what_is_not_there_take_no_memory(tmp_path, wrapped, pickled):
    (tmp_path / "w.pth").write_bytes(wrapped(pickled))
    most, said = reading(tmp_path / "w.pth")
    assert "w.pth" in said
    assert most < 300 * 2**20  # looking at a million items, of those that never end


def test_an_archive_that_unfolds_is_refused_before_it_does(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("w/data.pkl", pickle.dumps({}, 2))
        made.writestr("w/byteorder", bytes(2**28))
    most, said = reading(tmp_path / "w.pth")
    assert "unfolds to many times its size" in said
    assert most < 2**24


def test_views_of_the_same_numbers_are_not_copied_without_end(tmp_path):
    """A million views of a megabyte would be a terabyte; tied weights are two or three."""
    array = np.zeros(2**18, np.float32)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({f"w{i}": array for i in range(3)}, 4))
    assert len(files.read(tmp_path / "w.pkl")) == 3
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({f"w{i}": array for i in range(1000)}, 4))
    most, said = reading(tmp_path / "w.pkl")
    assert "many times its size" in said
    assert most < 2**25


@pytest.mark.parametrize("head", [b"", b"\x80\x02"])
def test_a_file_that_is_too_large_is_not_read(tmp_path, head):
    (tmp_path / "w.pth").write_bytes(head)
    os.truncate(tmp_path / "w.pth", files.MOST_BYTES + 1)
    most, said = reading(tmp_path / "w.pth")
    assert "expected at most" in said
    assert most < 2**20


def test_what_never_ends_is_no_file_of_weights(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", Path("/dev/zero"), tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match=r"are no file|do not exist"):
            files.read(file)


def test_a_file_of_a_package_lies_inside_of_it():
    from research import pretrained

    with pytest.raises(UserError, match="lie outside of package"):
        pretrained.locate("package:numpy/../../../../etc/passwd")
