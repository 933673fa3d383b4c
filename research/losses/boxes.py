"""Losses of predicted boxes: one box an example, [x_min, y_min, x_max, y_max] in any unit, float32 inside.

A box whose maximum is less than its minimum has no area. Boxes of no area at one place have overlap 0 and loss 1 or
more.
"""

import jax.numpy as jnp

from research import boxes
from research.inputs import Boxes, Number, Offsets, PerExample
from research.losses._arrays import pair


def iou_loss(predictions: Boxes, targets: Boxes) -> PerExample:
    """1 - intersection over union, from 0 to 1; no gradient where boxes do not meet. Shapes: both "b 4".

    Yu et al. 2016 (arXiv 1608.01471) take -log of the overlap; this is what later work compares with.
    """
    return 1.0 - boxes.iou(*pair(predictions, targets))


def giou(predictions: Boxes, targets: Boxes) -> PerExample:
    """1 - generalised IoU, from 0 to 2: a gradient also where boxes do not meet. Shapes: both "b 4".

    Rezatofighi et al. 2019 (arXiv 1902.09630, algorithm 1).
    """
    return 1.0 - boxes.giou(*pair(predictions, targets))


def diou(predictions: Boxes, targets: Boxes) -> PerExample:
    """1 - IoU + (distance of centres / diagonal of the smallest box around both)^2, from 0 to 2. Shapes: both "b 4".

    Zheng et al. 2020 (arXiv 1911.08287, eq. 7).
    """
    return 1.0 - boxes.diou(*pair(predictions, targets))


def ciou(predictions: Boxes, targets: Boxes) -> PerExample:
    """`diou` + a v: v compares proportions, a = v / (1 - IoU + v) how far that counts. Shapes: both "b 4".

    Zheng et al. 2020 (arXiv 1911.08287, eq. 8 to 11). Its gradient is that of this formula; their code takes a as a
    constant and leaves out 1 / (w^2 + h^2) in the gradient of v (below eq. 12).
    """
    return 1.0 - boxes.ciou(*pair(predictions, targets))


def smooth_l1(predictions: Offsets, targets: Offsets, *, beta: Number = 1.0) -> PerExample:
    """Sum over encoded offsets of e^2 / (2 beta) where |e| < beta, else |e| - beta / 2. Shapes: both "b 4".

    Girshick 2015 (arXiv 1504.08083, eq. 3), with beta of Ren et al.'s code (1 / 9). Encode with
    `research.boxes.encode`.
    """
    offsets, truth = pair(predictions, targets)
    error = jnp.abs(offsets - truth)
    values = jnp.where(error < beta, error**2 / (2 * beta), error - beta / 2)
    return jnp.sum(values, axis=-1)
