"""The catalogue of networks: every file of this folder with a `VARIANTS` table is in it, and any file of the user's.

A file's `VARIANTS` maps names to `Variant`; its optional `PATTERNS` maps names with one number in them
(`"resnet{depth}"`) to functions from that number to a `Variant`. An exact name wins over a pattern.
"""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn

from research import catalogue
from research.errors import UserError, unknown
from research.nn.convolution.epilogue import joined
from research.nn.layers import require_resolution
from research.values import decode

NOT_OPTIONS = frozenset({"num_classes", "dtype", "name", "parent"})


class Published(NamedTuple):
    """An accuracy that others measured: top-1 in percent, and where it is printed (table or page, and its setting)."""

    top1: float
    source: str


@dataclass(frozen=True)
class Variant:
    """A named network: how it is built and what it expects.

    `build` takes the module's fields as keywords; what a `functools.partial` already binds makes the variant what it
    is and cannot be set again. `input_shape` is (*space, channels), without the batch; `minimum` is the smallest
    sensible resolution in pixels (a module may have a `minimum` of its own, by its fields); `summary` is one line, with
    the paper; `paper` its arXiv number or, for want of one, its venue.
    """

    build: Callable[..., nn.Module]
    input_shape: tuple[int, ...]
    num_classes: int
    minimum: int
    summary: str
    paper: str = ""
    published: Published | None = None

    def scaled_shape(self, resolution: float) -> tuple[int, ...]:
        """`input_shape` with each side multiplied by `resolution` and rounded to whole pixels."""
        return (*(max(1, round(side * resolution)) for side in self.input_shape[:-1]), self.input_shape[-1])


@functools.cache
def _tables() -> tuple[dict[str, Variant], dict[str, Callable[[int], Variant]]]:
    variants: dict[str, Variant] = {}
    patterns: dict[str, Callable[[int], Variant]] = {}
    for file, module in catalogue.modules(__name__).items():
        for table, kept in (("VARIANTS", variants), ("PATTERNS", patterns)):
            rows = getattr(module, table, {})
            if twice := sorted(rows.keys() & kept.keys()):
                raise ValueError(f"{', '.join(twice)} of models/{file}.py is in another file's {table} already")
            kept.update(rows)
    return variants, patterns


def names() -> list[str]:
    """Every variant of the catalogue, sorted; patterns stand for more (any depth of a family)."""
    return sorted(_tables()[0])


def variant(name: str) -> Variant:
    """The `Variant` called `name`, or the one in the user's own file (`my_models.py:MyNet`).

    There, MyNet is a key of the file's `VARIANTS`, a `Variant`, a module class or a function that returns a module;
    for the last two, attributes `input_shape` and `minimum` are read where they exist. Raises `UserError`.
    """
    if catalogue.is_path(name):
        return _from_file(name)
    variants, patterns = _tables()
    if name in variants:
        return variants[name]
    for pattern, make in patterns.items():
        if match := re.fullmatch(re.sub(r"\\\{\w+\\\}", r"([1-9]\\d{0,3})", re.escape(pattern)), name):
            return make(int(match.group(1)))
    raise unknown("model", name, variants)


def _from_file(name: str) -> Variant:
    path, _, attribute = name.partition(":")
    rows = getattr(catalogue.load_file(path, "model"), "VARIANTS", {})
    if not isinstance(rows, Mapping):
        raise UserError(f"VARIANTS of {path} is a {type(rows).__name__}; expected a table from names to Variant")
    if attribute in rows:
        row = rows[attribute]
        if not isinstance(row, Variant):
            raise UserError(f"VARIANTS of {path} has a {type(row).__name__} for {attribute!r}; expected a Variant")
        return row
    found = catalogue.load_object(name, "model")
    if isinstance(found, Variant):
        return found
    if not callable(found):
        raise UserError(
            f"model {name!r} is a {type(found).__name__}; expected a module class or a function building one"
        )
    default = getattr(inspect.signature(found).parameters.get("num_classes"), "default", inspect.Parameter.empty)
    return Variant(
        build=found,
        input_shape=tuple(getattr(found, "input_shape", (32, 32, 3))),
        num_classes=default if isinstance(default, int) else 10,
        minimum=getattr(found, "minimum", 1),
        summary=(inspect.getdoc(found) or attribute).splitlines()[0],
    )


