"""Labels, filters, and grids written on the command line."""

import pytest

from research.config import Config, replace
from research.errors import UserError
from research.sweeps import plan
from research.sweeps.plan import Planned, axis, grid
from research.values import Duration

BASE = replace(Config(), **{"model.name": "resnet8", "seed": 3})


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("optimizer.learning_rate=0.1,0.2,1", "optimizer.learning_rate", [0.1, 0.2, 1.0]),
        ("optimizer.learning-rate=1e-3", "optimizer.learning_rate", [0.001]),
        ("data.batch_size=32:128:32", "data.batch_size", [32, 64, 96, 128]),
        ("data.batch_size=32:120:32", "data.batch_size", [32, 64, 96]),
        ("optimizer.momentum=0.1:0.3:0.1", "optimizer.momentum", [0.1, 0.2, 0.3]),
        ("optimizer.momentum=range(0, 0.9, 4)", "optimizer.momentum", [0.0, 0.3, 0.6, 0.9]),
        ("model.name=resnet8,plain8", "model.name", ["resnet8", "plain8"]),
        ("model.width=4,8", "model.width", [4, 8]),
        ("model.shortcut=A,B", "model.shortcut", ["A", "B"]),
        ("augmentation.flip=true,False", "augmentation.flip", [True, False]),
        ("data.resolution=null,16", "data.resolution", [None, 16]),
        ("budget.train=2 epochs,300 steps", "budget.train", [Duration(2, "epochs"), Duration(300, "steps")]),
        ("budget.train=100:300:100", "budget.train", [Duration(100), Duration(200), Duration(300)]),
        ("schedule.boundaries=[0.5,0.75],[0.3]", "schedule.boundaries", [(0.5, 0.75), (0.3,)]),
        ("data.name=123", "data.name", ["123"]),
    ],
)
def test_an_axis_has_the_values_and_the_type_of_its_key(text: str, key: str, values: list[object]) -> None:
    found = axis(BASE, text)
    assert found == (key, values)
    assert [type(value) for value in found[1]] == [type(value) for value in values]


def test_log_draws_are_log_uniform_and_always_the_same() -> None:
    _, draws = axis(BASE, "optimizer.learning_rate=log(1e-3,1e-1,200)")
    assert axis(BASE, "optimizer.learning_rate=log(1e-3,1e-1,200)")[1] == draws
    assert axis(BASE, "optimizer.learning_rate=log(1e-3,1e-1,5)")[1] == draws[:5], "a longer row begins with a shorter"
    assert axis(BASE, "optimizer.weight_decay=log(1e-3,1e-1,5)")[1] != draws[:5], "axes are drawn independently"
    assert all(1e-3 <= draw <= 1e-1 for draw in draws)
    # A half of a log-uniform sample lies below the geometric mean: 100 of 200, give or take 4 deviations of 7.
    assert abs(sum(draw < 1e-2 for draw in draws) - 100) < 28
    # These very draws name runs that people have on disk.
    assert draws[:2] == FIRST_DRAWS


FIRST_DRAWS = [0.002425, 0.01417]


