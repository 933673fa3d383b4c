"""How numbers, record keys and prose are written, the same in every table, figure and page."""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

MISSING = "–"  # noqa: RUF001  an en dash, the usual mark of an empty cell

_TITLES = {
    "params": "parameters",
    "macs": "multiply-adds",
    "train_seconds": "training time (s)",
    "compile_seconds": "compile time (s)",
    "wall_time": "wall time (s)",
    "images_per_second": "images per second",
    "learning_rate": "learning rate",
    "step": "step",
    "best/step": "step of the best",
}
_SPLITS = {"train": "training", "eval": "evaluation", "eval_train": "training-set", "best": "best evaluation"}
_METRICS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "iou": "IoU",
    "iou50": "share of boxes at IoU 0.5",
    "iou70": "share of boxes at IoU 0.7",
    "iou90": "share of boxes at IoU 0.9",
    "nme": "normalised mean error",
    "pck05": "PCK at 0.05",
    "pck10": "PCK at 0.1",
}
_RATE = re.compile(r"top\d|accuracy|error|precision|recall|f1|auc|iou|pck")
_LOWER_IS_BETTER = re.compile(r"loss|error|perplexity|mae|mse|nme|distance|seconds")


def title(key: str) -> str:
    """The heading of a record key, with its unit: `eval/top1` -> evaluation top-1 accuracy."""
    if key in _TITLES:
        return _TITLES[key]
    split, _, name = key.partition("/")
    if name and split in _SPLITS:
        return f"{_SPLITS[split]} {_METRICS.get(name, name.replace('_', ' '))}"
    return key if "." in key else key.replace("_", " ")


def higher_is_better(key: str) -> bool:
    """Whether more of this metric is better, judged by its name (losses, errors, distances and times are not)."""
    return not _LOWER_IS_BETTER.search(key)


def is_rate(key: str) -> bool:
    """Whether a record key is a share between 0 and 1, such as an accuracy."""
    return bool(_RATE.search(key))


def value(key: str, item: Any, specification: str = "") -> str:
    """One value as text: counts whole, rates to 4 decimals, times to 3 digits, other numbers to 4 digits."""
    if item is None:
        return MISSING
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return format(item, specification or ",")
    if isinstance(item, float):
        return _number(key, item, specification)
    if item == "":
        return MISSING
    return item if isinstance(item, str) else json.dumps(item, sort_keys=True, ensure_ascii=False)


def _number(key: str, number: float, specification: str) -> str:
    if not math.isfinite(number):
        return str(number)
    if specification:
        return format(number, specification)
    if is_rate(key):
        return f"{number:.4f}"
    if key.endswith(("seconds", "wall_time", "per_second")):
        return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"
    if number == int(number) and 1000 <= abs(number) < 1e15:
        return f"{number:,.0f}"
    return f"{number:#.4g}".rstrip(".") if key.endswith("loss") else f"{number:.4g}"


def spread(key: str, mean: float, deviation: float | None, specification: str = "") -> str:
    """A mean and the standard deviation over seeds to the same decimals, `0.9713 ± 0.0021`; one seed: the mean."""
    text = value(key, mean, specification)
    if deviation is None or not math.isfinite(deviation):
        return text
    decimals = len(text.partition(".")[2]) if re.fullmatch(r"[-+]?[\d,]+(\.\d+)?", text) else None
    return f"{text} ± {deviation:,.{decimals}f}" if decimals is not None else f"{text} ± {deviation:.2g}"


def natural(text: Any) -> tuple[Any, ...]:
    """Sort key that orders numbers inside text by size: plain8 before plain20."""
    pieces = re.split(r"(\d+(?:\.\d+)?)", str(text))
    return tuple((0, float(p), "") if i % 2 else (1, 0.0, p) for i, p in enumerate(pieces))


def in_order(items: Iterable[str]) -> list[str]:
    """The distinct items, numbers inside them by size."""
    return sorted(set(items), key=natural)


def slug(text: str) -> str:
    """Text as part of a file name or anchor: lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "untitled"


def paragraphs(text: str) -> list[list[tuple[bool, str]]]:
    """Prose as paragraphs of (is code, text) pieces: blank lines separate paragraphs, backticks mark code."""
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", text.strip())]
    return [
        [(i % 2 == 1, piece) for i, piece in enumerate(re.split(r"`([^`]+)`", block)) if piece]
        for block in blocks
        if block
    ]
