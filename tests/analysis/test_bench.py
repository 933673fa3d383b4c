"""`launch.py bench`: its figures fit together, its table fits on a screen, and wrong words are refused in one line."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import launch
from research import models
from research.analysis import bench, ceiling, memory, workload
from research.scaling import complexity
from research.values import Options

MINE = '''
import flax.linen as nn


class Small(nn.Module):
    """A dense layer between batch norm and the head."""

    num_classes: int = 3
    hidden: int = 8
    input_shape = (6, 5, 2)

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(images.reshape(images.shape[0], -1))
        return nn.Dense(self.num_classes, name="head")(nn.Dense(self.hidden, name="dense")(x))
'''


@pytest.fixture
def mine(tmp_path):
    """A user's own network, by path."""
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return f"{file}:Small"


@pytest.fixture(scope="module")
def measured():
    """LeNet-5, forward and training."""
    listed = bench.works({"lenet5": {}}, passes=bench.PASSES, repeats=2, batch_size=4)
    return [bench.measure(work, cost, 2) for work, cost in listed]


def test_figures_fit_together(measured):
    for one, factor in zip(measured, (1, 3), strict=True):
        row = one.to_json()
        cost = complexity.count(models.create("lenet5"), (1, 32, 32, 1))
        assert row["flops"] == 2 * cost.macs * 4 * factor
        assert (row["params"], row["macs"]) == (61_706, cost.macs)
        assert row["images_per_second"] == 4 / row["step_seconds"]
        assert row["flops_per_second"] == row["flops"] / row["step_seconds"]
        low, high = row["step_seconds_quartiles"]
        assert 0 < low <= row["step_seconds"] <= high
        assert row["compile_seconds"] > 0
        assert row["share_of_matrix_product"] * row["matrix_product_flops_per_second"] == pytest.approx(
            row["flops_per_second"], rel=1e-12
        )  # a product and a quotient of doubles
        parts = row["memory"]
        assert parts["arguments"] + parts["outputs"] + parts["temporaries"] - parts["aliases"] == row["memory_bytes"]


def test_a_train_step_is_given_parameters_momentum_and_a_batch(measured):
    forward, train = (one.prepared.memory for one in measured)
    weights, images = 4 * 61_706, 4 * 4 * 32 * 32
    assert forward.arguments == weights + images
    extra = train.arguments - (2 * weights + images)
    assert 0 < extra < 1024  # labels, mask, step, key, hyperparameters, sums of the task
    assert train.aliases >= 2 * weights  # the state is donated


def test_json_has_an_object_for_each_pass_of_a_users_own_network(capsys, mine):
    words = ["bench", mine, "--batch-size", "2", "--repeats", "1", "--json", "--hidden", "5"]
    assert launch.main(words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["pass"] for row in rows] == ["forward", "train"]
    for row in rows:
        assert (row["model"], row["input_shape"], row["num_classes"]) == (mine, [6, 5, 2], 3)
        assert row["macs"] == 60 * 5 + 5 * 3
        assert row["options"] == {"hidden": 5}
        assert all(row[key] > 0 for key in ("memory_bytes", "peak_rss_bytes", "stream_bytes_per_second", "threads"))


def test_the_table_fits_on_80_columns(measured):
    long = max(models.names(), key=len)
    wide = [
        dataclasses.replace(one, work=dataclasses.replace(one.work, model=long), seconds=(12.3456,)) for one in measured
    ]
    for rows in (measured, wide):
        shown = bench.show(rows, as_json=False).splitlines()
        assert max(map(len, shown)) <= 80
        assert [sum(word in line.split() for line in shown) for word in bench.PASSES] == [1, 1]


REFUSED = [
    (["resnet21"], "resnet20"),
    (["lenet5", "resnet21"], "resnet20"),
    (["resnet20", "--shortcut", "D"], "shortcut"),
    (["lenet5", "--shortcut", "B"], "--num-classes"),
    (["resnet50", "--resolution", "8"], "at least"),
    (["resnet50", "--resolution", "-8"], "at least"),
    (["lenet5", "--batch-size", "0"], "batch_size"),
    (["lenet5", "--num-classes", "0"], "num_classes"),
    (["lenet5", "--repeats", "0"], "--repeats"),
    (["lenet5", "--compute", "float23"], "float32"),
    (["lenet5", "--batchsize", "3"], "--"),
    (["nowhere.py:Net"], "nowhere.py"),
    ([], "MODEL"),
]


@pytest.mark.parametrize(("words", "hint"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_wrong_words_are_refused_before_anything_compiles(words, hint, capsys, monkeypatch):
    monkeypatch.setattr(workload, "prepare", lambda *_: pytest.fail("compiled"))
    assert launch.main(["bench", *words]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert hint in shown.err


def test_a_network_without_a_field_dtype_computes_in_float32_only(capsys, mine):
    assert launch.main(["bench", mine, "--compute", "bfloat16"]) == 2
    assert "dtype" in capsys.readouterr().err


def test_a_network_that_cannot_take_its_images_is_refused(capsys, tmp_path):
    file = tmp_path / "flat.py"
    file.write_text(MINE.replace("(6, 5, 2)", "(4, 4, 1)").replace("images.reshape(images.shape[0], -1)", "images @ 3"))
    assert launch.main(["bench", f"{file}:Small"]) == 2
    shown = capsys.readouterr().err
    assert "(4, 4, 1)" in shown
    assert shown.count("\n") == 1


def test_what_is_compiled_to_be_timed_comes_from_no_cache(monkeypatch):
    before = jax.config.values["jax_enable_compilation_cache"]
    seen = []
    train = workload._forward
    monkeypatch.setattr(
        workload,
        "_forward",
        lambda work: lambda: (seen.append(jax.config.values["jax_enable_compilation_cache"]), train(work)())[1],
    )
    work = workload.Work("resnet8", train=False, batch_size=1, resolution=8, options=Options(width=4))
    prepared = workload.prepare(work, workload.check(work).macs)
    assert seen == [False]
    assert jax.config.values["jax_enable_compilation_cache"] == before
    assert prepared.program.seconds(2) > 0


def test_ceilings_say_how_much_they_do():
    product, stream = ceiling.matrix_product(side=16), ceiling.stream(1000)
    assert (product.amount, stream.amount) == (2 * 16**3, 12 * 1000)
    np.testing.assert_array_equal(stream.call(), 4.0)
    assert product.seconds(3) > 0


def test_the_peak_is_of_what_came_after_it_was_forgotten():
    held = np.ones(2**24)  # 128 MiB
    del held
    before = memory.forget_peak()
    assert before is not None  # on Linux
    assert memory.peak() - before < 2**24
    held = np.ones(2**24)
    assert memory.peak() - before > 2**26
    del held
