"""Groups of parameters whose updates are scaled, or frozen: `optimizer.groups`, "PATTERN=FACTOR" each.

A factor scales the whole update, decay included, of every parameter whose path, or a leading part of it, matches the
glob; the first match decides. Factor 0 freezes: no update, no decay, no memory of the optimizer, no share in the
clipping norm. Batch statistics are no parameters and go on. Groups are part of the compiled step.
"""

import fnmatch
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import optax

from research.errors import UserError, unknown

PyTree = Any


class Group(NamedTuple):
    """Parameters whose updates are scaled by `factor`; 0 freezes them."""

    pattern: str
    factor: float


REST = Group("*", 1.0)  # what no pattern matches


def parse(entries: Sequence[str]) -> tuple[Group, ...]:
    """`optimizer.groups` as values: "stem/*=0.1" is ("stem/*", 0.1). Raises `UserError` for a malformed entry."""
    groups = []
    for entry in entries:
        pattern, equals, text = (part.strip() for part in entry.rpartition("="))
        try:
            factor = float(text)
        except ValueError:
            factor = math.nan
        if not (equals and pattern and 0 <= factor < math.inf):
            raise UserError(
                f"optimizer.groups has {entry!r}; expected PATTERN=FACTOR with a factor of at least 0, as 'stem/*=0.1'"
            )
        groups.append(Group(pattern, factor))
    return tuple(groups)


def freezing(entries: Sequence[str], modules: Collection[str]) -> tuple[str, ...]:
    """The entries after others that freeze the outermost modules named, which need have no parameters."""
    return (*(f"{name}=0" for name in sorted(modules)), *entries)


def path_of(keys: Any) -> str:
    """The path of the leaf at these keys of a tree, as "stem/conv/kernel"."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def paths(params: PyTree) -> dict[str, Any]:
    """The parameters (or their shapes) by path, as "stem/conv/kernel"."""
    return {path_of(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}


def _parts(path: str) -> list[str]:
    """A path and every leading part of it: "stem/conv" gives "stem" and "stem/conv"."""
    names = path.split("/")
    return ["/".join(names[: count + 1]) for count in range(len(names))]


def group_of(path: str, groups: Sequence[Group]) -> Group:
    """The first group with a pattern for the parameter at `path`, as "stem/conv/kernel"; `REST` where there is none."""
    parts = _parts(path)
    return next((g for g in groups if any(fnmatch.fnmatchcase(part, g.pattern) for part in parts)), REST)


def check(entries: Sequence[str], params: PyTree) -> None:
    """Hold the entries against the parameters, or their shapes.

    Raises `UserError` for a malformed entry, for a pattern that decides nothing (no parameter matches it, or those
    before it take all that do), and where nothing would train.
    """
    groups = parse(entries)
    known = paths(params)
    for number, group in enumerate(groups):
        matched = [path for path in known if group_of(path, [group]) is group]
        if not matched:
            parts = {part for path in known for part in _parts(path)}
            raise UserError(f"optimizer.groups: {unknown('parameter', group.pattern, parts)}")
        if all(group_of(path, groups[:number]) is not REST for path in matched):
            raise UserError(
                f"optimizer.groups: {group.pattern!r} decides nothing, as entries before it match all that it does; "
                "expected the narrower one first"
            )
    if known and all(group_of(path, groups).factor == 0 for path in known):
        raise UserError("optimizer.groups freeze every parameter; expected one that trains")


def scaled(whole: optax.GradientTransformation, groups: tuple[Group, ...]) -> optax.GradientTransformation:
    """`whole` with its updates scaled by group, and no memory for what is frozen."""

    def factored(updates: PyTree, params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda keys, u: u * group_of(path_of(keys), groups).factor, updates)

    def labels(params: PyTree) -> PyTree:
        def one(keys: Any, leaf: Any) -> str:
            return "trained" if group_of(path_of(keys), groups).factor else "frozen"

        return jax.tree_util.tree_map_with_path(one, params)

    trained = optax.chain(whole, optax.stateless(factored))
    return optax.partition({"trained": trained, "frozen": optax.set_to_zero()}, labels)
