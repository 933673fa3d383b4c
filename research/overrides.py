"""Dotted command-line overrides of a config, typed by its dataclasses and by the model's own fields, through tyro."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import tyro

from research import config as configs
from research import models
from research.config import Config, ModelConfig
from research.errors import UserError, unknown
from research.values import Duration, Options, annotations


def _registry() -> tyro.constructors.ConstructorRegistry:
    """tyro's rules with durations added: `--budget.train "10 epochs"`."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def duration(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if info.type is not Duration:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="DURATION",
            instance_from_str=lambda words: Duration.parse(words[0]),
            is_instance=lambda value: isinstance(value, Duration),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def _flags(base: Config) -> tuple[type, Any]:
    """A dataclass like `Config` whose model section has the chosen model's own fields, and its value at `base`."""
    own = models.options(base.model.name)
    plain = [(key, kind, base.model.options.get(key, default)) for key, (kind, default) in own.items()]
    fixed = [
        (key, kind, getattr(base.model, key)) for key, kind in annotations(ModelConfig).items() if key != "options"
    ]
    model = dataclasses.make_dataclass("model", [(k, t, dataclasses.field(default=v)) for k, t, v in fixed + plain])
    sections = {key: (kind, getattr(base, key)) for key, kind in annotations(Config).items()}
    sections["model"] = (model, model())
    # A plain twin of Config: its own checks run when the values come back, with the user's names in the message.
    twin = dataclasses.make_dataclass("Config", [(key, kind) for key, (kind, _) in sections.items()])
    return twin, twin(**{key: value for key, (_, value) in sections.items()})


def apply(base: Config, words: Sequence[str], *, prog: str = "launch.py train CONFIG") -> Config:
    """`base` with flags such as `--optimizer.learning-rate 0.2 --model.shortcut B` applied.

    `--help` prints every flag with its type and value, and exits. Raises `UserError`, one line, on any other word.
    """
    if not words:
        return base
    base = _with_model_name(base, words)
    kind, default = _flags(base)
    _check_names(default, words, [field.name for field in dataclasses.fields(kind)])
    words = _capitalised(default, words)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            values = tyro.cli(
                kind,
                args=list(words),
                default=default,
                prog=prog,
                registry=_registry(),
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_one_line(errors.getvalue())) from None
    return _gather(base, default, values)


def _with_model_name(base: Config, words: Sequence[str]) -> Config:
    """`base` with `--model.name` applied first: it decides which other flags there are."""
    for index, word in enumerate(words):
        if word == "--model.name" and index + 1 < len(words):
            name = words[index + 1]
        elif word.startswith("--model.name="):
            name = word.partition("=")[2]
        else:
            continue
        if name != base.model.name:
            base = dataclasses.replace(base, model=ModelConfig(name=name, num_classes=base.model.num_classes))
    return base


def _capitalised(default: Any, words: Sequence[str]) -> list[str]:
    """`true` and `false`, as JSON and `--grid` write them, for what is a yes or no."""
    sections = {f.name: getattr(default, f.name) for f in dataclasses.fields(default)}
    switches = {
        f"--{section}.{f.name}".replace("_", "-")
        for section, value in sections.items()
        if dataclasses.is_dataclass(value)
        for f in dataclasses.fields(value)
        if isinstance(getattr(value, f.name), bool)
    }
    spelled, before = [], ""
    for word in words:
        flag, equals, value = word.partition("=")
        if equals and flag.replace("_", "-") in switches:
            word = f"{flag}={value.capitalize()}"
        elif before.replace("_", "-") in switches:
            word = word.capitalize()
        before = word
        spelled.append(word)
    return spelled


def _gather(base: Config, default: Any, values: Any) -> Config:
    """Back from the plain twin to a `Config`; only the model fields that were changed become options."""
    sections = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    model, before = sections.pop("model"), default.model
    changed = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in annotations(ModelConfig) and getattr(model, field.name) != getattr(before, field.name)
    }
    options = Options({**base.model.options, **changed})
    return Config(model=ModelConfig(model.name, model.num_classes, options), **sections)


def _check_names(default: Any, words: Sequence[str], sections: Iterable[str]) -> None:
    """Refuse a flag that none of these sections has, by its own name, with the nearest valid one."""
    known: dict[str, None] = {}
    for section in sections:
        value = getattr(default, section)
        inner = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
        known.update(dict.fromkeys([f"--{section}.{f.name}" for f in inner] or [f"--{section}"]))
    for word in words:
        flag = word.partition("=")[0]
        if (
            re.match(r"--[a-zA-Z]", flag)
            and flag not in ("--help",)
            and flag.replace("-", "_") not in {name.replace("-", "_") for name in known}
        ):
            raise unknown("flag", flag, [name[:2] + name[2:].replace("_", "-") for name in known])


def _one_line(box: str) -> str:
    """The text of tyro's error box, without its frame."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    text = re.sub(r"[╭╮╰╯│─]+", " ", text)
    text = re.sub(r"\s+", " ", text).split("Argument helptext:")[0].strip()
    return (
        re.sub(r"^((Parsing error|Invalid choice|Value error|Missing argument|Error)\s*)+", "", text)
        .split(" For full helptext")[0]
        .strip()
        or "wrong arguments"
    )


def parse_fields(name: str, words: Sequence[str]) -> dict[str, Any]:
    """The model's own fields from `--shortcut B` (the `inspect` verb). Raises `UserError`."""
    prefixed = [f"--model.{word[2:]}" if word.startswith("--") else word for word in words]
    base = configs.Config(model=ModelConfig(name=name))
    try:
        _check_names(_flags(base)[1], prefixed, ["model"])
        return dict(apply(base, prefixed, prog="launch.py inspect MODEL").model.options)
    except UserError as error:
        raise UserError(str(error).replace("--model.", "--")) from None
