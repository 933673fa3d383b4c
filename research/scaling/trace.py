"""Walks a jaxpr of shapes and says what it computes: convolutions, products, normalisations, pools, in order.

Every value is known by where it comes from: the input (it has a receptive field), the variables (which ones), stored
arrays, or nothing but literals. Control flow is followed: `scan` counts its length times, of a `cond` the dearest
branch counts (of `lax.platform_dependent` the default one, so that counts never depend on how a convolution is
lowered), work under `shard_map` counts on every device of its mesh, and a product in a loop of unknown length is
refused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jax.extend import core

from research.errors import UserError
from research.scaling import multiply_adds, propagate
from research.scaling.events import Event, Path, Value, either, macs, merge
from research.scaling.field import Dimension, Factor, Field

MARK = "research.scaling:"
Result = tuple[list[Value], list[Event]]


def live(jaxpr: core.Jaxpr, needed: Sequence[bool]) -> list[core.JaxprEqn]:
    """The equations that the needed outputs depend on, in order: dead code is not part of the cost."""
    alive = {var for var, need in zip(jaxpr.outvars, needed, strict=True) if need and isinstance(var, core.Var)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if any(var in alive for var in eqn.outvars):
            kept.append(eqn)
            alive.update(var for var in eqn.invars if isinstance(var, core.Var))
    return kept[::-1]


@dataclass(frozen=True)
class Walker:
    """Follows a jaxpr. `modules` are the paths of all module calls, `norms` those of normalisation layers."""

    origin: Field  # of the input
    modules: frozenset[Path]
    norms: Mapping[Path, str] = field(default_factory=dict)

    def walk(
        self,
        jaxpr: core.ClosedJaxpr | core.Jaxpr,
        arguments: Sequence[Value],
        needed: Sequence[bool] | None = None,
        scope: Path = (),
        repeats: int = 1,
    ) -> Result:
        """Values of the outputs `needed` (default: all of them) and the events on the way to them."""
        inner = jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
        env: dict[core.Var, Value] = dict.fromkeys(inner.constvars, Value(stored=True))
        env.update(zip(inner.invars, arguments, strict=True))
        events: list[Event] = []
        for eqn in live(inner, needed or [True] * len(inner.outvars)):
            values = [_read(env, var) for var in eqn.invars]
            names = tuple(str(eqn.source_info.name_stack).split("/"))
            outputs, more = self._equation(eqn, values, scope + names, repeats)
            env.update(zip(eqn.outvars, outputs, strict=True))
            events += more
        wanted = inner.outvars if needed is None else [v for v, n in zip(inner.outvars, needed, strict=True) if n]
        return [_read(env, var) for var in wanted], events

    def _equation(self, eqn: core.JaxprEqn, values: list[Value], scope: Path, repeats: int) -> Result:
        name, params = eqn.primitive.name, eqn.params
        if name in ("conv_general_dilated", "dot_general"):
            return self._product(eqn, values, scope, repeats)
        if name == "cond":
            return self._cond(params, values, scope, repeats)
        if name == "scan":
            return self._scan(params, values, scope, repeats)
        if name == "while":
            return self._while(params, values, scope, repeats)
        bodies = [b for p in params.values() for b in (p if isinstance(p, tuple | list) else (p,)) if _is_jaxpr(b)]
        if body := next((body for body in bodies if _fits(body, eqn)), None):
            return self.walk(body, values, None, scope, repeats)
        if name == "shard_map":
            return self._shard_map(eqn, values, scope, repeats)
        if any(_has_products(body) for body in bodies):
            raise UserError(f"cannot count the products inside {name!r} at {'/'.join(self.path(scope)) or 'the top'}")
        return self._plain(eqn, values, scope, repeats)

    def path(self, scope: Path) -> Path:
        """The innermost module a name stack is in; scopes that are no modules (transforms, einsums) are skipped."""
        path: Path = ()
        for name in scope:
            path = (*path, name) if (*path, name) in self.modules else path
        return path

    def _event(self, scope: Path, repeats: int, result: Field | None, **values: Any) -> Event:
        seen = result.receptive_field if result is not None else ()
        return Event(scope=self.path(scope), repeats=repeats, receptive_field=seen, **values)

    def _product(self, eqn: core.JaxprEqn, values: list[Value], scope: Path, repeats: int) -> Result:
        left, right = values
        shapes, shape = [_shape(var) for var in eqn.invars], _shape(eqn.outvars[0])
        is_convolution = eqn.primitive.name == "conv_general_dilated"
        known = next((v.field for v in values if v.field is not None), None)
        result = None
        if known is not None and is_convolution:
            result = propagate.convolution(left.field, right.field, eqn.params, shapes[1], shape)
        elif known is not None:
            none = tuple(0 * extent for extent in known.extent)
            one, other = (v.field or propagate.plain(known, s, none) for v, s in zip(values, shapes, strict=True))
            result = propagate.product(one, other, eqn.params["dimension_numbers"])
        output = merge(values, result)
        output = output if result is not None else replace(output, product=True)
        kernel = next((v for v in (right, left) if v.field is None and v.leaves), None)
        if kernel is None and (left.generated or right.generated):
            return [output], []  # resampling or averaging with a matrix made on the spot: no layer, like pooling
        count = multiply_adds.convolution if is_convolution else multiply_adds.dot
        operation, total, unpadded = count(eqn.params, shapes[0], shapes[1], shape)
        kind = "product" if kernel is None else "convolution" if is_convolution else "dense"
        event = self._event(
            scope,
            repeats,
            result,
            kind=kind,
            operation="product" if kernel is None and not is_convolution else operation,
            shape=shape,
            macs=total,
            unpadded_macs=unpadded,
            kernel=kernel.leaves if kernel else frozenset(),
            of_input=known is not None,
        )
        return [output], [event]

    def _cond(self, params: dict[str, Any], values: list[Value], scope: Path, repeats: int) -> Result:
        branches, platforms = params["branches"], params.get("branches_platforms")
        if platforms is not None and None in platforms:
            branches = [branches[platforms.index(None)]]
        results = [self.walk(branch, values[1:], None, scope, repeats) for branch in branches]
        outputs = [self_outputs for self_outputs, _ in results]
        joined = outputs[0]
        for other in outputs[1:]:
            joined = [either(a, b) for a, b in zip(joined, other, strict=True)]
        return joined, max((events for _, events in results), key=macs)

    def _scan(self, params: dict[str, Any], values: list[Value], scope: Path, repeats: int) -> Result:
        constants, carried, length = params["num_consts"], params["num_carry"], params["length"]
        carry, stacked = values[constants : constants + carried], values[constants + carried :]
        slices = [replace(v, field=v.field and _without_first(v.field)) for v in stacked]
        leading = [v.field.dimensions[0] for v in stacked if v.field is not None]
        mixed = sorted({axis for dimension in leading for factor in dimension for axis in factor.axes})
        outputs, events = [*carry, *([Value()] * (len(params["jaxpr"].out_avals) - carried))], list[Event]()
        for _ in range(length):  # as if unrolled, until nothing changes any more; the last pass sees the most
            arguments = [*values[:constants], *carry, *slices]
            outputs, events = self.walk(params["jaxpr"], arguments, None, scope, repeats * length)
            before, carry = carry, [replace(v, field=v.field and v.field.widened(mixed)) for v in outputs[:carried]]
            if carry == before:
                break
        first = next((d for d in leading if any(f.axes for f in d)), (Factor(length),))
        return [*carry, *(replace(v, field=v.field and _with_first(v.field, first)) for v in outputs[carried:])], events

    def _while(self, params: dict[str, Any], values: list[Value], scope: Path, repeats: int) -> Result:
        condition, constants = params["cond_nconsts"], params["body_nconsts"]
        body = values[condition : condition + constants]
        carry, events, before = values[condition + constants :], list[Event](), None
        while carry != before:
            before = carry
            outputs, events = self.walk(params["body_jaxpr"], [*body, *carry], None, scope, repeats)
            after = [replace(v, field=v.field and v.field.unknown(v.field.shape)) for v in outputs]
            carry = [either(a, b) for a, b in zip(carry, after, strict=True)]
        _, tests = self.walk(params["cond_jaxpr"], [*values[:condition], *carry], None, scope, repeats)
        if macs(events) + macs(tests):
            where = "/".join(self.path(scope)) or "the top"
            raise UserError(f"cannot count the products in a while loop at {where}: its length is unknown; use a scan")
        return carry, events

    def _shard_map(self, eqn: core.JaxprEqn, values: list[Value], scope: Path, repeats: int) -> Result:
        body, devices = eqn.params["jaxpr"], eqn.params["mesh"].size
        local = [_resized(v, _shape(var)) for v, var in zip(values, body.invars, strict=True)]
        outputs, events = self.walk(body, local, None, scope, repeats * devices)
        return [_resized(v, _shape(var)) for v, var in zip(outputs, eqn.outvars, strict=True)], events

    def _plain(self, eqn: core.JaxprEqn, values: list[Value], scope: Path, repeats: int) -> Result:
        name, events = eqn.primitive.name, []
        outputs = []
        for var in eqn.outvars:
            known = [v.field for v in values]
            shape = _shape(var)
            result = propagate.after(name, eqn.params, known, shape) if any(known) else None
            outputs.append(merge(values, result))
        shape, result = _shape(eqn.outvars[0]), outputs[0].field
        leaves = frozenset[int]().union(*(v.leaves for v in values))
        if name == "name" and eqn.params["name"].startswith(MARK):
            return self._marked(eqn, values, repeats)
        if leaves and result is not None:
            events.append(self._event(scope, repeats, result, kind="use", operation="", shape=shape, kernel=leaves))
        operation = _pool(name, eqn.params, values[0].field, result) if values else ""
        if operation and self.path(scope) not in self.norms:
            events.append(self._event(scope, repeats, result, kind="pool", operation=operation, shape=shape))
        return outputs, events

    def _marked(self, eqn: core.JaxprEqn, values: list[Value], repeats: int) -> Result:
        """The output of a module's call: an activation, also a product of parameters; of a normalisation, an event."""
        path = tuple(filter(None, eqn.params["name"][len(MARK) :].split("/")))
        (value,), shape, events = values, _shape(eqn.outvars[0]), []
        if value.field is None and value.product:
            known = propagate.plain(self.origin, shape, tuple(0 * extent for extent in self.origin.extent))
            events.append(self._event(path, repeats, known, kind="use", operation="", shape=shape, kernel=value.leaves))
            value = Value(known)
        if path in self.norms:
            operation = self.norms[path]
            events.append(self._event(path, repeats, value.field, kind="norm", operation=operation, shape=shape))
        return [value], events


