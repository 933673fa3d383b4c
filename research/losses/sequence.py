"""Losses of sequences: per example, float32 inside."""

import chex
import jax.numpy as jnp
import optax
from jaxtyping import Num

from research.inputs import AnyArray, PerExample, SequenceLogits, Symbols


def ctc(
    logits: SequenceLogits,
    labels: Symbols,
    *,
    logit_mask: Num[AnyArray, "b t"] | None = None,
    label_mask: Num[AnyArray, "b n"] | None = None,
    blank: int = 0,
) -> PerExample:
    """-log of the chance that the frames spell the labels, blanks and repetitions left out, in nats.

    Shapes: logits "b t k", labels "b n"; masks are 1 where a frame or a symbol is real, which come first. Graves et al.
    2006 (doi 10.1145/1143844.1143891), as optax has it: labels that do not fit into the frames cost about 1e5.
    """
    chex.assert_equal_shape_prefix([logits, labels], 1)
    frames = jnp.ones(logits.shape[:2]) if logit_mask is None else logit_mask
    symbols = jnp.ones(labels.shape) if label_mask is None else label_mask
    padded = tuple(1.0 - (m > 0).astype(jnp.float32) for m in (frames, symbols))
    return optax.losses.ctc_loss(
        jnp.asarray(logits, jnp.float32), padded[0], jnp.asarray(labels), padded[1], blank_id=blank
    )
