"""Ways to spoil words, bytes and JSON, whatever they mean. What comes back is never what was given."""

import json
import random
import string
from collections.abc import Callable, Collection
from typing import Any

LETTERS = string.ascii_lowercase + string.digits + "_"
# Names that would do harm where one is put into a path, a page, a table or a terminal as it is.
HOSTILE = (
    "../../escape",
    "/etc/passwd",
    "a\nb",
    "\x1b[31mred\x1b[0m",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$(touch ran)",
    "; touch ran",
    "`touch ran`",
    "%s%n",
    "{0.__class__}",
    "\u202eevil",
    "\udcff\udcfe",
    "x" * 5000,
    " ",
    "\u0435\u0445\u0430mple",
)


def typo(chance: random.Random, word: str, known: Collection[str]) -> str:
    """`word` with a slip or two of the keyboard: none of `known`."""
    known = {name.lower().replace("-", "_") for name in known}
    while True:
        letters = list(word)
        for _ in range(chance.randint(1, 2)):
            at = chance.randrange(2 if word.startswith("--") else 0, len(letters)) if len(letters) > 2 else 0
            slip = chance.choice(("drop", "double", "swap", "other"))
            if slip == "drop" and len(letters) > 3:
                del letters[at]
            elif slip == "double":
                letters.insert(at, letters[at])
            elif slip == "swap" and at + 1 < len(letters):
                letters[at : at + 2] = letters[at + 1], letters[at]
            else:
                letters[at] = chance.choice(LETTERS)
        made = "".join(letters)
        if made.lower().replace("-", "_") not in known:
            return made


def no_number(chance: random.Random) -> str:
    """Text that is no finite number in any notation."""
    return chance.choice(
        [
            "",
            "fast",
            "1,5",
            "1_0_",
            "0x1g",
            "1e",
            "--1",
            "nan",
            "inf",
            "-inf",
            "1e999",
            "0.1.2",
            "NaN%",
            "\u221e",
            "1/0",
        ]
    )


def no_whole_number(chance: random.Random) -> str:
    """Text that is no whole number."""
    fraction = f"{chance.randint(0, 99)}.{chance.randint(1, 9)}"
    return chance.choice([no_number(chance), fraction, "1e400", "9" * chance.randint(4400, 9000)])


def garbage(chance: random.Random, most: int = 400) -> bytes:
    """Bytes without a meaning."""
    return chance.randbytes(chance.randint(1, most))


def cut(chance: random.Random, data: bytes, low: float = 0.02, high: float = 0.8) -> bytes:
    """The beginning of a file."""
    return data[: max(1, int(len(data) * chance.uniform(low, high)))]


def no_json_object(chance: random.Random, sound: Any) -> bytes:
    """Bytes that are no JSON text of an object, from the value that should be there."""
    text = json.dumps(sound, indent=2)
    ways: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: text[: chance.randrange(1, len(text) - 1)].encode(),
        lambda: text.encode("utf-16"),
        lambda: b"\xef\xbb\xbf" + text.encode()[:-1],
        lambda: text.encode().replace(b'"', b"\xff\xfe", 1),
        lambda: text.replace(":", "=", 1).encode(),
        lambda: text.replace("{", "[", 1).encode(),
        lambda: (text + chance.choice(["}", "{}", ",", "\x00"])).encode(),
        lambda: ("[" * chance.choice([2_000, 200_000])).encode(),
        lambda: ('{"a":' * chance.choice([2_000, 200_000])).encode(),
        lambda: json.dumps(chance.choice([None, 3, "text", [], [1], True])).encode(),
        lambda: b'{"a": ' + b"9" * 5000 + b"}",
        lambda: garbage(chance),
        lambda: b"\x00" * chance.randint(1, 4096),
    ]
    while True:
        made = chance.choice(ways)()
        try:
            if not isinstance(json.loads(made.decode()), dict):
                return made
        except (ValueError, RecursionError):
            return made


def places(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a JSON value each number, text, list and object is."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [*([path] if path else []), *(p for key, value in inner for p in places(value, (*path, key)))]


def at(values: Any, path: tuple[Any, ...]) -> Any:
    """What is there."""
    for key in path:
        values = values[key]
    return values


def put(values: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a JSON value with something else in one place."""
    made = json.loads(json.dumps(values))
    at(made, path[:-1])[path[-1]] = value
    return made


def removed(values: Any, path: tuple[Any, ...]) -> Any:
    """A copy of a JSON value without what is in one place."""
    made = json.loads(json.dumps(values))
    del at(made, path[:-1])[path[-1]]
    return made


def other_type(chance: random.Random, value: Any) -> Any:
    """A JSON value of none of the types that could stand in place of `value`."""
    kinds: dict[type, list[Any]] = {
        dict: [{}, {"x": 1}],
        list: [[], [1], ["x"]],
        str: ["", "text"],
        bool: [True, False],
        int: [3, -1],
        float: [0.5],
    }
    alike = {int: {int, float}, float: {int, float}}.get(type(value), {type(value)})
    return chance.choice([v for kind, found in kinds.items() if kind not in alike for v in found])
