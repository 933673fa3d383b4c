"""Boxes: formats, overlap, anchors, suppression and matching, as pure functions that jit and vmap.

    from research import boxes
    corners = boxes.convert(objects[:, 1:5], "center_height_width", "corners")
    overlap = boxes.pairwise_iou(predicted, truth)                              # "n m"
    kept = boxes.nms(predicted, scores, classes, iou_threshold=0.5, limit=100)  # fixed shapes: indices and which are
    real

A box is [x_min, y_min, x_max, y_max], in any one unit, unless a name says otherwise; y grows downwards. Edges are
places between pixels, so that a box of one pixel is 1 wide. A box whose maximum is less than its minimum has no area
and overlaps nothing; one with a number that is not finite overlaps nothing, is never kept and never matched.
"""

from research.boxes.anchors import anchor_grid, decode, encode
from research.boxes.formats import FORMATS, area, clip, convert, normalise, pixels
from research.boxes.matching import Matches, match_by_assignment, match_by_threshold
from research.boxes.overlap import ciou, diou, giou, intersection, iou, pairwise_giou, pairwise_iou
from research.boxes.suppression import Kept, nms, soft_nms

__all__ = [
    "FORMATS",
    "Kept",
    "Matches",
    "anchor_grid",
    "area",
    "ciou",
    "clip",
    "convert",
    "decode",
    "diou",
    "encode",
    "giou",
    "intersection",
    "iou",
    "match_by_assignment",
    "match_by_threshold",
    "nms",
    "normalise",
    "pairwise_giou",
    "pairwise_iou",
    "pixels",
    "soft_nms",
]
