"""What a network is made of, layer by layer, and what it costs in every published convention: `launch.py inspect`."""

import io
import shutil
from collections.abc import Mapping
from json import dumps
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from research import models
from research.scaling import complexity
from research.scaling.complexity import Cost
from research.scaling.layers import Layer

CONVENTIONS = {
    "multiply_adds": "multiply-adds of convolutions, dense layers, attention",
    "flops": "FLOPs, 2 per multiply-add",
    "multiply_adds_fvcore": "fvcore/timm: multiply-adds, plus one per normalised element",
    "multiply_adds_xla": "XLA-like: multiply-adds, taps that fall on padding left out",
    "flops_xla": "XLA-like FLOPs, 2 per multiply-add",
    "params": "trainable parameters",
    "params_keras": "parameters with batch-norm statistics (Keras)",
    "activations": "activations: outputs of convolutions and dense layers",
    "activations_with_pooling": "activations with pooling outputs",
    "activations_with_gates": "activations with squeeze-and-excitation layers",
}


UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
PATH_WIDTH = 20  # longer layer names break after their last module
HEADINGS = ("layer", "operation", "output", "params", "madds", "activ.", "field")


def show(name: str, *, resolution: int | None, num_classes: int | None, json: bool, fields: Mapping[str, Any]) -> str:
    """The cost of variant `name` as text: a table per layer and totals in every convention, or one JSON object.

    `resolution` in pixels and `num_classes` default to the variant's own; `fields` override its module's. Batch 1.
    Raises `UserError`: unknown name or field, a resolution too small for the network.
    """
    own = models.variant(name).input_shape
    shape = own if resolution is None else (*(resolution for _ in own[:-1]), own[-1])
    models.check_input(name, shape, **fields)
    chosen = dict(fields) if num_classes is None else {**fields, "num_classes": num_classes}
    cost = complexity.count(models.create(name, **chosen), (1, *shape))
    if json:
        return dumps({"model": name, **to_json(cost)}, indent=2)
    return render(name, cost, width=max(80, shutil.get_terminal_size().columns))


def to_json(cost: Cost) -> dict[str, Any]:
    """The cost as plain JSON values: exact integers, one object per layer, totals by name and by convention."""
    return {
        "input_shape": list(cost.input_shape),
        "params": cost.params,
        "macs": cost.macs,
        "activations": cost.activations,
        "batch_stats": cost.batch_stats,
        "conventions": cost.conventions,
        "layers": [_layer_json(layer) for layer in cost.layers],
    }


def _layer_json(layer: Layer) -> dict[str, Any]:
    return {
        "path": layer.path,
        "kind": layer.kind,
        "operation": layer.operation,
        "output_shape": list(layer.output_shape),
        "params": layer.params,
        "batch_stats": layer.batch_stats,
        "macs": layer.macs,
        "activations": layer.activations,
        "receptive_field": list(layer.receptive_field),
        "repeats": layer.repeats,
    }


def render(name: str, cost: Cost, *, width: int = 80) -> str:
    """The cost as two tables in plain text, `width` columns wide; exact totals, per layer three significant digits."""
    title = f"{name} on {_sizes(cost.input_shape[1:])}, batch {cost.input_shape[0]}"
    rows = [_cells(layer) for layer in cost.layers]
    widths = [max(map(len, [heading, *(row[at] for row in rows)])) for at, heading in enumerate(HEADINGS)]
    widths[0] = min(widths[0], PATH_WIDTH)
    spare = width - sum(widths) - (len(HEADINGS) - 1)
    widths[1] += min(spare, 0)  # of all columns, operations read best when they are broken
    layers = Table(box=SIMPLE_HEAD, padding=0, show_edge=False, title=title, title_justify="left")
    for at, heading in enumerate(HEADINGS):
        layers.add_column(heading, width=widths[at], overflow="fold", justify="right" if at > 2 else "left")
    for row in rows:
        layers.add_row(_broken(row[0]), *row[1:])
    totals = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    totals.add_column("convention")
    totals.add_column("total", justify="right", no_wrap=True)
    for key, value in cost.conventions.items():
        totals.add_row(CONVENTIONS[key], f"{value:,}")
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, emoji=False, markup=False)
    with console.capture() as capture:
        console.print(layers, "", totals, "", sep="\n")
        console.print("madds: multiply-adds; activ.: activations; field: receptive field in input positions.")
    return "\n".join(line.rstrip() for line in capture.get().strip("\n").split("\n"))


def _cells(layer: Layer) -> tuple[str, ...]:
    """The row of a layer, by the columns of `HEADINGS`."""
    times = f" {layer.repeats} times" if layer.repeats > 1 else ""
    shape = layer.output_shape if layer.kind == "parameter" else layer.output_shape[1:]
    numbers = (_short(layer.params), _short(layer.macs), _short(layer.activations), _field(layer.receptive_field))
    return layer.path, layer.operation + times, _sizes(shape), *numbers


def _broken(path: str) -> str:
    """A path too long for its column, with a line break after its last module."""
    parent, slash, name = path.rpartition("/")
    return path if len(path) <= PATH_WIDTH or not slash else f"{parent}/\n{name}"


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "1"


def _field(receptive_field: tuple[int, ...]) -> str:
    """One number where the axes agree (`7`), else all (`1x7`)."""
    return (
        str(receptive_field[0]) if len(set(receptive_field)) == 1 else _sizes(receptive_field) * bool(receptive_field)
    )


def _short(number: int) -> str:
    """An integer in at most five characters: exact below 10,000, then three significant digits with K, M, G or T."""
    if number < 10_000:
        return str(number or "")
    unit = next(u for u in ("K", "M", "G", "T", "P") if number < 999.5 * UNITS[u] or u == "P")
    scaled = number / UNITS[unit]
    return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{unit}"
