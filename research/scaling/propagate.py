"""How each operation on arrays changes receptive fields: one rule per primitive, and what to assume without one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from research.scaling.field import Dimension, Factor, Field, Window, axes_of, length, opaque, resize


def _merge(one: Dimension, other: Dimension) -> Dimension:
    if one == other or not axes_of([other]):
        return one
    return other if not axes_of([one]) else opaque(length(one), axes_of([one, other]))


def join(fields: Sequence[Field]) -> Field:
    """The field of an elementwise operation on arrays of one shape."""
    first, *rest = fields
    for field in rest:
        dimensions = tuple(map(_merge, first.dimensions, field.dimensions))
        first = replace(first, dimensions=dimensions, extent=tuple(map(max, first.extent, field.extent)))
    return first


def product(one: Field, other: Field, dimension_numbers: Any) -> Field:
    """The field of a `dot_general` of two arrays that both depend on the input."""
    (contract_one, contract_other), (batch_one, batch_other) = dimension_numbers
    left, right = one.reduced(contract_one), other.reduced(contract_other)
    batch = [_merge(one.dimensions[a], other.dimensions[b]) for a, b in zip(batch_one, batch_other, strict=True)]
    free_one = [d for i, d in enumerate(one.dimensions) if i not in {*contract_one, *batch_one}]
    free_other = [d for i, d in enumerate(other.dimensions) if i not in {*contract_other, *batch_other}]
    extent = tuple(map(max, left.extent, right.extent))
    return replace(left, dimensions=(*batch, *free_one, *free_other), extent=extent)


def plain(like: Field, shape: Sequence[int], extent: tuple[Fraction, ...]) -> Field:
    """The field of an array of `shape` whose positions mean no input positions."""
    return replace(like, dimensions=tuple((Factor(n),) for n in shape), extent=extent)


def _broadcast(field: Field, params: dict[str, Any], shape: Sequence[int]) -> Field:
    source = dict(zip(params["broadcast_dimensions"], field.dimensions, strict=True))
    dimensions = [source[d] if d in source and length(source[d]) == n else (Factor(n),) for d, n in enumerate(shape)]
    return replace(field, dimensions=tuple(dimensions))


def _slice(field: Field, params: dict[str, Any], shape: Sequence[int]) -> Field:
    strides = params["strides"] or (1,) * len(shape)
    for dimension, stride in enumerate(strides):
        if stride != 1:
            field = field.windowed(dimension, Window(1, stride), shape[dimension])
    return field.resized(shape)


def _pad(field: Field, params: dict[str, Any], shape: Sequence[int]) -> Field:
    for dimension, (_, _, interior) in enumerate(params["padding_config"]):
        if interior:
            field = field.windowed(dimension, Window(1, base_dilation=interior + 1), shape[dimension])
    return field.resized(shape)


def _windows(field: Field, params: dict[str, Any], shape: Sequence[int]) -> Field:
    dilations = zip(params["window_dilation"], params["base_dilation"], strict=True)
    for d, (dilation, base) in enumerate(dilations):
        taps, stride = params["window_dimensions"][d], params["window_strides"][d]
        if (taps, stride, base) != (1, 1, 1):
            field = field.windowed(d, Window(taps, stride, dilation, base), shape[d])
    return field


def _gather(field: Field, params: dict[str, Any], shape: Sequence[int]) -> Field:
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = [d for d in range(len(sizes)) if d not in gone]
    cut = [d for d, size in enumerate(sizes) if d in gone or size != field.shape[d]]
    if axes_of(field.dimensions[d] for d in cut):
        return field.unknown(shape)
    dimensions: list[Dimension] = [(Factor(n),) for n in shape]
    for offset, d in zip(numbers.offset_dims, kept, strict=True):
        dimensions[offset] = field.dimensions[d] if d not in cut else (Factor(shape[offset]),)
    return replace(field, dimensions=tuple(dimensions))


def _along(*keys: str) -> Callable[[Field, dict[str, Any], Sequence[int]], Field]:
    """Every element along the dimension named by one of `keys` may depend on all others along it."""

    def rule(field: Field, params: dict[str, Any], shape: Sequence[int]) -> Field:
        return field.mixed(next(params[key] for key in keys if key in params))

    return rule


def _reduce(field: Field, params: dict[str, Any], shape: Sequence[int]) -> Field:
    return field.reduced(params["axes"])


RULES: dict[str, Callable[[Field, dict[str, Any], Sequence[int]], Field]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": lambda field, params, shape: field.reshaped(shape),
    "squeeze": lambda field, params, shape: field.reshaped(shape),
    "transpose": lambda f, params, shape: replace(f, dimensions=tuple(f.dimensions[d] for d in params["permutation"])),
    "slice": _slice,
    "split": lambda field, params, shape: field.resized(shape),
    "dynamic_slice": lambda field, params, shape: field.resized(shape),
    "pad": _pad,
    "gather": _gather,
    **{f"reduce_window_{kind}": _windows for kind in ("max", "min", "sum")},
    **{f"reduce_{kind}": _reduce for kind in ("sum", "max", "min", "prod", "and", "or", "xor")},
    **{f"arg{kind}": _reduce for kind in ("max", "min")},
    **{f"cum{kind}": _along("axis") for kind in ("sum", "prod", "max", "min", "logsumexp")},
    "sort": _along("dimension"),
}
MIXING = {"fft", "top_k", "eigh", "svd", "qr", "lu", "cholesky", "triangular_solve", "dynamic_update_slice"}


def convolution(
    image: Field | None, kernel: Field | None, params: dict[str, Any], kernel_shape: Sequence[int], shape: Sequence[int]
) -> Field:
    """The field of a `conv_general_dilated`'s output; at least one operand depends on the input."""
    numbers = params["dimension_numbers"]
    if image is None:
        assert kernel is not None
        return kernel.unknown(shape)
    field = image.mixed(numbers.lhs_spec[1])
    dimensions: list[Dimension] = [(Factor(n),) for n in shape]
    for i, (source, target) in enumerate(zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True)):
        taps = kernel_shape[numbers.rhs_spec[2 + i]]
        window = Window(taps, params["window_strides"][i], params["rhs_dilation"][i], params["lhs_dilation"][i])
        field = field.windowed(source, window, shape[target])
        dimensions[target] = field.dimensions[source]
    batch = numbers.lhs_spec[0]
    dimensions[numbers.out_spec[0]] = resize(field.dimensions[batch], shape[numbers.out_spec[0]])
    field = replace(field, dimensions=tuple(dimensions))
    return field if kernel is None else join([field, kernel.unknown(shape)])


