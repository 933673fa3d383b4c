"""Laws of every task, found by walking the folder, and classification's numbers and refusals."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import losses, metrics, tasks
from research.config import TaskConfig
from research.errors import UserError
from tests.drawing import draw, drawn


@dataclass(frozen=True)
class Described:
    """What a task is told about its data."""

    name: str = "drawn"
    num_classes: int = 6
    multi_label: bool = False
    labels: str = "class"


SINGLE, SEVERAL = Described(), Described(multi_label=True)
SIGMOID = "sigmoid_binary_cross_entropy"
# Each task with the data that it is about: a new one fails here until it has a row.
DATA = {
    "classification": [({}, SINGLE), ({"loss": SIGMOID}, SINGLE), ({"loss": SIGMOID}, SEVERAL)],
    "localization": [
        ({"loss": "localization_loss"}, Described(num_classes=3, labels="object")),
        ({"loss": "localization_loss", "lambda_coord": 5.0}, Described(num_classes=3, labels="object")),
    ],
    "landmarks": [({"loss": loss}, Described(num_classes=4, labels="landmarks")) for loss in ("landmark_mse", "wing")],
}
EVERY = [(TaskConfig(name=name, **options), info) for name in tasks.names() for options, info in DATA[name]]
OUTPUTS = {"object": ("localization_loss", ""), "landmarks": ("landmark_mse", "rows")}
SUMS = ("loss", "negative_log_likelihood", "iou", "nme", "pck05", "pck10")  # of float32 numbers, in another order
every_task = pytest.mark.parametrize(
    ("cfg", "info"), EVERY, ids=[f"{c.name}-{c.loss}-{i.multi_label}" for c, i in EVERY]
)


def _batch(info: Described, seed: int = 0, b: int = 10) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    if info.labels != "class":
        function, form = OUTPUTS[info.labels]
        outputs, labels = drawn(losses.get(function), form, seed=seed, b=b).inputs
        labels[0] = np.where(np.arange(labels.shape[1]) < 1, 1, labels[0]) if info.labels == "object" else labels[0]
        return jnp.asarray(outputs), {"label": jnp.asarray(labels), "mask": jnp.ones(b), "index": jnp.arange(b)}
    meaning = ("binary labels", "several") if info.multi_label else ("class labels", "index")
    logits, labels, _ = draw(*meaning, seed=seed, b=b, k=info.num_classes)
    return logits, {"label": labels, "mask": jnp.ones(b), "index": jnp.arange(b)}


@every_task
def test_the_loss_is_per_example_and_the_loss_value_is_its_mean(cfg: TaskConfig, info: Described) -> None:
    task = tasks.create(cfg, info)
    outputs, batch = _batch(info)
    assert isinstance(task, tasks.Task)
    assert outputs.shape[-1] == task.num_outputs
    values = task.loss(outputs, batch)
    chex.assert_shape(values, (len(outputs),))
    chex.assert_type(values, jnp.float32)
    for train in (True, False):
        statistics = task.statistics(outputs, batch, train=train)
        # A sum in float32 against one in float64.
        assert task.values(statistics)["loss"] == pytest.approx(np.asarray(values, np.float64).mean(), rel=1e-6)


@every_task
def test_the_values_are_plain_and_hold_the_best_metric(cfg: TaskConfig, info: Described) -> None:
    task = tasks.create(cfg, info)
    outputs, batch = _batch(info)
    evaluated = task.values(task.statistics(outputs, batch, train=False))
    trained = task.values(task.statistics(outputs, batch, train=True))
    assert json.loads(json.dumps(evaluated, allow_nan=False)) == evaluated
    assert isinstance(evaluated[task.metric], float)
    assert {"loss"} < trained.keys() < evaluated.keys()
    assert all(trained[key] == evaluated[key] for key in trained)


@every_task
def test_padding_and_splitting_change_no_value(cfg: TaskConfig, info: Described) -> None:
    task = tasks.create(cfg, info)
    outputs, batch = _batch(info)
    statistics = jax.jit(functools.partial(task.statistics, train=False))
    whole = task.values(statistics(outputs, batch))
    rows = np.arange(12).reshape(3, 4) % 10  # three batches of 4, the last with two padded
    parts = [
        statistics(outputs[row], {**{k: v[row] for k, v in batch.items()}, "mask": jnp.asarray(mask, jnp.float32)})
        for row, mask in zip(rows, [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]], strict=True)
    ]
    merged = task.values(functools.reduce(metrics.merge, parts))
    # Everything that is a count is equal to the bit; the losses are float32 sums in another order.
    assert merged == {name: pytest.approx(value, rel=1e-6) if name in SUMS else value for name, value in whole.items()}


@every_task
def test_no_examples_give_zeros_and_not_nan(cfg: TaskConfig, info: Described) -> None:
    task = tasks.create(cfg, info)
    outputs, batch = _batch(info)
    values = task.values(task.statistics(outputs, {**batch, "mask": jnp.zeros(10)}, train=False))
    assert not any(np.any(value) for value in values.values())


def _values(info: Described, outputs: list[Any], labels: list[Any], **options: Any) -> dict[str, Any]:
    task = tasks.create(TaskConfig(**options), info)
    batch = {"label": jnp.asarray(labels), "mask": jnp.ones(len(labels))}
    return task.values(task.statistics(jnp.asarray(outputs), batch, train=False))


def test_one_class_per_example_by_hand() -> None:
    three = Described(num_classes=3)
    values = _values(three, [[9.0, 0, 0], [9.0, 0, 0], [0, 9.0, 0], [0, 9.0, 8.0]], [0, 1, 1, 2])
    assert values["top1"] == 0.5
    assert values["top5"] == 1.0
    assert values["confusion_matrix"] == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert values["per_class_precision"] == [0.5, 0.5, 0.0]
    assert values["per_class_recall"] == [1.0, 0.5, 0.0]
    assert values["per_class_f1"] == pytest.approx([2 / 3, 0.5, 0.0])
    assert values["macro_f1"] == pytest.approx((2 / 3 + 0.5) / 3)
    assert tasks.create(TaskConfig(), three).metric == "top1"


def test_any_number_of_classes_by_hand() -> None:
    two = Described(num_classes=2, multi_label=True)
    values = _values(two, [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], loss=SIGMOID)
    assert values["subset_accuracy"] == pytest.approx(1 / 3)
    assert values["per_class_precision"] == [1.0, 0.5]
    assert values["per_class_recall"] == [1.0, 0.5]
    assert values["macro_f1"] == 0.75
    assert values["micro_f1"] == 0.75
    assert "top1" not in values
    assert tasks.create(TaskConfig(loss=SIGMOID), two).metric == "macro_f1"


def test_label_smoothing_reaches_the_loss_and_not_the_likelihood() -> None:
    outputs, batch = _batch(SINGLE)
    plain, smoothed = (tasks.create(TaskConfig(label_smoothing=a), SINGLE) for a in (0.0, 0.1))
    expected = losses.softmax_cross_entropy(outputs, batch["label"], label_smoothing=0.1)
    np.testing.assert_array_equal(smoothed.loss(outputs, batch), expected)
    one, other = (task.values(task.statistics(outputs, batch, train=False)) for task in (plain, smoothed))
    assert one["negative_log_likelihood"] == other["negative_log_likelihood"] == one["loss"] != other["loss"]


@pytest.mark.parametrize(
    ("options", "info", "message"),
    [
        ({"name": "clasification"}, SINGLE, "unknown task 'clasification'; nearest: classification"),
        ({"loss": "softmax_entropy"}, SINGLE, "unknown loss 'softmax_entropy'; nearest: softmax_cross_entropy"),
        ({}, SEVERAL, "'softmax_cross_entropy' does not fit data 'drawn', which has several classes per example"),
        ({}, SEVERAL, "expected focal or sigmoid_binary_cross_entropy"),
    ],
)
def test_contradictions_are_refused_in_one_line(options: dict[str, str], info: Described, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        tasks.create(TaskConfig(**options), info)
    assert "\n" not in str(refused.value)


def test_a_loss_of_the_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def squared(outputs, labels):\n    return ((outputs - labels[:, None]) ** 2).sum(axis=-1)\n")
    task = tasks.create(TaskConfig(loss=f"{file}:squared"), SINGLE)
    outputs, batch = _batch(SINGLE)
    np.testing.assert_allclose(task.loss(outputs, batch), ((outputs - batch["label"][:, None]) ** 2).sum(axis=-1))
    with pytest.raises(
        UserError, match=r"task.label_smoothing is 0.1; loss '.*mine.py:squared' has no label smoothing"
    ):
        tasks.create(TaskConfig(loss=f"{file}:squared", label_smoothing=0.1), SINGLE)


def test_localization_by_hand() -> None:
    two = Described(num_classes=2, labels="object")
    # Found well; found by a quarter (0.5 x 0.5 of 1 x 1) with the wrong class; nothing there, and so said.
    labels = [[1, 0.5, 0.5, 0.4, 0.4, 1, 0], [1, 0.5, 0.5, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0]]
    outputs = [[0.9, 0.5, 0.5, 0.4, 0.4, 3, 1], [0.8, 0.5, 0.5, 0.5, 0.5, 3, 1], [0.2, 0.9, 0.9, 9.0, 9.0, 3, 1]]
    labels, outputs = ([[float(n) for n in row] for row in rows] for rows in (labels, outputs))
    values = _values(two, outputs, labels, name="localization", loss="localization_loss")
    assert values["accuracy"] == pytest.approx(2 / 3)
    assert values["iou"] == pytest.approx((1 + 0.25) / 2)
    assert (values["iou50"], values["iou70"], values["iou90"]) == (0.5, 0.5, 0.5)
    task = tasks.create(TaskConfig("localization", "localization_loss"), two)
    wrong = task.errors(jnp.asarray(outputs), {"label": jnp.asarray(labels)})
    assert wrong.tolist() == [0, 1, 0]
    assert task.metric == "iou"
    assert task.num_outputs == 7


def test_landmarks_by_hand() -> None:
    two = Described(num_classes=2, labels="landmarks")
    # A box of 0.4 x 0.4 around two points; one of them is missed by 0.03, which is 0.075 of its side.
    labels, outputs = [[0.2, 0.2, 0.6, 0.6]], [[0.2, 0.2, 0.6, 0.63]]
    values = _values(two, outputs, labels, name="landmarks", loss="landmark_mse")
    assert values["nme"] == pytest.approx(0.03 / 0.4 / 2, rel=1e-5)  # float32
    assert (values["pck05"], values["pck10"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("cfg", "info", "words"),
    [
        (TaskConfig("localization", "localization_loss"), SINGLE, "task 'localization' does not fit data 'drawn'"),
        (TaskConfig(), Described(labels="object"), "does not fit data 'drawn', which has one object each"),
        (TaskConfig("localization"), Described(labels="object"), "which has one object each; expected localiz"),
        (
            TaskConfig("landmarks", "softmax_cross_entropy"),
            Described(labels="landmarks"),
            "expected landmark_mse or wing",
        ),
    ],
)
def test_a_task_that_is_not_about_the_data_is_refused(cfg: TaskConfig, info: Described, words: str) -> None:
    with pytest.raises(UserError, match=words):
        tasks.create(cfg, info)
