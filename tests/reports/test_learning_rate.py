"""The figure of a learning rate: what is drawn stands for what is not, in each kind of file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.config import ScheduleConfig
from research.errors import UserError
from research.reports import learning_rate
from research.training import schedule

SHAPES = {
    "step": ScheduleConfig("step", boundaries=(0.31, 0.77)),
    "exponential": ScheduleConfig("exponential", factor=0.8),
    "cosine": ScheduleConfig("cosine"),
    "one_cycle": ScheduleConfig("one_cycle"),
}


@pytest.mark.parametrize("name", SHAPES)
@given(steps=st.integers(1, 200_000), warmup=st.integers(0, 5000))
def test_what_is_not_drawn_lies_on_what_is(name, steps, warmup):
    warmup = 0 if name == "one_cycle" else min(warmup, steps - 1)
    rates = schedule.rates(SHAPES[name], peak=1.0, steps=steps, warmup=warmup, every=steps / 20)
    kept = learning_rate.places(rates)
    assert len(kept) <= 3 * learning_rate.POINTS + 2
    assert {0, steps - 1} <= set(kept.tolist())
    between = np.interp(np.arange(steps), kept, rates[kept])
    # Two hundredths of the height: less than the line is thick. Between points 1/800 apart nothing turns faster.
    assert np.max(np.abs(between - rates)) <= 0.02


START = {".svg": b"<svg", ".png": b"\x89PNG\r\n", ".html": b"<!DOCTYPE html>"}


@pytest.mark.parametrize("suffix", learning_rate.SUFFIXES)
def test_every_ending_gives_its_kind_of_file(suffix, tmp_path):
    target = learning_rate.check_target(tmp_path / f"rate{suffix}")
    factors = {"frozen part": 0.0, "*/bias": 2.0, "the rest": 1.0}
    rates = np.linspace(0.1, 1, 10, dtype=np.float32)
    learning_rate.draw(target, rates, title="A title", subtitle="of it", factors=factors, warmup=4, epochs=2.5)
    content = target.read_bytes()
    assert content.startswith(START[suffix])
    if suffix == ".svg":
        text = content.decode()
        assert all(words in text for words in ("A title", "of it", "*/bias \u00d7 2", "the rest \u00d7 1", "epoch"))
        assert "frozen part" not in text  # what is frozen has no rate to draw


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        learning_rate.draw(
            tmp_path / "gone" / "rate.svg",
            np.ones(3, np.float32),
            title="",
            subtitle="",
            factors={"all": 1.0},
            warmup=0,
            epochs=None,
        )
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        learning_rate.check_target(tmp_path / "folder.svg")
