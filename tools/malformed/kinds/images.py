"""Image files that are none, do not end, or would not fit into memory; to be predicted, explained or trained on."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable

from PIL import Image

from tools.malformed.case import Case, Place
from tools.malformed.mutation import cut, garbage

FORMATS = ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")


def encoded(chance: random.Random, kind: str, mode: str = "RGB") -> bytes:
    """A sound picture of noise, which no compression makes short."""
    size = chance.randint(16, 40), chance.randint(16, 40)
    count = size[0] * size[1] * len(Image.new(mode, (1, 1)).getbands())
    data = io.BytesIO()
    Image.frombytes(mode, size, chance.randbytes(count)).save(data, kind)
    return data.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, *, depth: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """A PNG file that declares this size, whatever it holds."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _used(chance: random.Random, place: Place, data: bytes, suffix: str = "png") -> tuple[str, ...]:
    """A command that reads an image file with these bytes."""
    use = chance.choice(("predict", "predict", "explain", "folder"))
    if use == "folder":
        return _folder(chance, place, data, suffix)
    place.run()
    name = place.write(f"picture.{suffix}", data)
    if use == "explain":
        return ("explain", "--workdir", "run", "--image", name, "--out", "o.png")
    sound = place.write("sound.png", encoded(chance, "png", "L"))
    return ("predict", "--workdir", "run", *chance.sample([sound, name], 2))


def _folder(chance: random.Random, place: Place, data: bytes, suffix: str) -> tuple[str, ...]:
    suffix = suffix if suffix in ("png", "jpg", "jpeg") else chance.choice(["png", "jpg"])
    for split, count in (("train", 3), ("test", 1)):
        for name in ("cat", "dog"):
            for number in range(count):
                place.write(f"photos/{split}/{name}/{number}.png", encoded(chance, "png"))
    bad = f"photos/{chance.choice(['train', 'test'])}/{chance.choice(['cat', 'dog'])}/bad.{suffix}"
    place.write(bad, data)
    words = ["train", "digits:resnet8", "--data.name", "image_folder", "--data.path", "photos"]
    words += ["--data.resolution", "32", "--data.batch-size", "2"]
    return (*words, "--parallelism.devices", "1", "--workdir", "W")


def cut_short(chance: random.Random, place: Place) -> Case:
    """The beginning of a picture."""
    kind = chance.choice(FORMATS)
    return Case(_used(chance, place, cut(chance, encoded(chance, kind)), kind), f"a cut {kind}")


def no_picture(chance: random.Random, place: Place) -> Case:
    """Bytes that are no picture."""
    sound = encoded(chance, chance.choice(["png", "jpeg", "gif"]))
    data = chance.choice(
        [
            b"",
            b"\0" * chance.randint(1, 5000),
            b"hello",
            garbage(chance),
            b"\xff\xfe" + sound[2:] if sound[:2] != b"\xff\xd8" else b"\0\0" + sound[2:],
            sound[:8] + garbage(chance),
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"<!DOCTYPE html><script>alert(1)</script>",
            b"PK\x03\x04" + garbage(chance),
            b"\x80\x04cos\nsystem\nX\x04\0\0\0true\x85R.",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(ran) (w) file closefile\nshowpage\n",
            b"\x1f\x8b\x08\0" + garbage(chance),
        ]
    )
    return Case(_used(chance, place, data), "no picture")


def damaged_png(chance: random.Random, place: Place) -> Case:
    """A PNG whose checksums say that a bit is wrong, in what every reader must know."""
    data = bytearray(encoded(chance, "png"))
    begin, end = data.index(b"IHDR"), data.index(b"IEND")
    bit = chance.choice(
        [chance.randrange(begin * 8, (begin + 17) * 8), chance.randrange((begin + 29) * 8, end * 8 - 96)]
    )
    data[bit // 8] ^= 1 << bit % 8
    return Case(_used(chance, place, bytes(data)), f"bit {bit} is wrong")


def wrong_png_header(chance: random.Random, place: Place) -> Case:
    """A PNG that declares what no PNG is."""
    pixels = bytes(10 * 11)
    data = chance.choice(
        [
            png(0, 10, pixels),
            png(10, 0, pixels),
            png(2**31, 2**31, pixels),
            png(10, 10, pixels, depth=3),
            png(10, 10, pixels, colour=chance.choice([1, 5, 7, 200])),
            png(10, 10, pixels, depth=chance.choice([0, 5, 17, 255])),
            png(10, 10, pixels[: chance.randint(1, 80)]),
            png(10, 10, pixels, colour=3),
            png(10, 10, pixels).replace(b"IHDR", b"JHDR"),
            png(10, 10, pixels)[:8] + chunk(b"IEND", b""),
            png(10, 10, pixels)[:33] + chunk(b"IEND", b""),
        ]
    )
    return Case(_used(chance, place, data), "no PNG has this header")


def bomb(chance: random.Random, place: Place) -> Case:
    """A small file that declares, or is, a picture of gigabytes."""
    side = chance.randint(12_000, 60_000)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\x01\0\0;"
    bmp = bytearray(encoded(chance, "bmp"))
    bmp[18:26] = struct.pack("<ii", side, side)
    jpeg = bytearray(encoded(chance, "jpeg"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65500, 65500)
    made: list[tuple[Callable[[], bytes], str]] = [
        (lambda: png(side, side, bytes(10)), "png"),
        (lambda: png(12_000, 12_000, bytes(12_001 * 12_000)), "png"),
        (lambda: png(65535, 65535, bytes(10), depth=16, colour=6), "png"),
        (lambda: png(9, 9, bytes(90), extra=chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(10**8), 9))), "png"),
        (lambda: png(1, 2**30, bytes(10)), "png"),
        (lambda: gif, "gif"),
        (lambda: bytes(bmp), "bmp"),
        (lambda: bytes(jpeg), "jpg"),
        (lambda: f"P6\n{side} {side}\n255\n".encode(), "ppm"),
        (lambda: f"P5\n{'9' * 40} 1\n255\n".encode(), "ppm"),
    ]
    data, suffix = chance.choice(made)
    return Case(_used(chance, place, data(), suffix), "gigabytes when decoded")


