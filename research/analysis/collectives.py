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
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|branch_computations)=\{?((?:%?[\w.\-]+(?:, )?)+)\}?")
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


def collectives(text: str, *, devices: int, loops: int = 1) -> tuple[Collective, ...]:
    """The collectives of a compiled program, by kind; `text` is its optimised HLO.

    `loops`: how often each loop that has one goes round, which the text does not say. On TPUs a collective that goes
    on beside others is written once in each of their fusions, under one chain: it counts once. An all-reduce inside a
    computation `all-reduce-scatter` keeps only its own share of the sum: that is a reduce-scatter.
    """
    computations = dict(_computations(text))
    inside = _within_loops(computations)
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
            found[kind] += [size] * (loops if name in inside else 1)
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


def _within_loops(computations: dict[str, list[str]]) -> set[str]:
    """Names of the computations that a loop runs, itself or through others."""
    calls = {
        name: [
            called.strip().lstrip("%")
            for line in lines
            for group in _CALLED.findall(line)
            for called in group.split(",")
        ]
        for name, lines in computations.items()
    }
    waiting = re.findall(
        r" while\(.*\bbody=%?([\w.\-]+)", "\n".join(line for body in computations.values() for line in body)
    )
    inside: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in inside:
            inside.add(name)
            waiting += calls.get(name, [])
    return inside
