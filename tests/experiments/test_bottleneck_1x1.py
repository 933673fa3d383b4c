"""Bottlenecks of 1x1: the papers' own arithmetic at full scale, equal cost, and what the report claims."""

import dataclasses
import functools
from typing import Any

import pytest

from experiments import bottleneck_1x1 as study
from research.reports import arms
from research.scaling import match
from research.sweeps import predict
from research.sweeps.results import Result


@functools.cache
def rows(scale: str) -> dict[tuple[str, str], dict[str, Any]]:
    planned = [p for p in study.runs(scale) if p.seed == 0 and "," not in p.budget]
    return {(row["arm"], row["budget"]): row for row in predict.rows(planned)}


@pytest.mark.parametrize("scale", ["smoke", "small"])
def test_every_arm_has_its_twin_at_the_cost_of_the_reference(scale: str) -> None:
    for name, chosen in study.SETTINGS[scale].topics.items():
        topic = study.TOPICS[name]
        target = rows(scale)[f"{name}_{topic.reference}", study.REFERENCE]["macs"]
        for arm in chosen:
            cells = {budget for label, budget in rows(scale) if label == f"{name}_{arm}"}
            if arm == topic.reference:
                assert cells == {study.REFERENCE}
            elif arm in topic.same_cost:
                assert cells == {study.STRUCTURE}
                assert abs(rows(scale)[f"{name}_{arm}", study.STRUCTURE]["macs"] / target - 1) <= match.TOLERANCE
            else:
                assert cells == {study.STRUCTURE, study.COST}
                row = rows(scale)[f"{name}_{arm}", study.COST]
                assert row["target_macs"] == target
                assert abs(row["macs"] / target - 1) <= match.TOLERANCE
                assert row["reason"] == ""


def test_every_topic_changes_what_it_says_and_nothing_else() -> None:
    for name in study.SETTINGS["full"].topics:
        topic = study.TOPICS[name]
        setting = study.SETTINGS["full"]
        for arm, options in topic.arms.items():
            config = study._config(setting, name, arm)
            assert dict(config.model.options) == {**setting.sizes[name], **options}
            assert dataclasses.replace(config, model=setting.recipe.model) == setting.recipe


def finished(errors: dict[tuple[str, str], float]) -> list[Result]:
    """The locked runs of the smoke scale with these test errors, a little different at each seed."""
    return [
        Result(p.label, p.arm, p.budget, p.seed, "", "finished")
        if (p.arm, p.budget) not in errors
        else Result(
            p.label,
            p.arm,
            p.budget,
            p.seed,
            "",
            "finished",
            summary={"eval/top1": 1 - errors[p.arm, p.budget] * (1 + 0.01 * p.seed), "eval_train/top1": 1.0},
        )
        for p in study.runs("smoke")
    ]


def test_claims_at_equal_cost_are_on_the_first_screen_and_topics_are_judged_apart() -> None:
    document = study.report(
        finished(
            {
                ("blocks_basic", "reference"): 0.10,
                ("blocks_bottleneck_4", "structure"): 0.09,
                ("blocks_bottleneck_4", "cost"): 0.20,
                ("separable_separable", "reference"): 0.10,
                ("separable_ordinary", "structure"): 0.10,
                ("separable_ordinary", "cost"): 0.10,
            }
        )
    )
    assert {verdict.claim: verdict.verdict for verdict in document.verdicts} == {
        "blocks_bottleneck_4 against blocks_basic, equal cost: test error": "worse",
        "separable_ordinary against separable_separable, equal cost: test error": "cannot tell",
    }
    (detail,) = (v.detail for v in document.verdicts if v.verdict == "worse")
    # Differences 0.1 (1 + 0.01 seed): mean 0.1015, deviation 0.00129, t = 157; two claims of its topic.
    assert detail.startswith("+10.15 percentage points, 95% interval +9.94 to +10.36; p ")
    assert all(len(family.claims) == 2 for family in document.families)
    titles = [section.title for section in document.sections]
    assert titles == ["Blocks", "Separable", "On the clock", "All arms"]


def test_waiting_runs_have_a_place_in_every_table() -> None:
    waiting = [Result(p.label, p.arm, p.budget, p.seed, "", "waiting") for p in study.runs("small")]
    document = study.report(waiting)
    assert len(arms.locked(waiting)) == len(waiting) / 3
    assert {verdict.verdict for verdict in document.verdicts} == {"cannot tell"}
