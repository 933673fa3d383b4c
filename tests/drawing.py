"""What the laws over losses and metrics feed a function: drawn from what its annotations say its inputs mean.

A loss or metric whose inputs have meanings that are not here yet fails its laws with a KeyError: add a row to `DRAWN`.
"""

import inspect
import itertools
import typing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from research import losses
from research.metrics.boxes import PredictedBoxes, TrueBoxes

# Far beyond any logit a network gives; exp of it overflows float32.
EXTREME = 1e4

Random = np.random.Generator


class Drawn(NamedTuple):
    """Inputs in their order; what the first of them would be if it were perfect; what is no array and goes first."""

    inputs: tuple[Any, ...]
    perfect: Any = None
    bound: tuple[Any, ...] = ()


def _one_hot(index: np.ndarray, k: int) -> np.ndarray:
    return np.eye(k, dtype=np.float32)[index]


def _normal(random: Random, *shape: int, scale: float = 1.0) -> np.ndarray:
    return random.normal(0, scale, shape).astype(np.float32)


def _uniform(random: Random, *shape: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    return random.uniform(low, high, shape).astype(np.float32)


def _index(random: Random, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(0, k, b).astype(np.int32)
    return labels, _one_hot(labels, k)


def _one_hot_rows(random: Random, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    labels = _one_hot(random.integers(0, k, b), k)
    return labels, labels


def _several(random: Random, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(0, 2, (b, k)).astype(np.float32)
    return labels, labels


def _yes_or_no(random: Random, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(0, 2, b).astype(np.int32)
    return labels, labels[:, None].astype(np.float32)


# Meaning of the targets of logits -> form -> a function giving them, and the scores (1 high, 0 low) that predict them.
FORMS: dict[str, dict[str, Any]] = {
    "class labels": {"index": _index, "one_hot": _one_hot_rows},
    "binary labels": {"index": _index, "several": _several, "yes_or_no": _yes_or_no},
}


def draw(meaning: str, form: str, *, seed: int, b: int = 6, k: int = 5) -> tuple[jnp.ndarray, jnp.ndarray, jnp.ndarray]:
    """Moderate logits "b k", labels of that meaning and form, and the logits that predict them perfectly."""
    random = np.random.default_rng(seed)
    (logits, labels), perfect, _ = _classified(meaning, form)(random, b, k)
    return jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(perfect)


def _classified(meaning: str, form: str) -> Callable[..., Drawn]:
    def drawn(random: Random, b: int, k: int = 5) -> Drawn:
        labels, high = FORMS[meaning][form](random, b, 1 if form == "yes_or_no" else k)
        return Drawn((_normal(random, *high.shape, scale=3), labels), EXTREME * (2 * high - 1))

    return drawn


def _signs(random: Random, b: int) -> Drawn:
    signs = 2 * random.integers(0, 2, b).astype(np.int32) - 1
    return Drawn((_normal(random, b, scale=3), signs), EXTREME * signs.astype(np.float32))


def _alike(shape: tuple[int, ...], **options: float) -> Callable[[Random, int], Drawn]:
    """Predictions and targets of one shape, perfect where they are equal, which is where |x| has no slope."""

    def drawn(random: Random, b: int) -> Drawn:
        one, other = (_uniform(random, b, *shape, **options) for _ in range(2))
        apart = np.where(np.abs(one - other) < 0.02, one + 0.05, one).astype(np.float32)
        return Drawn((apart, other), other)

    return drawn


def _cosines(form: str) -> Callable[[Random, int], Drawn]:
    def drawn(random: Random, b: int, k: int = 5) -> Drawn:
        labels, high = FORMS["class labels"][form](random, b, k)
        return Drawn((_uniform(random, b, k, low=-0.9, high=0.9), labels), 2 * high - 1)

    return drawn


def _boxes(random: Random, b: int) -> Drawn:
    """Two that meet, but for the first example's."""
    corner, size = _uniform(random, b, 2, high=4), _uniform(random, b, 2, low=2, high=6)
    truth = np.concatenate([corner, corner + size], axis=-1)
    moved = truth + _uniform(random, b, 4, low=-0.8, high=0.8)
    moved[0] += 20
    return Drawn((moved, truth), truth)


def _objects(grid: tuple[int, ...], sigmoid: bool) -> Callable[[Random, int], Drawn]:
    def drawn(random: Random, b: int, classes: int = 3) -> Drawn:
        present = random.integers(0, 2, (b, *grid, 1)).astype(np.float32)
        box, kind = _uniform(random, b, *grid, 4), random.integers(0, classes, (b, *grid))
        truth = np.concatenate([present, box, _one_hot(kind, classes)], axis=-1)
        sure = EXTREME * (2 * present - 1) if sigmoid else present
        perfect = np.concatenate([sure, box, EXTREME * (2 * _one_hot(kind, classes) - 1)], axis=-1)
        return Drawn((_normal(random, *truth.shape), truth), perfect)

    return drawn


def _heatmaps(random: Random, b: int) -> Drawn:
    points = random.integers(0, 7, (b, 3, 2)).astype(np.float32)
    row, column = np.mgrid[:8, :7].astype(np.float32)
    away = (column[None, :, :, None] - points[:, None, None, :, 0]) ** 2
    away += (row[None, :, :, None] - points[:, None, None, :, 1]) ** 2
    return Drawn((_uniform(random, b, 8, 7, 3), points), np.exp(-away / 2))


def _embeddings(random: Random, b: int) -> Drawn:
    return Drawn((*(_uniform(random, b, 4, low=0.1) for _ in range(2)), random.integers(0, 2, b).astype(np.int32)))


def _triplets(random: Random, b: int) -> Drawn:
    return Drawn(tuple(_normal(random, b, 4) for _ in range(3)))


def _identified(random: Random, b: int) -> Drawn:
    return Drawn((_normal(random, b, 4), (np.arange(b) % 2).astype(np.int32)))


def _overlapping(*space: int) -> Callable[[Random, int], Drawn]:
    def drawn(random: Random, b: int, k: int = 3) -> Drawn:
        truth = _one_hot(random.integers(0, k, (b, *space)), k)
        return Drawn((_uniform(random, *truth.shape, low=0.05, high=0.95), truth), truth)

    return drawn


def _pixels(*space: int) -> Callable[[Random, int], Drawn]:
    def drawn(random: Random, b: int, k: int = 3) -> Drawn:
        labels = random.integers(0, k, (b, *space)).astype(np.int32)
        return Drawn((_normal(random, *labels.shape, k), labels), EXTREME * (2 * _one_hot(labels, k) - 1))

    return drawn


def _instances(random: Random, b: int) -> Drawn:
    (logits, labels), perfect, _ = _pixels(6, 5)(random, b)
    return Drawn((logits, labels, random.integers(0, 3, labels.shape).astype(np.int32)), perfect)


def _pictures(random: Random, b: int) -> Drawn:
    one, other = (_uniform(random, b, 12, 13, 2) for _ in range(2))
    return Drawn((one, other), other)


def _picture_logits(random: Random, b: int) -> Drawn:
    truth = random.integers(0, 2, (b, 5, 4, 2)).astype(np.float32)
    return Drawn((_normal(random, *truth.shape), truth), EXTREME * (2 * truth - 1))


def _features(random: Random, b: int) -> Drawn:
    one, other = ({"conv1": _normal(random, b, 4, 3, 2), "conv2": _normal(random, b, 2, 2, 3)} for _ in range(2))
    return Drawn((one, other), other)


def _latents(random: Random, b: int) -> Drawn:
    log_variances = np.zeros((b, 4), np.float32)
    return Drawn((_normal(random, b, 4), log_variances), np.zeros((b, 4), np.float32))


def _spelled(random: Random, b: int) -> Drawn:
    """Three symbols, no two alike in a row, in eight frames."""
    labels = np.stack([random.permutation(np.arange(1, 5))[:3] for _ in range(b)]).astype(np.int32)
    frames = np.zeros((b, 8), np.int32)
    frames[:, [1, 3, 6]] = labels
    return Drawn((_normal(random, b, 8, 5), labels), EXTREME * (2 * _one_hot(frames, 5) - 1))


def _trajectories(random: Random, b: int) -> Drawn:
    k, t = 3, 4
    return Drawn(
        (_normal(random, b, k), _normal(random, b, k, t, 2), _normal(random, b, k, t, 2), _normal(random, b, t, 2))
    )


def _critic(examples: jnp.ndarray) -> jnp.ndarray:
    """One that is not linear, so that its gradient has one."""
    return jnp.sum(jnp.sin(examples), axis=tuple(range(1, examples.ndim)))


def _real_and_fake(random: Random, b: int) -> Drawn:
    key = np.asarray([0, 7], np.uint32)
    return Drawn((_normal(random, b, 3), _normal(random, b, 3), key), bound=(_critic,))


def _parameters(random: Random, b: int) -> Drawn:
    drawn = {"conv1": {"kernel": _normal(random, 3, 3, 2, 4), "bias": _normal(random, 4)}}
    return Drawn((drawn,), {"conv1": {"kernel": np.zeros((3, 3, 2, 4), np.float32), "bias": _normal(random, 4)}})


def _compared(random: Random, b: int) -> Drawn:
    same = random.integers(0, 2, b).astype(np.int32)
    return Drawn((_normal(random, b).round(1), same), 2 * same.astype(np.float32) - 1)


def _probabilities(random: Random, b: int, k: int = 5) -> Drawn:
    rows = random.gamma(0.5, size=(b, k)).astype(np.float32) + np.float32(1e-3)
    return Drawn((rows / rows.sum(axis=-1, keepdims=True),))


def _segments(random: Random, b: int) -> Drawn:
    """Patches of 3 x 3 pixels, so that some segments of both overlap by more than half."""
    truth = random.integers(-1, 3, (b, 3, 2, 2)).astype(np.int32).repeat(3, axis=1).repeat(3, axis=2)
    moved = np.where(random.random((b, 9, 6, 1)) < 0.2, truth[:, ::-1], truth)
    return Drawn((moved, truth), truth)


def _detected(random: Random, b: int, found: int = 7, objects: int = 4) -> Drawn:
    corner, size = _uniform(random, b, objects, 2, high=60), _uniform(random, b, objects, 2, low=10, high=90)
    truth = np.concatenate([corner, corner + size], axis=-1)
    classes = random.integers(-1, 3, (b, objects)).astype(np.int32)
    which = random.integers(0, objects, (b, found))
    rows = np.arange(b)[:, None]
    places = truth[rows, which] + _uniform(random, b, found, 4, low=-6, high=6)
    predicted = PredictedBoxes(places, _uniform(random, b, found), classes[rows, which])
    return Drawn((predicted, TrueBoxes(truth, classes, random.random((b, objects)) < 0.2)))


WORDS = ("a", "dog", "is", "playing", "running", "in", "the", "park")


def _texts(random: Random, b: int) -> Drawn:
    def texts() -> list[str]:
        return [" ".join(random.choice(WORDS, random.integers(1, 8))) for _ in range(b)]

    targets = texts()
    return Drawn((texts(), targets), targets)


# Meanings of the inputs, in their order -> form -> what draws them for b examples.
DRAWN: dict[tuple[str, ...], dict[str, Callable[..., Drawn]]] = {
    **{("logits", m): {form: _classified(m, form) for form in forms} for m, forms in FORMS.items()},
    ("logits", "logits"): {"": _alike((5,), low=-3, high=3)},
    ("scores", "signs"): {"": _signs},
    ("cosines", "class labels"): {form: _cosines(form) for form in FORMS["class labels"]},
    ("values", "values"): {"numbers": _alike(()), "vectors": _alike((3,)), "maps": _alike((2, 3, 2))},
    ("boxes", "boxes"): {"": _boxes},
    ("offsets", "offsets"): {"": _alike((4,), low=-2, high=2)},
    ("object scores", "objects"): {"": _objects((), sigmoid=False)},
    ("object grid scores", "object grid"): {"": _objects((2, 3), sigmoid=True)},
    ("landmarks", "landmarks"): {"points": _alike((4, 2)), "rows": _alike((8,)), "far": _alike((4, 2), high=40)},
    ("heatmaps", "heatmap points"): {"": _heatmaps},
    ("embeddings", "embeddings", "embeddings"): {"": _triplets},
    ("embeddings", "embeddings", "yes or no"): {"": _embeddings},
    ("embeddings", "identities"): {"": _identified},
    ("pixel probabilities", "pixel truth"): {"pictures": _overlapping(4, 5), "volumes": _overlapping(2, 3, 4)},
    ("pixel logits", "pixel labels"): {"pictures": _pixels(4, 5), "volumes": _pixels(2, 3, 4)},
    ("pixel logits", "pixel labels", "instances"): {"": _instances},
    ("images", "images"): {"": _pictures},
    ("images",): {"": lambda random, b: Drawn((_uniform(random, b, 5, 4, 2),), np.full((b, 5, 4, 2), 0.5, np.float32))},
    ("image logits", "images"): {"": _picture_logits},
    ("features", "features"): {"": _features},
    ("depths", "depths"): {"": _alike((4, 5), low=0.5, high=5)},
    ("disparities", "images"): {
        "": lambda random, b: Drawn(
            (_uniform(random, b, 4, 5, low=0.1), _uniform(random, b, 4, 5, 2)), np.ones((b, 4, 5), np.float32)
        )
    },
    ("latent means", "log variances"): {"": _latents},
    ("encodings", "codes"): {"": _alike((2, 3))},
    ("sequence logits", "symbols"): {"": _spelled},
    ("anchor logits", "anchor offsets", "anchor log scales", "trajectories"): {"": _trajectories},
    ("scores of fake",): {"": lambda random, b: Drawn((_normal(random, b),))},
    ("scores of real", "scores of fake"): {"": lambda random, b: Drawn((_normal(random, b), _normal(random, b)))},
    ("critic", "real examples", "fake examples", "key"): {"": _real_and_fake},
    ("critic", "real examples"): {"": lambda random, b: Drawn((_normal(random, b, 3),), bound=(_critic,))},
    ("parameters",): {"": _parameters},
    ("scores", "yes or no"): {"": _compared},
    ("embeddings",): {"": lambda random, b: Drawn((_normal(random, b, 4) + 3,))},
    ("probabilities",): {"": _probabilities},
    ("segments", "true segments"): {"": _segments},
    ("predicted boxes", "true boxes"): {"": _detected},
    ("texts", "texts"): {"": _texts},
    ("texts", "references"): {"": _texts},
}

# Options that have no default, and others that change what a function computes: what the laws give them.
REQUIRED: dict[str, Any] = {
    "weight": np.asarray([0.5, -1.0, 2.0, 0.3], np.float32),
    "channel_weights": {"conv1": np.asarray([0.2, 1.0], np.float32), "conv2": np.asarray([1.0, 0.0, 0.5], np.float32)},
    "max_instances": 2,
    "num_classes": 3,
    "anchors": np.linspace(-2, 2, 24, dtype=np.float32).reshape(3, 4, 2),
}
VARIED: dict[str, tuple[Any, ...]] = {
    "label_smoothing": (0.1,),
    "gamma": (0.5,),
    "temperature": (4.0,),
    "class_weights": (np.asarray([0.5, 1.0, 3.0], np.float32),),
    "ignore_index": (1,),
    "bins": (4,),
    "k": (2,),
    "power": (2,),
}


class Case(NamedTuple):
    """A function, a form of its inputs, and options that differ from its defaults."""

    name: str
    form: str
    options: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        varied = [f"{name}={value}" for name, value in self.options if name not in REQUIRED and np.ndim(value) == 0]
        return "-".join([self.name, *filter(None, [self.form]), *varied])


def meanings(function: Callable[..., Any]) -> tuple[str, ...]:
    """What the inputs of a function mean, a mask's apart."""
    return tuple(meaning for meaning in losses.meanings(function).values() if meaning != "mask")


def cases(functions: dict[str, Callable[..., Any]]) -> Iterator[Case]:
    """Every function in every form of its inputs, with each value of each option that says which formula it is."""
    for name, function in functions.items():
        parameters = inspect.signature(function).parameters
        hints = typing.get_type_hints(function)
        needed = [option for option, p in parameters.items() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        given = tuple((option, REQUIRED[option]) for option in needed)
        choices: list[tuple[tuple[str, Any], ...]] = [()]
        for option in parameters:
            values = typing.get_args(hints[option]) if typing.get_origin(hints[option]) is typing.Literal else ()
            others = [v for v in (*values, *VARIED.get(option, ())) if v is not parameters[option].default]
            choices += [((option, value),) for value in others]
        for form, choice in itertools.product(DRAWN[meanings(function)], choices):
            yield Case(name, form, given + choice)


def drawn(function: Callable[..., Any], form: str, *, seed: int, b: int = 6) -> Drawn:
    """What one form of a function's inputs is, for b examples, by a seed."""
    return DRAWN[meanings(function)][form](np.random.default_rng(seed), b)
