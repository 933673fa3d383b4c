"""Flags of a config, each with what its own type cannot be."""

import random
import types
import typing
from typing import Annotated, Any, Literal

from research.config import Config
from research.values import Duration, Range, annotations
from tools.malformed.case import Case, Place
from tools.malformed.mutation import HOSTILE, no_number, no_whole_number, typo

FREE = ("notes", "data.path", "transfer.source", "model.options")  # any text, or nothing that a flag could say


def fields() -> dict[str, Any]:
    """Dotted key -> type of every field of a config."""
    found: dict[str, Any] = {}
    for section, kind in annotations(Config).items():
        inner = annotations(kind) if isinstance(kind, type) and kind is not Duration and kind not in (int, str) else {}
        found |= {f"{section}.{key}": inner[key] for key in inner} if inner else {section: kind}
    return {key: kind for key, kind in found.items() if key not in FREE}


def wrong(chance: random.Random, kind: Any) -> list[str]:
    """Words that no value of this type can be."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        if args[0] is tuple:
            return wrong(chance, args[0])
        outside = [word for bound in args[1:] for word in _outside(chance, bound, args[0])]
        return [chance.choice([*wrong(chance, args[0]), *outside])]
    if origin in (typing.Union, types.UnionType):
        return wrong(chance, args[0])
    if origin is Literal:
        known = [str(arg) for arg in args]
        return [chance.choice([typo(chance, chance.choice(known) + "x", known), "", "none of these", *HOSTILE])]
    if origin is tuple:
        if args[-1] is not Ellipsis:
            return chance.choice([["0.5"], ["0.5"] * 5, ["x"] * len(args), ["nan"] * len(args)])
        return wrong(chance, args[0]) if args[0] is not str else ["nothing=like*this=0"]
    if kind is bool:
        return [chance.choice(["maybe", "2", "", "yes", "nope", "TRUE-ish"])]
    if kind is Duration:
        return [_no_duration(chance)]
    if kind is int:
        return [no_whole_number(chance)]
    if kind is float:
        return [no_number(chance)]
    return [chance.choice(["nothing_like_this", *HOSTILE])]


def _outside(chance: random.Random, bound: Range, kind: type) -> list[str]:
    found = []
    if bound.low > -float("inf"):
        found.append(str(int(bound.low) - chance.randint(1, 10**6)))
    if bound.high < float("inf"):
        found.append(str(int(bound.high) + chance.randint(1, 10**6)))
    found.append(str(10 ** chance.randint(20, 300)) if kind is int else f"1e{chance.randint(40, 300)}")
    return found


def _no_duration(chance: random.Random) -> str:
    return chance.choice(
        [
            f"{chance.randint(1, 9)} {chance.choice(['fortnights', 'step s', 'epocks', 'seconds', '', 'e'])} x",
            f"-{chance.randint(1, 99)} steps",
            f"{no_number(chance)} epochs",
            f"{chance.randint(1, 9)}.5 steps",
            f"1e{chance.randint(30, 400)} {chance.choice(['steps', 'epochs', 'examples'])}",
            "ten",
        ]
    )


def wrong_value(chance: random.Random, place: Place) -> Case:
    """A field with what it cannot be."""
    key, kind = chance.choice(sorted(fields().items(), key=lambda item: item[0]))
    words, flag = wrong(chance, kind), "--" + key.replace("_", "-")
    given = [f"{flag}={words[0]}"] if len(words) == 1 else [flag, *words]
    return Case(("train", "digits:resnet8", *given, "--workdir", "W"), f"{key} cannot be this")


wrong_value_again = wrong_value_once_more = wrong_value  # there are a hundred fields


def unknown_field(chance: random.Random, place: Place) -> Case:
    """A field that no config has."""
    known = ["--" + key.replace("_", "-") for key in fields()]
    flag = typo(chance, chance.choice(known), [*known, "--notes", "--data.path"])
    verb = chance.choice([["train", "digits"], ["plan", "digits"], ["inspect", "digits", "--schedule"]])
    tail = ["--workdir", "W"] if verb[0] == "train" else []
    return Case((*verb, flag, "1", *tail), "no such field")


def wrong_field_of_a_model(chance: random.Random, place: Place) -> Case:
    """A field of a model with what it cannot be, or of another one."""
    wrong = chance.choice(
        [
            ["--model.shortcut", chance.choice(["D", "a", "", *HOSTILE])],
            ["--model.width", no_whole_number(chance)],
            ["--model.width", chance.choice(["0", "-8", str(10**30)])],
            [f"--model.{typo(chance, 'shortcut', ['shortcut'])}", "B"],
            ["--model.depth", "20"],
            ["--model.options", "{}"],
        ]
    )
    return Case(("train", "digits:resnet8", *wrong, "--workdir", "W"), "the model has no such field or value")
