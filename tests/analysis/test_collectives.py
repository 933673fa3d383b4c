"""Collectives read from the text of programs: worked examples in the forms that XLA writes, and a program of today."""

import jax
import jax.numpy as jnp
import pytest

from research.analysis import collectives
from research.analysis.collectives import Collective

PLAIN = """HloModule jit_step, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

ENTRY %main (p: f32[4], q: bf16[3,3,16,8]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %q = bf16[3,3,16,8]{3,2,1,0} parameter(1)
  %all-reduce = f32[4]{0} all-reduce(%p), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  %ar = (f32[2,64]{1,0:T(2,128)S(1)}, f32[]{:T(128)}) all-reduce(%p, %p), channel_id=1, to_apply=%add
  %gather = bf16[3,3,16,32]{3,2,1,0} all-gather(%q), channel_id=2, dimensions={3}
  %scatter = f32[2,8]{1,0} reduce-scatter(%p), channel_id=3, dimensions={1}, to_apply=%add
  %swap = (s32[4]{0}, pred[7]{0}) all-to-all(%p, %p), channel_id=4
  %start = (f32[5]{0}, f32[5]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%p), channel_id=5
  %done = f32[5]{0} collective-permute-done(%start)
  ROOT %out = f32[4]{0} add(%all-reduce, %p), metadata={op_name="jit(step)/all-reduce(x)"}
}
"""

# A TPU's: one gather goes on beside two convolutions, each with a copy of it; gradients are reduced and scattered at
# once; and a loop over parts of the batch reduces in a computation that its body calls.
TPU = """HloModule jit_step

%fused_computation.1 (p: bf16[3,3,32,8]) -> (bf16[3,3,32,8], bf16[3,3,32,64]) {
  %p = bf16[3,3,32,8]{2,3,1,0} parameter(0)
  %g.1 = bf16[3,3,32,64]{2,3,1,0} all-gather(%p), channel_id=100, frontend_attributes={chain_id="0"}, metadata={}
  ROOT %c = (bf16[3,3,32,8], bf16[3,3,32,64]) custom-call(%g.1), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.2 (p: bf16[3,3,32,8]) -> bf16[3,3,32,64] {
  %p = bf16[3,3,32,8]{2,3,1,0} parameter(0)
  ROOT %g.2 = bf16[3,3,32,64]{2,3,1,0:T(8,128)(2,1)S(1)} all-gather(%p), channel_id=100, frontend={chain_id="0"}
}

%all-reduce-scatter.6 (p: f32[3,3,64,64]) -> f32[3,3,64,8] {
  %p = f32[3,3,64,64]{2,3,1,0} parameter(0)
  %r = f32[3,3,64,64]{2,3,1,0:T(8,128)} all-reduce(%p), channel_id=1, to_apply=%add
  ROOT %s = f32[3,3,64,8]{2,3,1,0} dynamic-slice(%r), dynamic_slice_sizes={3,3,64,8}
}

%inner (p: f32[16]) -> f32[16] {
  %p = f32[16]{0} parameter(0)
  ROOT %r.2 = f32[16]{0} all-reduce(%p), channel_id=7, to_apply=%add
}

%body.1 (t: (s32[], f32[16])) -> (s32[], f32[16]) {
  %t = (s32[], f32[16]{0}) parameter(0)
  %e = f32[16]{0} get-tuple-element(%t), index=1
  %f = f32[16]{0} fusion(%e), kind=kLoop, calls=%inner
  ROOT %u = (s32[], f32[16]{0}) tuple(%e, %f)
}

%condition.1 (t: (s32[], f32[16])) -> pred[] {
  %t = (s32[], f32[16]{0}) parameter(0)
  %n = s32[]{:T(128)} constant(3)
  %i = s32[] get-tuple-element(%t), index=0
  ROOT %l = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (p: f32[16]) -> f32[16] {
  %p = f32[16]{0} parameter(0)
  %w = (s32[]{:T(128)}, f32[16]{0}) while(%p), condition=%condition.1, body=%body.1
  ROOT %o = f32[16]{0} get-tuple-element(%w), index=1
}
"""


def test_each_kind_is_counted_with_its_whole_bytes():
    found = collectives.collectives(PLAIN, devices=4)
    assert found == (
        Collective("all-reduce", 2, 4 * 4 + (2 * 64 * 4 + 4)),
        Collective("all-gather", 1, 3 * 3 * 16 * 32 * 2),
        Collective("reduce-scatter", 1, 4 * 2 * 8 * 4),  # what is written is the share of one of four
        Collective("all-to-all", 1, 4 * 4 + 7),
        Collective("collective-permute", 1, 5 * 4),  # of a start and its done, once
    )


def test_what_a_tpu_does_beside_its_convolutions_counts_once_and_what_it_loops_over_each_time():
    assert collectives.collectives(TPU, devices=8) == (
        Collective("all-reduce", 3, 3 * 16 * 4),
        Collective("all-gather", 1, 3 * 3 * 32 * 64 * 2),
        Collective("reduce-scatter", 1, 3 * 3 * 64 * 64 * 4),
    )


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("f32[]", 4),
        ("pred[3]", 3),
        ("(s4[3]{0}, bf16[2,2]{1,0:T(8,128)(2,1)})", 2 + 8),  # three halves of a byte need two
        ("f8e4m3fn[5]", 5),
        ("((c64[2]), token[])", 16),
    ],
)
def test_bytes_of_types(written, size):
    assert collectives.bytes_of(written) == size


def test_bytes_around_a_ring():
    """Of four devices, each sends three quarters of what it has; to reduce and then to tell, twice that."""
    assert Collective("all-reduce", 1, 1000).sent(4) == 1500
    assert Collective("all-gather", 1, 1000).sent(4) == Collective("reduce-scatter", 1, 1000).sent(4) == 750
    assert Collective("collective-permute", 1, 1000).sent(4) == 1000


def test_a_program_compiled_today():
    """A sum over four devices, of 12 float32 numbers on each."""
    mapped = jax.pmap(lambda x: jax.lax.psum(x, "i"), axis_name="i", devices=jax.devices()[:4])
    text = mapped.lower(jax.ShapeDtypeStruct((4, 3, 4), jnp.float32)).compile().as_text()
    assert collectives.collectives(text, devices=4) == (Collective("all-reduce", 1, 48),)
