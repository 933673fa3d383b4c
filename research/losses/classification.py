"""Losses of classification: per example, unmasked, float32 inside, predictions first."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from research.errors import unknown
from research.inputs import BinaryLabels, ClassLabels, Logits, Number, PerExample, Scores, Signs

HingeForm = Literal["crammer_singer", "weston_watkins", "one_vs_rest"]


def softmax_cross_entropy(logits: Logits, labels: ClassLabels, *, label_smoothing: Number = 0.0) -> PerExample:
    """Cross-entropy in nats between the labels and softmax(logits): one class per example.

    Shapes: logits "b k"; labels "b" (class indices) or "b k" (probabilities). With label smoothing a, the target is
    (1 - a) x label + a / k (Szegedy et al. 2016, arXiv 1512.00567, section 7). A class index of k or more gives nan.
    """
    chex.assert_rank(logits, 2)
    logits = logits.astype(jnp.float32)
    if labels.ndim == 1 and isinstance(label_smoothing, float | int) and label_smoothing == 0:
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.losses.smooth_labels(_dense(labels, logits.shape[-1]), label_smoothing)
    chex.assert_equal_shape([logits, targets])
    return optax.losses.softmax_cross_entropy(logits, targets)


def sigmoid_binary_cross_entropy(logits: Logits, labels: BinaryLabels, *, label_smoothing: Number = 0.0) -> PerExample:
    """Cross-entropy in nats of k independent yes/no decisions, sigmoid(logits) each, summed over the classes.

    Shapes: logits "b k"; labels "b k" (0 or 1 each, or probabilities), or "b": class indices, taken as one-hot,
    or 0 and 1 where k is 1. With label smoothing a, a target t becomes (1 - a) x t + a / 2. The sum, not the mean,
    over classes is the likelihood of the whole label (Beyer et al. 2020, arXiv 2006.07159, section 5).
    """
    chex.assert_rank(logits, 2)
    logits = logits.astype(jnp.float32)
    targets = (1.0 - label_smoothing) * _yes_or_no(logits, labels) + label_smoothing / 2
    return jnp.sum(optax.losses.sigmoid_binary_cross_entropy(logits, targets), axis=-1)


def focal(logits: Logits, labels: BinaryLabels, *, alpha: Number | None = 0.25, gamma: Number = 2.0) -> PerExample:
    """Binary cross-entropy that counts what is already right for less: -a_t (1 - p_t)^gamma log p_t, summed over k.

    p_t is what sigmoid(logit) says of the truth; a_t is alpha where the truth is yes and 1 - alpha where it is no, or 1
    with alpha None (Lin et al. 2017, arXiv 1708.02002, eq. 5; its defaults). Shapes as in
    `sigmoid_binary_cross_entropy`.
    """
    chex.assert_rank(logits, 2)
    logits = logits.astype(jnp.float32)
    truth = _yes_or_no(logits, labels)
    values = optax.losses.sigmoid_binary_cross_entropy(logits, truth)
    # Not optax's own: its gradient is nan where a logit of 100 is right.
    wrong = truth * jax.nn.sigmoid(-logits) + (1.0 - truth) * jax.nn.sigmoid(logits)
    values *= jnp.exp(gamma * jnp.log(jnp.maximum(wrong, jnp.finfo(jnp.float32).tiny)))
    if alpha is not None:
        values *= alpha * truth + (1.0 - alpha) * (1.0 - truth)
    return jnp.sum(values, axis=-1)


def hinge(scores: Scores, signs: Signs) -> PerExample:
    """max(0, 1 - sign x score), the loss of a support vector machine. Shapes: scores "b", signs "b" of -1 and 1.

    Cortes & Vapnik 1995 (doi 10.1007/BF00994018), as optax has it.
    """
    chex.assert_equal_shape([scores, signs])
    return optax.losses.hinge_loss(jnp.asarray(scores, jnp.float32), jnp.asarray(signs, jnp.float32))


def multiclass_hinge(logits: Logits, labels: ClassLabels, *, form: HingeForm = "crammer_singer") -> PerExample:
    """By how much the score of the true class is not 1 ahead of the others. Shapes: logits "b k"; labels "b" or "b k".

    `form`: "crammer_singer", max(0, 1 + the highest other score - own score) (Crammer & Singer 2001, JMLR 2);
    "weston_watkins", the sum over all others of max(0, 1 + other - own) (Weston & Watkins 1999; what courses call the
    SVM loss); "one_vs_rest", the sum over classes of max(0, 1 - sign x score), sign 1 for the true class, else -1.
    Labels that are probabilities give the expected loss. Raises `UserError`: no such form.
    """
    chex.assert_rank(logits, 2)
    logits = logits.astype(jnp.float32)
    truth = _dense(labels, logits.shape[-1])
    chex.assert_equal_shape([logits, truth])
    if form == "one_vs_rest":
        return jnp.sum(truth * jax.nn.relu(1.0 - logits) + (1.0 - truth) * jax.nn.relu(1.0 + logits), axis=-1)
    behind = 1.0 + logits[:, None, :] - logits[:, :, None]  # "b own other"
    own = jnp.eye(logits.shape[-1], dtype=bool)[None]
    behind = jnp.where(own, 0.0, jax.nn.relu(behind))
    if form == "crammer_singer":
        return jnp.sum(truth * jnp.max(behind, axis=-1), axis=-1)
    if form == "weston_watkins":
        return jnp.sum(truth * jnp.sum(behind, axis=-1), axis=-1)
    raise unknown("form of multiclass_hinge", form, ("crammer_singer", "weston_watkins", "one_vs_rest"))


def distillation(logits: Logits, teacher: Logits, *, temperature: Number = 1.0) -> PerExample:
    """T^2 x KL(softmax(teacher / T) || softmax(logits / T)) in nats: nothing where both agree.

    Shapes: logits "b k" both. Hinton et al. 2015 (arXiv 1503.02531, section 2), whose cross-entropy of soft targets
    differs by the teacher's own entropy, which has no gradient here; T^2 keeps gradients of one size for every
    temperature. Nothing stops gradients to the teacher. Mix it with the loss of the labels as the study asks.
    """
    chex.assert_equal_shape([logits, teacher])
    own = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32) / temperature)
    soft = jax.nn.log_softmax(jnp.asarray(teacher, jnp.float32) / temperature)
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(own, soft)


def _yes_or_no(logits: Logits, labels: BinaryLabels) -> Float[Array, "b k"]:
    """Binary labels of any form as numbers from 0 to 1, float32."""
    binary = labels.ndim == 1 and logits.shape[-1] == 1
    dense = jnp.asarray(labels, jnp.float32)[:, None] if binary else _dense(labels, logits.shape[-1])
    chex.assert_equal_shape([logits, dense])
    return dense


def _dense(labels: ClassLabels, num_classes: int) -> Float[Array, "b k"]:
    """Class indices "b" as one-hot rows "b k" float32; dense labels as they are."""
    if labels.ndim == 2:
        return jnp.asarray(labels, jnp.float32)
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    # one_hot gives a row of zeros for an index that is no class, whose loss would look perfect.
    return jnp.where(((labels >= 0) & (labels < num_classes))[:, None], one_hot, jnp.nan)
