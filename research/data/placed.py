"""Made here: things placed on crops of photographs, so that where they are is known exactly.

The photographs are those of scikit-image's package: training has crops of their left three quarters, evaluation of the
rest. The same files give the same pictures. Places are shares of the picture's width and height.
"""

import functools
import importlib.util
import zlib
from collections.abc import Callable

import numpy as np
from etils import epath
from PIL import Image, ImageDraw

from research import paths
from research.data.stored import Split
from research.errors import UserError

SIDE = 48  # pixels of a picture
COUNTS: dict[Split, int] = {"train": 20_000, "eval": 2_000}
PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png"),
    *("hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg"),
)
PARTS: dict[Split, tuple[float, float]] = {"train": (0.0, 0.75), "eval": (0.75, 1.0)}  # of a photograph's width
EMPTY = 0.1  # share of pictures of objects that show none

# A figure of a face in a square from -1 to 1, y downwards: what is marked, and what else is drawn.
POINTS = {
    "left eye": (-0.4, -0.3),
    "right eye": (0.4, -0.3),
    "nose": (0.0, 0.1),
    "left mouth corner": (-0.35, 0.5),
    "right mouth corner": (0.35, 0.5),
}
_SMOOTH = 4  # times the size at which a figure is drawn before it is made smaller


def photographs() -> dict[str, epath.Path]:
    """The files, by name. Raises `UserError` where scikit-image, which is not imported, is not installed."""
    package = importlib.util.find_spec("skimage")
    folders = list(package.submodule_search_locations or []) if package else []
    found = {name: epath.Path(folders[0], "data", name) for name in PHOTOGRAPHS} if folders else {}
    if not found or not all(paths.answer(file.is_file) for file in found.values()):
        raise UserError("photographs to place things on come with scikit-image; run pip install scikit-image")
    return found


def objects(
    things: np.ndarray, classes: np.ndarray, num_classes: int, split: Split, count: int
) -> tuple[np.ndarray, ...]:
    """Pictures uint8 [n 48 48 3], rows [pc, bx, by, bh, bw, c1 .. cn] float32, and classes int32 (0 where none is).

    `things` are grey, uint8 [m h w] on black, of these classes. Each is 22 to 44 pixels high and wide, in
    one of its colours; its box holds the pixels that differ from the photograph, exactly.
    """
    random, background = _start(split, 1)
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    rows = np.zeros((count, 5 + num_classes), np.float32)
    kinds = np.zeros(count, np.int32)
    for number, chosen in enumerate(random.permutation(len(things))[:count]):
        picture = background()
        if random.random() >= EMPTY:
            height, width = np.clip(random.uniform(24, 42) * np.exp(random.uniform(-0.15, 0.15, 2)), 22, 44).astype(int)
            thing = np.asarray(Image.fromarray(things[chosen]).resize((int(width), int(height)), 2), np.float32) / 255
            opaque = np.clip(thing * 8, 0, 1)
            inside = opaque > 0.2
            opaque *= inside
            top, left = random.integers(0, SIDE - height + 1), random.integers(0, SIDE - width + 1)
            colour = random.uniform(0.4, 1, 3) * 255
            patch = picture[top : top + height, left : left + width]
            patch[:] = opaque[..., None] * thing[..., None] * colour + (1 - opaque[..., None]) * patch
            down, across = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
            box = left + across[0], top + down[0], left + across[-1] + 1, top + down[-1] + 1
            rows[number, :5] = 1, *_centred(*(float(edge) / SIDE for edge in box))
            rows[number, 5 + classes[chosen]] = 1
            kinds[number] = classes[chosen]
        pictures[number] = np.round(picture)
    return pictures, rows, kinds


