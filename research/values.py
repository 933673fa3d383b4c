"""What configs are made of: checked frozen dataclasses, durations, options, and their exact JSON form."""

import dataclasses
import fractions
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from research.errors import UserError, unknown

Scalar = bool | int | float | str | None
LARGEST = 3.4028234663852886e38  # of float32, in which every number of a config is computed
MOST = 2**31 - 1  # of what is counted: what an index of 32 bits reaches


@dataclass(frozen=True)
class Range:
    """Bounds of a number, carried in `Annotated`: low <= value <= high, low < value when `above`; value < `below`."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: float = math.inf

    def check(self, value: float, where: str) -> None:
        """Raise `UserError` when `value` is not a finite number within the bounds."""
        within = self.low <= value <= self.high and value < self.below and not (self.above and value == self.low)
        if not (within and abs(value) <= LARGEST):  # which no infinity and no NaN is
            low = f"{'above' if self.above else 'at least'} {self.low:g}" if self.low > -math.inf else ""
            high = f"at most {self.high:g}" if self.high < math.inf else ""
            below = f"below {self.below:g}" if self.below < math.inf else ""
            raise UserError(f"{where} is {value!r}; expected a number {' and '.join(filter(None, [low, high, below]))}")


MOST_SIDE = 16_384  # pixels: more than any network is given, and a picture of them still fits into memory
MOST_BATCH = 2**17  # images: twice the largest batches that anybody has published
LEAST_CROP = 0.01  # of a side: before a crop an image is as many times larger as the crop is small
LONGEST = 1e12  # of a duration, in whatever unit: a thousand times what the largest published runs see of examples
Count = Annotated[int, Range(low=1, high=MOST)]
Natural = Annotated[int, Range(low=0, high=MOST)]
Positive = Annotated[float, Range(low=0, above=True)]
NonNegative = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(low=0, high=1)]
Share = Annotated[float, Range(low=0, high=1, above=True)]
Side = Annotated[int, Range(low=1, high=MOST_SIDE)]


@dataclass(frozen=True, order=False)
class Duration:
    """A length of training, as `"500 steps"`, `"10 epochs"` or `"60000 examples"`."""

    count: float
    unit: Literal["steps", "epochs", "examples"] = "steps"

    def __post_init__(self) -> None:
        if self.unit not in ("steps", "epochs", "examples"):
            raise unknown("duration unit", str(self.unit), ("steps", "epochs", "examples"))
        if isinstance(self.count, bool) or not isinstance(self.count, int | float):
            raise UserError(f"duration {self.count!r} {self.unit}: expected a number")
        Range(low=0, high=LONGEST).check(self.count, f"duration in {self.unit}")
        if self.unit != "epochs" and self.count != int(self.count):
            raise UserError(f"duration {self.count!r} {self.unit}: expected a whole number")
        object.__setattr__(self, "count", int(self.count) if self.count == int(self.count) else float(self.count))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `"10 epochs"`, `"10epochs"` or a bare number of steps. Raises `UserError`."""
        stripped = text.strip()
        number = stripped.rstrip("abcdefghijklmnopqrstuvwxyz").strip() if not stripped.isalpha() else ""
        unit = stripped[len(stripped.rstrip("abcdefghijklmnopqrstuvwxyz")) :] or "steps"
        unit = unit if unit.endswith("s") else unit + "s"
        try:
            count = float(number)
        except ValueError:
            raise UserError(
                f"duration {text!r}: expected such as '500 steps', '10 epochs' or '60000 examples'"
            ) from None
        return cls(count, typing.cast(Any, unit))

    def __str__(self) -> str:
        return f"{self.count} {self.unit}"

    def exact(self, *, examples: int, batch_size: int) -> fractions.Fraction:
        """This duration in optimizer steps, exactly: an epoch is `examples / batch_size` of them."""
        units = {"steps": batch_size, "examples": 1, "epochs": examples}
        count = fractions.Fraction(str(self.count))  # 2.4 is 12/5, and not the nearest binary number
        return count * fractions.Fraction(units[self.unit], batch_size)

    def steps(self, *, examples: int, batch_size: int) -> int:
        """Optimizer steps in this duration: `exact`, rounded to the nearest (of two equally near, the larger)."""
        return nearest_step(self.exact(examples=examples, batch_size=batch_size))


def nearest_step(exact: fractions.Fraction) -> int:
    """The whole number of steps nearest to `exact`; of two equally near, the larger."""
    return math.floor(exact + fractions.Fraction(1, 2))


