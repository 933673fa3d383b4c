"""What devices say to each other in a compiled program: read from its text, as no other interface tells it."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_KIND = "|".join(KINDS)
_HEAD = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) .*\{$")
# A result type is one array or a tuple of them, maybe nested. Of an operation in two halves the second is counted: its
# type is the result alone, where that of the first also has the operands and flags.
_LINE = re.compile(rf"^\s+(?:ROOT )?%?[\w.\-]+ = (?P<type>.+?) (?P<kind>{_KIND})(?P<half>-start|-done)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)|\bbranch_computations=\{([^}]*)\}")
_WHILE = re.compile(r" while\(.*\bcondition=%?(?P<condition>[\w.\-]+), body=%?(?P<body>[\w.\-]+)")
_KNOWN = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_BOUND = re.compile(r"= [su](?:32|64)\[\]\S* constant\((\d+)\)")
_CHAIN = re.compile(r"channel_id=(\d+).*?chain_id=\"(\d+)\"")


@dataclass(frozen=True)
class Collective:
    """All operations of a kind in a step: how many, and the bytes of the whole arrays, before they are divided."""

    kind: str
    count: int
    bytes: int

    def sent(self, devices: int) -> float:
        """Bytes that leave each device when they go around a ring, the least that any way of doing it sends."""
        if self.kind == "collective-permute":
            return float(self.bytes)
        rounds = 2 if self.kind == "all-reduce" else 1
        return rounds * (devices - 1) / devices * self.bytes


def bytes_of(type_: str) -> int:
    """Bytes of the arrays in a type as the compiler writes it, `(f32[2,64]{1,0:T(2,128)}, bf16[3])`, unpadded."""
    sizes = [
        math.prod(map(int, filter(None, dims.split(",")))) * (8 if name == "pred" else int(bits))
        for name, bits, dims in _ARRAY.findall(type_)
    ]
    return sum(-(-size // 8) for size in sizes)


def collectives(text: str, *, devices: int) -> tuple[Collective, ...]:
    """The collectives of a compiled program, by kind; `text` is its optimised HLO.

    On TPUs a collective that goes on beside other work is written once in each of their fusions, under one chain: it
    counts once. An all-reduce inside a computation `all-reduce-scatter` keeps only its own share of the sum: that is a
    reduce-scatter. What is in a loop counts as often as the loop goes round.
    """
    computations = dict(_computations(text))
    repeats = _repeats(computations)
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    chains: set[tuple[str, ...]] = set()
    for name, lines in computations.items():
        for line in lines:
            match = _LINE.match(line)
            if match is None or match["half"] == "-start":
                continue
            chain = _CHAIN.search(line)
            if chain is not None:
                if chain.groups() in chains:
                    continue
                chains.add(chain.groups())
            kind, size = match["kind"], bytes_of(match["type"])
            if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"  # of the sum that is written here whole
            elif kind == "reduce-scatter":
                size *= devices
            found[kind] += [size] * repeats[name]
    return tuple(Collective(kind, len(sizes), sum(sizes)) for kind, sizes in found.items() if sizes)


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Name and lines of each computation of a module."""
    name, lines = "", list[str]()
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name, lines = head["name"], []
        elif line.startswith("}"):
            yield name, lines
        else:
            lines.append(line)


def _repeats(computations: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation runs in a step, as far as the loops say how often they go round (else once)."""
    rounds: dict[str, int] = {}
    calls: dict[str, list[str]] = {}
    for name, lines in computations.items():
        called = [
            one.strip(" %") for line in lines for pair in _CALLED.findall(line) for one in "".join(pair).split(",")
        ]
        calls[name] = [one for one in called if one in computations]
        for line in lines:
            if loop := _WHILE.search(line):
                known = _KNOWN.findall(line) or _bounds(computations, loop["condition"])
                rounds[loop["body"]] = int(known[0]) if len(known) == 1 else 1
    repeats = dict.fromkeys(computations, 1)
    waiting = [(name, 1) for name in computations.keys() - {one for group in calls.values() for one in group}]
    while waiting:
        name, times = waiting.pop()
        repeats[name] = max(repeats[name], times)
        waiting += [(one, times * rounds.get(one, 1)) for one in calls[name]]
    return repeats


def _bounds(computations: dict[str, list[str]], condition: str) -> list[str]:
    """The whole numbers that the condition of a loop compares with: one, where it counts from 0."""
    return _BOUND.findall("\n".join(computations.get(condition, ())))