@functools.cache
def figures(split: Split, count: int) -> tuple[np.ndarray, ...]:
    """Pictures uint8 [n 48 48 3] of one face each, drawn and warped, and its `POINTS`, x and y of each, float32."""
    random, background = _start(split, 2)
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    rows = np.empty((count, len(POINTS), 2), np.float32)
    marked = np.asarray(list(POINTS.values()))
    for number in range(count):
        angle, shear = random.uniform(-0.6, 0.6), random.uniform(-0.2, 0.2)
        sizes = random.uniform(12, 20) * np.exp(random.uniform(-0.15, 0.15, 2))
        turn = np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.asarray([[1, shear], [0, 1]]) @ np.diag(sizes)
        reach = np.abs(matrix @ _circle(1.0, (0, 0), (1, 1)).T).max(axis=1)
        centre = random.uniform(np.minimum(reach, SIDE / 2), np.maximum(SIDE - reach, SIDE / 2))
        shift = np.clip(random.normal(0, 0.05, marked.shape), -0.1, 0.1)  # no two faces are alike
        points = marked + shift
        picture = Image.fromarray(np.round(background()).astype(np.uint8)).resize((SIDE * _SMOOTH,) * 2, 2)
        _draw(ImageDraw.Draw(picture), functools.partial(_placed, matrix, centre), points, random)
        pictures[number] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))
        rows[number] = (points @ matrix.T + centre) / SIDE
    return pictures, rows.reshape(count, -1)


def _placed(matrix: np.ndarray, centre: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points of a figure in pixels of the picture that it is drawn on."""
    return (points @ matrix.T + centre) * _SMOOTH


def _draw(
    draw: ImageDraw.ImageDraw,
    place: Callable[[np.ndarray], np.ndarray],
    points: np.ndarray,
    random: np.random.Generator,
) -> None:
    """A head, eyes, a nose and a mouth: each point is the middle of what it names, or the end of the mouth."""

    def polygon(corners: np.ndarray, colour: np.ndarray) -> None:
        draw.polygon([tuple(corner) for corner in place(corners).tolist()], fill=tuple(int(c) for c in colour))

    skin = random.uniform(90, 255, 3)
    dark = skin * random.uniform(0.1, 0.5)
    polygon(_circle(1.0, (0, 0), (0.8, 1.0)), skin)
    for eye in points[:2]:
        polygon(_circle(1.0, eye, (0.17, 0.12)), np.full(3, 250))
        polygon(_circle(1.0, eye, (0.08, 0.1)), dark)
    polygon(points[2] + np.asarray([[0, -0.2], [0.1, 0.1], [-0.1, 0.1]]), dark)
    left, right = points[3], points[4]
    bend = np.asarray([0, random.uniform(0.03, 0.2)])
    polygon(np.stack([left, (left + right) / 2 - bend / 4, right, (left + right) / 2 + bend]), dark * [1.0, 0.3, 0.3])


def _circle(radius: float, centre: tuple[float, float] | np.ndarray, axes: tuple[float, float]) -> np.ndarray:
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.asarray(centre) + radius * np.stack([np.cos(around), np.sin(around)], axis=-1) * np.asarray(axes)


def _start(split: Split, kind: int) -> tuple[np.random.Generator, Callable[[], np.ndarray]]:
    """What draws for a split, and a function giving another crop of its photographs, float32 [48 48 3]."""
    random = np.random.default_rng([kind, zlib.crc32(split.encode())])
    files = photographs()
    photos = [Image.open(str(files[name])).convert("RGB") for name in PHOTOGRAPHS]
    photos = [p.crop((int(PARTS[split][0] * p.width), 0, int(PARTS[split][1] * p.width), p.height)) for p in photos]

    def crop() -> np.ndarray:
        photo = photos[random.integers(len(photos))]
        side = int(random.uniform(SIDE, max(SIDE, min(photo.size) / 2)))
        left, top = random.integers(0, photo.width - side + 1), random.integers(0, photo.height - side + 1)
        box = (int(left), int(top), int(left) + side, int(top) + side)
        return np.array(photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box), np.float32)

    return random, crop


def _centred(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    """[bx, by, bh, bw]."""
    return (left + right) / 2, (top + bottom) / 2, bottom - top, right - left