def _concatenate(
    operands: Sequence[Field | None], fields: Sequence[Field], dimension: int, shape: Sequence[int]
) -> Field:
    """Neighbours stay neighbours only where all parts have the same jump."""
    joined = [field.dimensions[dimension] for field in fields]
    steps = {(factor.axes, factor.jump) for parts in joined for factor in parts}
    single = all(len(parts) == 1 for parts in joined) and len(steps) == 1 and len(fields) == len(operands)
    new = (replace(joined[0][0], size=shape[dimension]),) if single else opaque(shape[dimension], axes_of(joined))
    return join(
        [replace(f, dimensions=(*f.dimensions[:dimension], new, *f.dimensions[dimension + 1 :])) for f in fields]
    )


def _elementwise_or_unknown(fields: Sequence[Field], shape: Sequence[int]) -> Field:
    """The field of an operation without a rule: elementwise if the shapes say so, else it may mix everything."""
    scalars = [plain(field, shape, field.extent) for field in fields if field.shape == ()]
    arrays = [field for field in fields if field.shape != ()]
    for field in arrays:
        pairs = zip(field.shape, shape, strict=False)
        if len(field.shape) != len(shape) or any(ours not in (1, size) for ours, size in pairs):
            return join([field.unknown(shape) for field in fields])
    stretched = [tuple(map(_stretch, field.dimensions, shape)) for field in arrays]
    return join([*(replace(f, dimensions=d) for f, d in zip(arrays, stretched, strict=True)), *scalars])


def _stretch(dimension: Dimension, size: int) -> Dimension:
    return dimension if length(dimension) == size else (Factor(size),)


def after(primitive: str, params: dict[str, Any], operands: Sequence[Field | None], shape: Sequence[int]) -> Field:
    """The field of an output of `shape`; None for an operand that does not depend on the input (not for all)."""
    fields = [field for field in operands if field is not None]
    if primitive == "concatenate":
        return _concatenate(operands, fields, params["dimension"], shape)
    if primitive in MIXING or (primitive in RULES and (len(fields) > 1 or operands[0] is None)):
        return join([field.unknown(shape) for field in fields])
    if primitive in RULES:
        return RULES[primitive](fields[0], params, shape)
    return _elementwise_or_unknown(fields, shape)
