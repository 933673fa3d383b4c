"""How four numbers say a box, and what is done with one box at a time."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from research.errors import unknown

AnyArray = Array | np.ndarray
Boxes = Num[AnyArray, "... 4"]
FloatBoxes = Float[Array, "... 4"]


class _Format(NamedTuple):
    to_corners: Callable[..., tuple[Array, Array, Array, Array]]
    from_corners: Callable[..., tuple[Array, Array, Array, Array]]


# name -> how its four numbers become x_min, y_min, x_max, y_max, and back.
_FORMATS = {
    "corners": _Format(lambda *four: four, lambda *four: four),
    "corners_row_first": _Format(  # [y_min, x_min, y_max, x_max], of TensorFlow
        lambda y0, x0, y1, x1: (x0, y0, x1, y1),
        lambda x0, y0, x1, y1: (y0, x0, y1, x1),
    ),
    "corner_width_height": _Format(  # [x_min, y_min, width, height], of COCO
        lambda x, y, w, h: (x, y, x + w, y + h),
        lambda x0, y0, x1, y1: (x0, y0, x1 - x0, y1 - y0),
    ),
    "center_width_height": _Format(  # [x, y, width, height], of YOLO's files
        lambda x, y, w, h: (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
        lambda x0, y0, x1, y1: ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0),
    ),
    "center_height_width": _Format(  # [bx, by, bh, bw]
        lambda x, y, h, w: (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
        lambda x0, y0, x1, y1: ((x0 + x1) / 2, (y0 + y1) / 2, y1 - y0, x1 - x0),
    ),
}
FORMATS = tuple(_FORMATS)


def convert(boxes: Boxes, source: str, target: str) -> FloatBoxes:
    """Boxes of format `source` in format `target`. Shapes: "... 4" both; whole numbers become float32.

    Formats (`FORMATS`): corners [x_min, y_min, x_max, y_max], corners_row_first [y_min, x_min, y_max, x_max]
    (TensorFlow), corner_width_height [x_min, y_min, w, h] (COCO), center_width_height [x, y, w, h] (YOLO),
    center_height_width [bx, by, bh, bw]. Raises `UserError`: a format that is none of them.
    """
    for name in (source, target):
        if name not in _FORMATS:
            raise unknown("format of boxes", name, FORMATS)
    boxes = as_float(boxes)
    if source == target:
        return boxes
    corners = _FORMATS[source].to_corners(*(boxes[..., i] for i in range(4)))
    return jnp.stack(_FORMATS[target].from_corners(*corners), axis=-1)


def area(boxes: Boxes) -> Float[Array, "..."]:
    """Width x height of each box, 0 where either is not more than 0. Shapes: "... 4" -> "..."."""
    boxes = as_float(boxes)
    return jnp.maximum(boxes[..., 2] - boxes[..., 0], 0.0) * jnp.maximum(boxes[..., 3] - boxes[..., 1], 0.0)


def clip(boxes: Boxes, height: float, width: float) -> FloatBoxes:
    """What of each box is inside a picture of this size; one outside of it has no area left. Shapes: "... 4"."""
    boxes = as_float(boxes)
    return jnp.stack([jnp.clip(boxes[..., i], 0.0, (width, height)[i % 2]) for i in range(4)], axis=-1)


def normalise(boxes: Boxes, height: float, width: float) -> FloatBoxes:
    """Boxes in pixels as shares of the picture's width and height. Shapes: "... 4" of corners."""
    boxes = as_float(boxes)
    return jnp.stack([boxes[..., i] / (width, height)[i % 2] for i in range(4)], axis=-1)


def pixels(boxes: Boxes, height: float, width: float) -> FloatBoxes:
    """Boxes as shares of the picture's width and height in pixels: what `normalise` took away. Shapes: "... 4"."""
    boxes = as_float(boxes)
    return jnp.stack([boxes[..., i] * (width, height)[i % 2] for i in range(4)], axis=-1)


def as_float(boxes: Num[AnyArray, "..."]) -> Float[Array, "..."]:
    """Coordinates of at least float32: bfloat16 has no numbers between 256 and 258, and integers do not halve."""
    boxes = jnp.asarray(boxes)
    floating = jnp.issubdtype(boxes.dtype, jnp.floating)
    return boxes.astype(jnp.promote_types(boxes.dtype, jnp.float32) if floating else jnp.float32)
