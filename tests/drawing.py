"""What the laws over losses and metrics feed a function: drawn from what its annotations say its inputs mean.

A loss or metric whose inputs have a meaning that is not here yet fails its laws with a KeyError: add the meaning.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

# Far beyond any logit a network gives; exp of it overflows float32.
EXTREME = 1e4


def _one_hot(index: np.ndarray, k: int) -> np.ndarray:
    return np.eye(k, dtype=np.float32)[index]


def _index(random: np.random.Generator, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(0, k, b).astype(np.int32)
    return labels, _one_hot(labels, k)


def _one_hot_rows(random: np.random.Generator, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    labels = _one_hot(random.integers(0, k, b), k)
    return labels, labels


def _several(random: np.random.Generator, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(0, 2, (b, k)).astype(np.float32)
    return labels, labels


def _yes_or_no(random: np.random.Generator, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(0, 2, b).astype(np.int32)
    return labels, labels[:, None].astype(np.float32)


# Meaning of the targets -> form -> a function giving them, and the scores (1 high, 0 low) that predict them perfectly.
FORMS: dict[str, dict[str, Any]] = {
    "class labels": {"index": _index, "one_hot": _one_hot_rows},
    "binary labels": {"index": _index, "several": _several, "yes_or_no": _yes_or_no},
}


def draw(meaning: str, form: str, *, seed: int, b: int = 6, k: int = 5) -> tuple[jnp.ndarray, jnp.ndarray, jnp.ndarray]:
    """Moderate logits "b k", labels of that meaning and form, and the logits that predict them perfectly."""
    random = np.random.default_rng(seed)
    labels, high = FORMS[meaning][form](random, b, 1 if form == "yes_or_no" else k)
    logits = random.normal(0, 3, high.shape).astype(np.float32)
    return jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(EXTREME * (2 * high - 1))