def due(period: fractions.Fraction, done: int) -> bool:
    """Whether step `done` is the one nearest to a multiple of `period` (in steps); each step where that is below 1.

    With a period of p epochs and a budget of k x p, the last one is the last step, whatever the batch size.
    """
    if period <= 1:
        return period > 0
    return nearest_step(nearest_step(done / period) * period) == done > 0


class Options(Mapping[str, Scalar]):
    """Immutable, hashable mapping of a model's own fields to plain values (or tuples of them), in key order."""

    def __init__(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        merged = {**(values or {}), **more}
        self._items = tuple((key, _freeze(merged[key], f"model.{key}")) for key in sorted(merged))

    def __getitem__(self, key: str) -> Any:
        return dict(self._items)[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self._items == other._items

    def __repr__(self) -> str:
        return f"Options({dict(self._items)!r})"


def _freeze(value: Any, where: str) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_freeze(v, where) for v in value)
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise UserError(f"{where} is {value!r}; expected a plain value (true, 3, 0.5, 'text', null or a list of them)")


def cosmetic(default: Any) -> Any:
    """A field that cannot change any number of the run: left out of the content hash and of run identity."""
    return field(default=default, metadata={"cosmetic": True})


class Value:
    """Base of every config dataclass: checks type and range of each field at construction. Raises `UserError`.

    `section` is how the user names the dataclass's fields in an error and on the command line (`"optimizer."`).
    """

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, annotation in annotations(type(self)).items():
            value = decode(annotation, getattr(self, name), f"{type(self).section}{name}")
            object.__setattr__(self, name, value)


_ANNOTATIONS: dict[type, dict[str, Any]] = {}


def annotations(cls: type) -> dict[str, Any]:
    """Field name -> type of a config dataclass, `Annotated` bounds included."""
    if cls not in _ANNOTATIONS:
        hints = typing.get_type_hints(cls, include_extras=True)
        _ANNOTATIONS[cls] = {f.name: hints[f.name] for f in dataclasses.fields(cls)}
    return _ANNOTATIONS[cls]


def decode(annotation: Any, value: Any, where: str) -> Any:
    """Check `value` (or its JSON form) against `annotation`; returns it in the annotated type. Raises `UserError`."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        decoded = decode(args[0], value, where)
        for bound in args[1:]:
            bound.check(decoded, where)
        return decoded
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        inner = [a for a in args if a is not type(None)]
        return decode(inner[0], value, where)
    if origin is Literal:
        if value not in args or isinstance(value, bool) != any(isinstance(a, bool) for a in args):
            if isinstance(value, str):
                raise unknown(where, value, [str(a) for a in args])
            raise UserError(f"{where} is {value!r}; expected one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} is {value!r}; expected a list")
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise UserError(f"{where} is {value!r}; expected {len(args)} values")
        return tuple(decode(args[0], v, where) for v in value)
    return _decode_plain(annotation, value, where)


def _decode_plain(kind: Any, value: Any, where: str) -> Any:
    if kind is Duration:
        return value if isinstance(value, Duration) else Duration.parse(_decode_plain(str, value, where))
    if kind is Options:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is {value!r}; expected fields of the model")
        return value if isinstance(value, Options) else Options(value)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, typing.cast(type, kind)):
            return value
        return from_mapping(typing.cast(type, kind), value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        Range().check(value, where)
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{where} is {value!r}; expected {_TYPE_NAMES.get(kind, kind.__name__)}")
    if kind is float:
        Range().check(value, where)
    return value


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def from_mapping(cls: type, values: Any, where: str) -> Any:
    """The dataclass `cls` from its JSON form, defaults for keys left out; `where`: dotted key. Raises `UserError`."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where or 'config'} is {values!r}; expected an object")
    fields = annotations(cls)
    for key in values:
        if key not in fields:
            raise unknown(
                "config key", f"{where}.{key}".lstrip("."), [f"{where}.{name}".lstrip(".") for name in fields]
            )
    return cls(**{k: decode(fields[k], v, f"{where}.{k}".lstrip(".")) for k, v in values.items()})


def encode(value: Any) -> Any:
    """A config value as plain JSON values; `decode` of it gives an equal value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Duration):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, Mapping):
        return {k: encode(v) for k, v in value.items()}
    return [encode(v) for v in value] if isinstance(value, tuple) else value


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested JSON values as one mapping with dotted keys, `{"optimizer.learning_rate": 0.1, ...}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
