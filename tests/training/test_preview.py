"""A preview says what a run would do: the same lengths and rates, group by group."""

from dataclasses import replace

import numpy as np
import pytest

import configs
from research.config import DataConfig, OptimizerConfig, ScheduleConfig
from research.training import preview, resolve
from research.training.schedule import SCHEDULES
from research.values import Duration


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_preview_has_the_rates_of_the_run(name):
    base = configs.load("digits:resnet8")
    warmup = Duration(0 if name == "one_cycle" else 1.5, "epochs")
    cfg = replace(
        base,
        optimizer=replace(base.optimizer, batch_scaling="sqrt", groups=("head=0.5",)),
        schedule=ScheduleConfig(name, warmup=warmup, every=Duration(2.4, "epochs")),
    )
    seen, run = preview.preview(cfg), resolve.resolve(cfg)
    np.testing.assert_array_equal(seen.rates, run.rates())
    assert (seen.steps, seen.warmup, seen.peak) == (run.steps, run.warmup, run.peak)
    assert seen.epoch(seen.steps) == run.epoch(run.steps)


def test_every_parameter_is_in_one_group():
    base = configs.load("digits:lenet5")
    cfg = replace(base, optimizer=OptimizerConfig(groups=("conv1/bias=0", "*/bias=2", "conv1=0.5")))
    groups = {group.label: (group.factor, group.parameters) for group in preview.preview(cfg).groups}
    # LeNet-5 as here: conv1 has 6 biases and 5 x 5 x 6 weights, all biases are 236, and all of it is 61,706.
    assert groups["conv1/bias"] == (0.0, 6)
    assert groups["*/bias"] == (2.0, 230)
    assert groups["conv1"] == (0.5, 150)
    assert groups["the rest"] == (1.0, 61_706 - 236 - 150)


def test_moments_are_counted_as_records_count_them():
    """The rate of record s is what step s was taken with; the quarters are of the budget."""
    base = configs.load("digits:lenet5")
    schedule = ScheduleConfig("polynomial", warmup=Duration(4), final=0.5)
    cfg = replace(
        base,
        data=DataConfig(batch_size=719),
        schedule=schedule,
        budget=replace(base.budget, train=Duration(12)),
        optimizer=OptimizerConfig(learning_rate=1.0),
    )
    seen = preview.preview(cfg)
    assert seen.moments() == {"start": 1, "end of warmup": 4, "peak": 4, "1/4": 3, "half": 6, "3/4": 9, "end": 12}
    found = {row["at"]: (row["epoch"], row["rates"]["all"]) for row in seen.as_dict()["rows"]}
    # Two steps are an epoch of 1,438. After the warmup, 1 - 0.5 x (s - 1 - 4) / 8 at record s.
    assert found["1/4"] == (1.5, 0.75)
    assert found["end of warmup"] == (2.0, 1.0)
    assert found["half"] == (3.0, 0.9375)
    assert found["end"] == (6.0, 0.5625)