def _read(env: dict[core.Var, Value], var: Any) -> Value:
    if isinstance(var, core.Literal):
        return Value(stored=math.prod(getattr(var.val, "shape", ())) > 1)
    return env[var]


def _shape(var: Any) -> tuple[int, ...]:
    return tuple(getattr(var.aval, "shape", ()))


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def _open(body: Any) -> core.Jaxpr:
    return body.jaxpr if isinstance(body, core.ClosedJaxpr) else body


def _fits(body: Any, eqn: core.JaxprEqn) -> bool:
    """Whether a nested jaxpr computes exactly its equation: as many inputs and outputs, of the same shapes."""
    jaxpr = _open(body)
    ours, theirs = ([getattr(v.aval, "shape", None) for v in (*e.invars, *e.outvars)] for e in (eqn, jaxpr))
    return len(jaxpr.invars) == len(eqn.invars) and ours == theirs and eqn.primitive.name != "shard_map"


def _has_products(body: Any) -> bool:
    nested = [p for eqn in _open(body).eqns for p in eqn.params.values()]
    inner = [b for p in nested for b in (p if isinstance(p, tuple | list) else (p,)) if _is_jaxpr(b)]
    names = {eqn.primitive.name for eqn in _open(body).eqns}
    return bool(names & {"dot_general", "conv_general_dilated"}) or any(map(_has_products, inner))


