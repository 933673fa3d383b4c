"""Multiply-adds of one convolution or product of arrays, from shapes alone."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Counted = tuple[str, int, int]  # what to call it, multiply-adds, multiply-adds without taps on padding


def sizes(values: Sequence[int]) -> str:
    """Sizes as `3x3`."""
    return "x".join(map(str, values))


def stride(values: Sequence[int]) -> str:
    """A stride as ` /2`, or ` /2x1` where the axes differ; nothing for 1."""
    if all(value == 1 for value in values):
        return ""
    return f" /{values[0] if len(set(values)) == 1 else sizes(values)}"


def convolution(params: dict[str, Any], image: Shape, kernel: Shape, output: Shape) -> Counted:
    """Multiply-adds of a `conv_general_dilated`, of any rank, groups, dilation and dimension order.

    Published convention: every kernel tap of every *output* position counts, taps on padding too; in a transposed
    convolution (spread input) every kernel tap of every *input* position. The second count leaves out the taps that
    fall on padding or between the elements of a spread input, which is what XLA's cost analysis counts.
    """
    numbers = params["dimension_numbers"]
    taps = [kernel[d] for d in numbers.rhs_spec[2:]]
    inputs, outputs = [image[d] for d in numbers.lhs_spec[2:]], [output[d] for d in numbers.out_spec[2:]]
    spread, strides, dilation = params["lhs_dilation"], params["window_strides"], params["rhs_dilation"]
    transposed = any(step > 1 for step in spread)
    # one multiply-add per batch element, output channel and input channel of its group, at each position and tap
    channels = output[numbers.out_spec[0]] * output[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    published = channels * math.prod(taps) * math.prod(inputs if transposed else outputs)
    real = map(_real_taps, inputs, outputs, taps, strides, (low for low, _ in params["padding"]), spread, dilation)
    name = f"{'transposed ' if transposed else ''}conv {sizes(taps)}{stride(spread if transposed else strides)}"
    groups = max(params["feature_group_count"], params["batch_group_count"])
    name += f" d={dilation[0] if len(set(dilation)) == 1 else sizes(dilation)}" if max(dilation, default=1) > 1 else ""
    return name + (f" g={groups}" if groups > 1 else ""), published, channels * math.prod(real)


@functools.cache
def _real_taps(size: int, output: int, taps: int, step: int, low: int, spread: int, dilation: int) -> int:
    """Pairs of an output position and a tap that meet an element of the input, along one axis."""
    # position p of the padded, spread input holds an element if 0 <= p <= (size - 1) * spread and spread divides p
    total = 0
    for tap in range(taps):
        positions = np.arange(output, dtype=np.int64) * step + (tap * dilation - low)
        total += int(
            np.count_nonzero((positions >= 0) & (positions <= (size - 1) * spread) & (positions % spread == 0))
        )
    return total


def dot(params: dict[str, Any], left: Shape, right: Shape, output: Shape) -> Counted:
    """Multiply-adds of a `dot_general`: elements of the output times the length of what is summed over."""
    (contracted, _), _ = params["dimension_numbers"]
    count = math.prod(output) * math.prod(left[d] for d in contracted)
    return "dense", count, count
