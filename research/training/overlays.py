"""Pictures of a finished run: its first evaluation examples, with what the labels place and what the network places.

An SVG document of its own, which reports show: pixels inside it, boxes and points on top. Only of tasks that place
anything (`Task.marks`).
"""

import base64
import contextlib
import html
import io
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image

from research import data
from research.tasks import Marks
from research.training import parallel, resolve
from research.training.resolve import Resolved
from research.training.state import TrainState

FILE = "overlays.svg"
EXAMPLES, COLUMNS = 16, 8
SIDE, LINE = 128, 18  # of a picture in the document, and of the text below it
COLOURS = {"truth": "#2ca02c", "predicted": "#d62728"}


def drawn(resolved: Resolved, pipeline: data.Pipeline, current: TrainState) -> str:
    """The document; "" where there is nothing to draw, or where several processes hold the network together."""
    if resolved.layout.processes > 1 or resolved.info.labels == "class":
        return ""
    with contextlib.closing(pipeline.evaluate("eval", EXAMPLES)) as feeds:
        batch = jax.device_get(pipeline.fetch(pipeline.resident, next(feeds), split="eval", augment=False))
    real = batch["mask"] > 0
    truth = resolved.task.marks(batch["label"][real])
    model = resolve.build_model(resolved.config, num_classes=resolved.task.num_outputs)
    variables = parallel.host(current.variables)
    outputs = jax.jit(lambda v, images: model.apply(v, images, train=False))(variables, batch["image"])
    predicted = resolved.task.marks(np.asarray(outputs)[real])
    pixels = batch["image"][real] * pipeline.resident["std"] + pipeline.resident["mean"]
    images = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return _document(images, truth, predicted, resolved.info.class_names)


def _document(images: np.ndarray, truth: Sequence[Marks], predicted: Sequence[Marks], names: Sequence[str]) -> str:
    rows = -(-len(images) // COLUMNS)
    width, height = SIDE * min(COLUMNS, len(images)), (SIDE + LINE) * rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">'
    ]
    for number, (image, true, found) in enumerate(zip(images, truth, predicted, strict=True)):
        left, top = number % COLUMNS * SIDE, number // COLUMNS * (SIDE + LINE)
        parts.append(f'<g transform="translate({left} {top})">{_picture(image)}')
        for who, marks in (("truth", true), ("predicted", found)):
            parts += _shapes(marks, COLOURS[who])
        words = " / ".join(_word(marks, names) for marks in (true, found) if marks.label is not None)
        parts.append(f'<text x="2" y="{SIDE + 13}" fill="#777">{html.escape(words)}</text></g>')
    return "".join([*parts, "</svg>\n"])


def _picture(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return (
        f'<image width="{SIDE}" height="{SIDE}" preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"/>'
    )


def _shapes(marks: Marks, colour: str) -> list[str]:
    boxes = [
        f'<rect x="{SIDE * x:.1f}" y="{SIDE * y:.1f}" width="{SIDE * max(right - x, 0):.1f}" '
        f'height="{SIDE * max(bottom - y, 0):.1f}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, y, right, bottom in marks.boxes
    ]
    points = [
        f'<circle cx="{SIDE * x:.1f}" cy="{SIDE * y:.1f}" r="2.5" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        for x, y in marks.points
    ]
    return boxes + points


def _word(marks: Marks, names: Sequence[str]) -> str:
    return "none" if marks.label == -1 or marks.label is None else names[marks.label]
