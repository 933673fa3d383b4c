"""Suppression and overlap of boxes against torchvision, and average precision against pycocotools, timed in turns.

    make torch && python -m benchmarks.boxes
    python -m benchmarks.boxes --boxes 300,1000,3000 --pictures 5000 --classes 80

Both sides of a row have the same cores and data. For each number of boxes there are two kinds: drawn anywhere, of which
suppression keeps most, and in crowds of a hundred around each object, of which it keeps few; what is kept is compared
first. Average precision is of pictures with 8 objects and 30 boxes each: matching (ours compiled, 500 at once) and
the summary; reading and indexing the annotations is not in pycocotools' time. A row prints how many times as long
theirs takes (ratio of medians, quartiles of the rounds' own).
"""

import argparse
import contextlib
import functools
import io
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.alternating import ROOT, Side, Timer, alternate, ratio, wall_timer
from research import boxes, metrics
from research.metrics.boxes import PredictedBoxes, TrueBoxes

THRESHOLD = 0.5
BATCH = 500
OBJECTS, FOUND = 8, 30


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", default="1000", help="numbers of boxes")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of timing a row")
    parser.add_argument("--torch-python", default=str(ROOT / ".venv-parity/bin/python"))
    asked = parser.parse_args()
    random = np.random.default_rng(0)
    with Side("torch", [asked.torch_python, "-m", "benchmarks.sides.torch_boxes"]) as torch:
        for count in map(int, asked.boxes.split(",")):
            for kind, made in {"anywhere": _anywhere, "crowds": _crowds}.items():
                drawn = made(random, count)
                scores = random.permutation(count).astype(np.float32) / count
                spec = {"boxes": drawn.tolist(), "scores": scores.tolist(), "threshold": THRESHOLD}
                theirs = torch.prepare(spec)["kept"]
                ours, kept = _ours(drawn, scores)
                if kept != theirs:
                    sys.exit(
                        f"{count} boxes, {kind}: kept {len(kept)} of ours and {len(theirs)} of torchvision's differ"
                    )
                for name, timer in ours.items():
                    _row(f"{name} of {count} boxes, {kind} ({len(kept)} kept)", timer, torch.timer(name), asked.budget)
    ours_ap, theirs_ap = _precision(random, asked.pictures, asked.classes)
    _row(f"AP of {asked.pictures} pictures, {asked.classes} classes", ours_ap, theirs_ap, asked.budget)


def _row(title: str, ours: Timer, theirs: Timer, budget: float) -> None:
    taken = alternate({"ours": ours, "theirs": theirs}, budget=budget)
    middle, low, high = ratio(taken["ours"], taken["theirs"])
    print(f"{title:56} {middle:6.2f}x  ({low:.2f} to {high:.2f})", flush=True)


def _anywhere(random: np.random.Generator, *shape: int) -> np.ndarray:
    corner = random.uniform(0, 600, (*shape, 2))
    return np.concatenate([corner, corner + random.uniform(8, 120, (*shape, 2))], axis=-1).astype(np.float32)


def _crowds(random: np.random.Generator, count: int) -> np.ndarray:
    objects = _anywhere(random, max(count // 100, 1))
    return objects[random.integers(0, len(objects), count)] + random.normal(0, 6, (count, 4)).astype(np.float32)


def _ours(drawn: np.ndarray, scores: np.ndarray) -> tuple[dict[str, Timer], list[int]]:
    suppress, overlap = jax.jit(functools.partial(boxes.nms, iou_threshold=THRESHOLD)), jax.jit(boxes.pairwise_iou)
    on_device = jax.device_put((drawn, scores))
    kept = jax.device_get(suppress(*on_device))
    timers = {
        "nms": wall_timer(lambda: suppress(*on_device).valid.block_until_ready()),
        "iou": wall_timer(lambda: overlap(on_device[0], on_device[0]).block_until_ready()),
    }
    return timers, kept.indices[kept.valid].tolist()


def _precision(random: np.random.Generator, pictures: int, classes: int) -> tuple[Timer, Timer]:
    """Ours and pycocotools', of the same boxes; their summaries are compared first."""
    truth = TrueBoxes(
        _anywhere(random, pictures, OBJECTS), random.integers(0, classes, (pictures, OBJECTS)).astype(np.int32)
    )
    which, rows = random.integers(0, OBJECTS, (pictures, FOUND)), np.arange(pictures)[:, None]
    near = truth.boxes[rows, which] + random.normal(0, 5, (pictures, FOUND, 4)).astype(np.float32)
    near[..., 2:] = np.maximum(near[..., 2:], near[..., :2] + 1)
    scores = random.random((pictures, FOUND)).astype(np.float32)
    predicted = PredictedBoxes(near, scores, truth.classes[rows, which])
    collect = jax.jit(functools.partial(metrics.detections, num_classes=classes))

    def ours() -> dict[str, float]:
        seen: Any = None
        for start in range(0, pictures, BATCH):
            part = jax.tree.map(lambda a, s=start: a[s : s + BATCH], (predicted, truth))
            found = jax.device_get(collect(*part, np.ones(len(part[0].boxes), np.float32)))
            seen = found if seen is None else metrics.merge(seen, found)
        return metrics.mean_average_precision(seen)

    theirs = _by_pycocotools(predicted, truth, classes)
    if abs(ours()["map"] - theirs()) > 1e-5:
        sys.exit(f"average precision: {ours()['map']} of ours is not {theirs()}")
    return wall_timer(ours), wall_timer(theirs)


def _by_pycocotools(predicted: PredictedBoxes, truth: TrueBoxes, classes: int) -> Callable[[], float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def row(picture: int, label: Any, box: np.ndarray) -> dict[str, Any]:
        x, y, right, bottom = map(float, box)
        return {"image_id": picture, "category_id": int(label), "bbox": [x, y, right - x, bottom - y]}

    objects = [row(i, label, truth.boxes[i, g]) for (i, g), label in np.ndenumerate(truth.classes)]
    for number, one in enumerate(objects, 1):
        one |= {"id": number, "area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0}
    found = [
        row(i, label, predicted.boxes[i, d]) | {"score": float(predicted.scores[i, d])}
        for (i, d), label in np.ndenumerate(predicted.classes)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": i} for i in range(len(truth.boxes))], "annotations": objects}
        coco.dataset["categories"] = [{"id": k} for k in range(classes)]
        coco.createIndex()
        results = coco.loadRes(found)

    def call() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(coco, results, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return float(evaluation.stats[0])

    return call


if __name__ == "__main__":
    main()
