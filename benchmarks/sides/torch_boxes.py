"""torchvision's operations on boxes, on as many threads as this process may use cores.

Runs where PyTorch is installed (`make torch` sets that up).
"""

import os

import torch
import torchvision

from benchmarks.alternating import Spec, Timer, serve, wall_timer


def prepare(spec: Spec) -> tuple[dict[str, Timer], Spec]:
    """Timers of `nms` and `iou` for the boxes and scores of a specification; what `nms` keeps."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    boxes, scores = torch.tensor(spec["boxes"]), torch.tensor(spec["scores"])
    kept = torchvision.ops.nms(boxes, scores, spec["threshold"])
    return {
        "nms": wall_timer(lambda: torchvision.ops.nms(boxes, scores, spec["threshold"])),
        "iou": wall_timer(lambda: torchvision.ops.box_iou(boxes, boxes)),
    }, {"kept": kept.tolist()}


if __name__ == "__main__":
    serve(prepare)
