"""Which examples belong to which part: orders and stratified choices that no library version changes."""

import hashlib

import numpy as np


def order(count: int, *salt: int | str) -> np.ndarray:
    """A permutation of 0..count-1, int64, fixed by `salt` alone; each salt has its own (also (1,) and (1, 0)).

    Sorts raw PCG64 draws: NumPy promises those across versions, and makes no such promise for `Generator.permutation`.
    """
    entropy = int.from_bytes(hashlib.sha256(repr(salt).encode()).digest())
    draws = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(count)
    return np.argsort(draws, kind="stable")


def proportional(counts: np.ndarray, total: int) -> np.ndarray:
    """`total` shared over classes in proportion to `counts`, each share rounded by largest remainder."""
    size = int(counts.sum())
    shares = counts * total // size
    most = np.argsort(-(counts * total % size), kind="stable")[: total - int(shares.sum())]
    shares[most] += 1
    return shares


def balanced(counts: np.ndarray, total: int) -> np.ndarray:
    """`total` shared over classes as evenly as `counts` allows; the last few go to the first classes with some left."""
    shares = np.zeros_like(counts)
    while left := total - int(shares.sum()):
        unfilled = np.flatnonzero(shares < counts)[:left]
        step = max(left // np.count_nonzero(shares < counts), 1)
        shares[unfilled] = np.minimum(shares[unfilled] + step, counts[unfilled])
    return shares


def choose(classes: np.ndarray, shares: np.ndarray, *salt: int | str) -> np.ndarray:
    """Positions (ascending) of `shares[c]` examples of each class c, [n] -> [sum of shares]; fixed by `salt`.

    A larger share of a class contains every smaller one.
    """
    counts = np.bincount(classes, minlength=len(shares))
    shuffled = order(len(classes), *salt)
    grouped = shuffled[np.argsort(classes[shuffled], kind="stable")]
    rank = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(grouped[rank < np.repeat(shares, counts)])


def _classes(labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Class of each example and examples per class; several labels per example count as one class."""
    classes = labels if labels.ndim == 1 else np.zeros(len(labels), np.int32)
    return classes, np.bincount(classes, minlength=num_classes if labels.ndim == 1 else 1)


def hold_out(labels: np.ndarray, num_classes: int, total: int, *salt: int | str) -> tuple[np.ndarray, np.ndarray]:
    """Positions (rest, held out) of a stratified choice of `total` examples, each ascending."""
    classes, counts = _classes(labels, num_classes)
    held = choose(classes, proportional(counts, total), *salt)
    return np.setdiff1d(np.arange(len(labels)), held, assume_unique=True), held


def subset(labels: np.ndarray, num_classes: int, total: int, *salt: int | str) -> np.ndarray:
    """Positions (ascending) of a class-balanced choice of `total` examples; a larger one contains every smaller one."""
    classes, counts = _classes(labels, num_classes)
    return choose(classes, balanced(counts, total), *salt)