def _fields(build: Callable[..., nn.Module]) -> dict[str, tuple[Any, Any]]:
    """Name -> (annotation, default) of what may be passed to `build`; what a partial has bound is left out."""
    bound: set[str] = set()
    function = build
    while isinstance(function, functools.partial):
        bound |= function.keywords.keys()
        function = function.func
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(build).parameters.values()
    named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in bound]
    return {p.name: (hints.get(p.name, Any), p.default) for p in named if p.name not in ("name", "parent")}


def _is_plain(annotation: Any) -> bool:
    """Whether values of this type can be written on a command line and in JSON."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _is_plain(args[0])
    if origin is Literal:
        return True
    if origin in (typing.Union, types.UnionType):
        return all(_is_plain(a) for a in args)
    if origin is tuple:
        return all(a is Ellipsis or _is_plain(a) for a in args)
    return annotation in (bool, int, float, str, type(None))


def fields(name: str) -> frozenset[str]:
    """Names of all fields `create` takes for this variant. Raises `UserError`."""
    return frozenset(_fields(variant(name).build))


def options(name: str) -> dict[str, tuple[Any, Any]]:
    """The variant's plain-valued fields a user may override: field -> (type, default). Raises `UserError`."""
    known = _fields(variant(name).build)
    return {key: field for key, field in known.items() if key not in NOT_OPTIONS and _is_plain(field[0])}


def create(name: str, **fields: Any) -> nn.Module:
    """The module of a variant (or of the user's `file.py:MyNet`), with some of its fields set.

    `create("resnet50", num_classes=10)`; without `num_classes` it has the variant's own. Raises `UserError`, a
    `ValueError`: an unknown name or field (nearest valid ones shown), or a value of the wrong type or range.
    """
    found = variant(name)
    known = _fields(found.build)
    for key in fields:
        if key not in known:
            raise unknown(f"field of model {name}", key, known)
    plain = {
        key: annotation for key, (annotation, _) in known.items() if _is_plain(annotation) and not _mixed(annotation)
    }
    checked = {k: decode(plain[k], v, f"model.{k}") if k in plain else v for k, v in fields.items()}
    classes = {"num_classes": found.num_classes} if "num_classes" in known else {}
    return found.build(**classes | checked)


def evaluate(model: nn.Module, variables: Any, images: Any) -> Any:
    """What a network makes of images when it is evaluated; on a CPU what follows a convolution is computed with it.

    Equal to `model.apply(variables, images, train=False)` to float32 rounding.
    """
    return joined(lambda variables, images: model.apply(variables, images, train=False))(variables, images)


def _mixed(annotation: Any) -> bool:
    """Whether the annotation is a union of several types (None apart), which only the module itself can judge."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return union and len([a for a in typing.get_args(annotation) if a is not type(None)]) > 1


def stages(modules: Iterable[str]) -> list[str]:
    """Those of a network's modules, by name and in their order, whose outputs are those of its stages: `stage1`, ..."""
    return [name for name in modules if re.fullmatch(r"stage\d+", name)]


def check_input(name: str, input_shape: tuple[int, ...], **fields: Any) -> None:
    """Raise `UserError` where images of `input_shape` (*space, channels) cannot be given to `create(name, **fields)`.

    The message names the variant, the size and the minimum, or the number of axes expected.
    """
    found = variant(name)
    rank = len(found.input_shape)
    if len(input_shape) != rank:
        raise UserError(f"model {name} takes examples with {rank} axes, the last one channels; got shape {input_shape}")
    if input_shape[-1] < 1:
        raise UserError(f"model {name} takes images of 1 channel or more; got {input_shape[-1]}")
    minimum = getattr(create(name, **fields), "minimum", found.minimum)
    require_resolution(f"model {name}", input_shape[:-1], minimum)
