"""Schedules against their closed forms at drawn lengths, at their corners, and in very long runs."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.config import ScheduleConfig
from research.errors import UserError
from research.training import schedule
from research.values import Duration


def rates(cfg: ScheduleConfig, *, peak=1.0, steps=8, warmup=0, every=Fraction(1)) -> np.ndarray:
    return schedule.rates(cfg, peak=peak, steps=steps, warmup=warmup, every=every)


def closed_form(cfg: ScheduleConfig, step: int, *, steps: int, warmup: int, every: Fraction) -> float:
    """The factor on the peak after the warmup, one step at a time."""
    progress = (step - warmup) / (steps - warmup)
    if cfg.name == "constant":
        return 1.0
    if cfg.name == "step":
        return math.prod([cfg.factor] * sum(step >= math.floor(share * steps + 0.5) for share in cfg.boundaries))
    if cfg.name == "exponential":
        return cfg.factor ** (math.floor(step / every) if cfg.staircase else float(step / every))
    if cfg.name == "cosine":
        return cfg.final + (1 - cfg.final) * (1 + math.cos(math.pi * progress)) / 2
    if cfg.name == "polynomial":
        return cfg.final + (1 - cfg.final) * (1 - progress) ** cfg.power
    top = math.floor(cfg.rise * steps + 0.5)
    if step < top:
        return cfg.initial + (1 - cfg.initial) * (1 - math.cos(math.pi * step / top)) / 2
    return cfg.final + (1 - cfg.final) * (1 + math.cos(math.pi * (step - top) / (steps - top))) / 2


SHARES = st.floats(0, 1)
CONFIGS = {
    "constant": st.builds(ScheduleConfig, st.just("constant")),
    "step": st.builds(
        ScheduleConfig,
        st.just("step"),
        boundaries=st.lists(SHARES, max_size=4, unique=True).map(lambda shares: tuple(sorted(shares))),
        factor=st.floats(0.01, 2),
    ),
    "exponential": st.builds(
        ScheduleConfig, st.just("exponential"), factor=st.floats(0.5, 1.05), staircase=st.booleans()
    ),
    "cosine": st.builds(ScheduleConfig, st.just("cosine"), final=SHARES),
    "polynomial": st.builds(ScheduleConfig, st.just("polynomial"), final=SHARES, power=st.floats(0.1, 5)),
    "one_cycle": st.builds(ScheduleConfig, st.just("one_cycle"), initial=SHARES, rise=SHARES, final=SHARES),
}


@pytest.mark.parametrize("name", schedule.SCHEDULES)
@given(data=st.data())
def test_every_schedule_is_its_closed_form(name, data):
    cfg = data.draw(CONFIGS[name])
    steps = data.draw(st.integers(1, 300))
    warmup = 0 if name == "one_cycle" else data.draw(st.integers(0, steps - 1))
    every = data.draw(st.fractions(Fraction(1, 2), 100, max_denominator=999))
    peak = data.draw(st.floats(1e-3, 10))
    got = rates(cfg, peak=peak, steps=steps, warmup=warmup, every=every)
    assert got.dtype == np.float32
    assert got.shape == (steps,)
    after = [closed_form(cfg, s, steps=steps, warmup=warmup, every=every) for s in range(warmup, steps)]
    expected = [(s + 1) / warmup for s in range(warmup)] + after
    # One rounding to float32; near 0 the cosine is a difference of numbers near 1, in float64.
    np.testing.assert_allclose(got, peak * np.array(expected), rtol=1e-7, atol=1e-15 * peak)
    if warmup:
        assert got[warmup - 1] == np.float32(peak)


@pytest.mark.parametrize("name", schedule.SCHEDULES)
def test_one_step_is_enough(name):
    cfg = ScheduleConfig(name)
    assert rates(cfg, steps=1).tolist() == [1.0]


def test_schedules_at_their_corners():
    assert rates(ScheduleConfig("constant"), peak=0.5, steps=3).tolist() == [0.5, 0.5, 0.5]
    stepped = ScheduleConfig("step", boundaries=(0.5, 0.75), factor=0.5)
    assert rates(stepped).tolist() == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert rates(stepped, warmup=2).tolist() == [0.5, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert rates(stepped, steps=2).tolist() == [1, 0.5]  # 0.5 x 2 and 0.75 x 2, of two equally near the later
    stairs = ScheduleConfig("exponential", factor=0.5)
    # Counted from step 0: the warmup ends below the peak where a stair fell into it.
    assert rates(stairs, every=Fraction(3), warmup=4).tolist() == [0.25, 0.5, 0.75, 1, 0.5, 0.5, 0.25, 0.25]
    assert rates(stairs, every=Fraction(5, 2), steps=6).tolist() == [1, 1, 1, 0.5, 0.5, 0.25]
    smooth = ScheduleConfig("exponential", factor=0.25, staircase=False)
    assert rates(smooth, every=2.0, steps=5).tolist() == [1, 0.5, 0.25, 0.125, 0.0625]
    linear = ScheduleConfig("polynomial", final=0.5)
    assert rates(linear, steps=5, warmup=1).tolist() == [1, 1, 0.875, 0.75, 0.625]
    assert rates(ScheduleConfig("polynomial", power=2.0), steps=4).tolist() == [1, 0.5625, 0.25, 0.0625]
    # Loshchilov and Hutter 2016, equation 5: the middle is half way, and the end is one step after the last.
    cosine = rates(ScheduleConfig("cosine", final=0.5), steps=4)
    assert cosine[[0, 2]].tolist() == [1, 0.75]
    cycle = rates(ScheduleConfig("one_cycle", initial=0.5, rise=0.25), steps=16)
    assert cycle[[0, 2, 4, 10]].tolist() == [0.5, 0.75, 1, 0.5]
    assert cycle.argmax() == 4


def test_half_a_million_steps_are_exact():
    """Every rate is the float32 nearest to the closed form in float64, or its neighbour."""
    steps, warmup = 500_000, 12_345
    every = Duration(2.4, "epochs").exact(examples=1_281_167, batch_size=256)  # EfficientNet's
    for name in schedule.SCHEDULES:
        cfg = ScheduleConfig(name, factor=0.97)
        rise = 0 if name == "one_cycle" else warmup
        got = rates(cfg, steps=steps, warmup=rise, every=every)
        for step in (rise, rise + 1, 150_000, 249_999, 333_333, 499_998, 499_999):
            exact = closed_form(cfg, step, steps=steps, warmup=rise, every=every)
            # Half a unit of float32; the cosine's last rates, 1e-11 of the peak, keep 5 digits of float64's 16.
            assert got[step] == pytest.approx(exact, rel=6e-8, abs=1e-16), (name, step)
        assert not np.any(np.isnan(got))
    smooth = rates(ScheduleConfig("cosine"), steps=steps)
    assert np.all(np.diff(smooth) <= 0)


def test_stairs_fall_on_the_step_that_decimals_say():
    """0.1 epochs are a tenth: the tenth stair begins with the second epoch, though the float 0.1 is a little more."""
    every = Duration(0.1, "epochs").exact(examples=10_000, batch_size=10)
    got = rates(ScheduleConfig("exponential", factor=0.5), steps=1001, every=every)
    assert got[[999, 1000]].tolist() == [0.5**9, 0.5**10]
    assert rates(ScheduleConfig("exponential", factor=0.5), steps=31, every=0.1)[[1, 3]].tolist() == [0.5**10, 0.5**30]


@pytest.mark.parametrize(
    ("cfg", "lengths", "hint"),
    [
        (ScheduleConfig("cosin"), {}, "nearest: cosine"),
        (ScheduleConfig("cosine"), {"warmup": 8}, "schedule.warmup is 8 steps of a budget of 8"),
        (ScheduleConfig("one_cycle"), {"warmup": 1}, "expected 0"),
        (ScheduleConfig("step", boundaries=(0.7, 0.5)), {}, "expected increasing"),
        (ScheduleConfig("step", boundaries=(0.5, 0.5)), {}, "expected increasing"),
        (ScheduleConfig("exponential", every=Duration(0)), {"every": Fraction(0)}, "schedule.every is 0 steps"),
        (ScheduleConfig("exponential", factor=1e9), {"steps": 200}, "expected less"),
    ],
)
def test_contradictions_are_refused(cfg, lengths, hint):
    with pytest.raises(UserError, match=hint):
        rates(cfg, **lengths)