def _without_first(known: Field) -> Field:
    return replace(known, dimensions=known.dimensions[1:])


def _with_first(known: Field, first: Dimension) -> Field:
    return replace(known, dimensions=(first, *known.dimensions))


def _resized(value: Value, shape: Sequence[int]) -> Value:
    return value if value.field is None else replace(value, field=value.field.resized(shape))


def _pool(name: str, params: dict[str, Any], before: Field | None, after: Field | None) -> str:
    """What to call an operation if it is pooling over input positions, else an empty string."""
    if before is None or after is None:
        return ""
    if name in ("reduce_window_max", "reduce_window_min", "reduce_window_sum"):
        window = [d for d, dim in enumerate(before.dimensions) if any(f.axes for f in dim)]
        if all(params["window_dimensions"][d] == 1 for d in window):
            return ""
        kind = {"max": "max", "min": "min", "sum": "average"}[name.removeprefix("reduce_window_")]
        sizes, strides = ([params[key][d] for d in window] for key in ("window_dimensions", "window_strides"))
        return f"{kind} pool {multiply_adds.sizes(sizes)}{multiply_adds.stride(strides)}"
    if name in ("reduce_sum", "reduce_max") and before.axes and not after.axes:
        return "global average pool" if name == "reduce_sum" else "global max pool"
    return ""