def no_colours(chance: random.Random, place: Place) -> Case:
    """Pixels that have no meaning in 8 bits: real numbers, 32 bits."""
    data = io.BytesIO()
    mode = chance.choice(["F", "I"])
    Image.frombytes(mode, (16, 16), chance.randbytes(256 * 4)).save(data, "tiff")
    return Case(_used(chance, place, data.getvalue(), "tiff"), f"mode {mode}")


def no_file_in_a_folder(chance: random.Random, place: Place) -> Case:
    """In a folder of pictures, what cannot be opened or never ends."""
    words = _folder(chance, place, b"", "png")
    (bad,) = place.folder.glob("photos/*/*/bad.*")
    bad.unlink()
    way = chance.choice(("pipe", "loop", "dangling", "folder", "device"))
    if way == "pipe":
        os.mkfifo(bad)
    elif way == "folder":
        bad.mkdir()
    else:
        os.symlink({"loop": bad.name, "dangling": "nowhere", "device": "/dev/zero"}[way], bad)
    return Case(words, f"a {way} is no picture")


def wrong_folder(chance: random.Random, place: Place) -> Case:
    """A folder of pictures that is no data set."""
    words = _folder(chance, place, encoded(chance, "png"), "png")
    folder = place.folder / "photos"
    way = chance.choice(("class", "train", "empty", "one", "file", "path", "size", "test"))
    if way == "class":
        name = chance.choice(["bird", "<b>", "x\ny", "\x1b[2J", "c" * 200])
        place.write(f"photos/test/{name}/0.png", encoded(chance, "png"))
    elif way == "train":
        (folder / "train").rename(folder / "tarin")
    elif way == "empty":
        for file in folder.rglob("*.*"):
            file.unlink()
    elif way == "one":
        for file in folder.rglob("dog/*"):
            file.unlink()
        for found in list(folder.rglob("dog")):
            found.rmdir()
    elif way == "file":
        for file in folder.rglob("*.*"):
            file.unlink()
        for found in sorted(folder.rglob("*"), reverse=True):
            found.rmdir()
        folder.rmdir()
        place.write("photos", b"x")
    elif way == "path":
        at = words.index("photos")
        words = (*words[:at], chance.choice(["nowhere", "", "photos/train", "n" * 300, "\n"]), *words[at + 1 :])
    elif way == "size":
        at = words.index("--data.resolution")
        words = (*words[:at], *words[at + 2 :])
    else:
        for file in (folder / "test").rglob("*.*"):
            file.unlink()
    return Case(words, f"{way}: no data set")


def wrong_words_of_a_run(chance: random.Random, place: Place) -> Case:
    """A trained run, asked for what it does not have."""
    place.run()
    place.write("a.png", encoded(chance, "png", "L"))
    words = chance.choice(
        [
            ["predict", "--workdir", "run", "nowhere.png"],
            ["predict", "--workdir", "run", "run"],
            ["predict", "--workdir", "run", "n" * 300],
            ["predict", "--workdir", "run", "a.png", "--top", str(-chance.randint(0, 9))],
            ["predict", "--workdir", "run", "a.png", "--checkpoint", chance.choice(["99", "-1", "bset", "", "../12"])],
            ["explain", "--workdir", "run", "--image", "a.png", "--class", chance.choice(["ten", "", "\x1b[31m0"])],
            [
                "explain",
                "--workdir",
                "run",
                "--image",
                "a.png",
                "--layer",
                chance.choice(["stage9", "", "../x", "head"]),
            ],
            ["export", "--workdir", "run", "--out", "o", "--checkpoint", chance.choice(["7", "\u00b2", "1e1"])],
            ["eval", "--workdir", "run", "--dataset", chance.choice(["digitz", "synthetic", "../digits", "", "a/b:c"])],
            ["eval", "--workdir", "run", "--checkpoint", chance.choice(["99", "0x0c", "worst"])],
            ["train", "digits:resnet8", "--seed", "9", "--workdir", "run"],
            ["train", "digits", "--model.name", "resnet20", "--transfer.weights", "run", "--workdir", "W"],
        ]
    )
    return Case(tuple(words), "the run has no such thing")