def test_draws_for_a_whole_number_are_whole() -> None:
    _, draws = axis(BASE, "data.batch_size=log(8,512,4)")
    assert all(type(draw) is int and 8 <= draw <= 512 for draw in draws)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimizer.learning_rat=0.1", "optimizer.learning_rate"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate is 'fast'"),
        ("optimizer.learning_rate=-1,1", "optimizer.learning_rate is -1"),
        ("data.batch_size=1.5", "data.batch_size is 1.5"),
        ("data.batch_size=8:4:1", "'data.batch_size'.*LOW:HIGH:STEP"),
        ("data.batch_size=4:8:0", "'data.batch_size'.*STEP > 0"),
        ("data.batch_size=1:1000000000:1", "'data.batch_size'"),
        ("optimizer.learning_rate=log(0,1,3)", "'optimizer.learning_rate'.*LOW > 0"),
        ("optimizer.learning_rate=range(0,1,1)", "'optimizer.learning_rate'"),
        ("optimizer.learning_rate=range(0,1)", "'optimizer.learning_rate'"),
        ("optimizer.learning_rate=0.1,0.1", "twice"),
        ("model.widht=4", "model.width"),
        ("model.width=wide", "model.width is 'wide'"),
        ("model.width=0", "model.width is 0"),
        ("optimizer.learning_rate", "KEY="),
        ("=1", "KEY="),
        ("optimizer=1", "optimizer"),
    ],
)
def test_a_wrong_axis_is_refused_in_one_line_that_names_its_key(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        axis(BASE, text)
    assert "\n" not in str(caught.value)


def test_a_grid_is_every_combination_at_every_seed() -> None:
    planned = grid(BASE, ["optimizer.learning_rate=0.1,0.2", "model.width=4,8"], seeds=2)
    assert [p.label for p in planned][:3] == [
        "learning_rate=0.1,width=4/10epochs/3",
        "learning_rate=0.1,width=4/10epochs/4",
        "learning_rate=0.1,width=8/10epochs/3",
    ]
    assert len(planned) == 8
    assert planned[-1].config == replace(BASE, **{"optimizer.learning_rate": 0.2, "model.width": 8, "seed": 4})
    plan.check(planned)


def test_a_grid_may_vary_the_seed_or_nothing() -> None:
    assert [p.label for p in grid(BASE, ["seed=5,7"])] == ["base/10epochs/5", "base/10epochs/7"]
    assert [p.label for p in grid(BASE, [], seeds=2)] == ["base/10epochs/3", "base/10epochs/4"]
    with pytest.raises(UserError, match="seed"):
        grid(BASE, ["seed=5,7"], seeds=2)
    with pytest.raises(UserError, match="seeds is 0"):
        grid(BASE, [], seeds=0)


def test_keys_with_the_same_last_word_stay_apart() -> None:
    (planned,) = grid(BASE, ["data.name=digits", "model.name=plain8"])
    assert planned.arm == "data.name=digits,model.name=plain8"


def test_a_grid_that_repeats_a_run_is_refused() -> None:
    with pytest.raises(UserError, match=r"budget\.log_every.*the same run"):
        grid(BASE, ["budget.log_every=1,2"])
    with pytest.raises(UserError, match="twice"):
        grid(BASE, ["seed=1", "seed=2"])


PLAN = [Planned(arm, f"depth{depth}", 0, Config()) for arm in ("plain", "residual_a") for depth in (8, 20)]


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        (None, ["plain/depth8/0", "plain/depth20/0", "residual_a/depth8/0", "residual_a/depth20/0"]),
        ("plain*", ["plain/depth8/0", "plain/depth20/0"]),
        ("*/depth8/*", ["plain/depth8/0", "residual_a/depth8/0"]),
        ("plain/depth8/0", ["plain/depth8/0"]),
        ("[!p]*depth20*", ["residual_a/depth20/0"]),
    ],
)
def test_a_filter_matches_labels(pattern: str | None, labels: list[str]) -> None:
    assert [p.label for p in plan.select(PLAN, pattern)] == labels


def test_a_filter_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="plain/depth8/0"):
        plan.select(PLAN, "plane/depth8/*")


def test_plans_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(UserError, match="no runs"):
        plan.check([])
    with pytest.raises(UserError, match="twice"):
        plan.check([PLAN[0], PLAN[0]])
    with pytest.raises(UserError, match="seed"):
        plan.check([Planned("plain", "depth8", 1, Config())])


@pytest.mark.parametrize(
    ("axes", "seeds", "hint"),
    [
        (["seed=0:1e999999:1"], 1, "not a range"),
        (["optimizer.learning_rate=log(1,1e999999999,3)"], 1, "not a range"),
        (["optimizer.learning_rate=range(0.001,1,9999)", "seed=0:9998:1"], 1, "expected at most 100000"),
        (["optimizer.learning_rate=0.1,0.2"], 10**12, "expected at most"),
        (["seed=" + "[" * 10**5], 1, "seed"),
    ],
)
def test_a_grid_without_an_end_is_refused_at_once(axes, seeds, hint):
    with pytest.raises(UserError, match=hint):
        grid(Config(), axes, seeds=seeds)
