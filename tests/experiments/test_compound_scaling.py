"""Compound scaling: rules keep their exponents, the search chooses, and what it found is grown."""

import dataclasses
import functools
import statistics
from math import log, sqrt
from typing import Any

import pytest

from experiments import compound_scaling as study
from research.config import Config
from research.scaling import rules
from research.sweeps import predict
from research.sweeps.results import Result

# Beside the other tests of these plans: see tests/experiments/test_studies.py.
EVERY = [
    pytest.param(scale, within, marks=pytest.mark.xdist_group(f"compound_scaling_{scale}"))
    for scale, within in (("smoke", 0.25), ("small", 0.25), ("full", 0.1))
]


@functools.cache
def rows(scale: str) -> list[dict[str, Any]]:
    return predict.rows([p for p in study.runs(scale) if p.seed == 0 and "," not in p.budget])


def waiting() -> list[Result]:
    ids: dict[Config, str] = {}
    planned = study.runs("smoke")
    return [Result(ids.setdefault(p.config, p.label), p.arm, p.budget, p.seed, p.label, "waiting") for p in planned]


def finished(errors: dict[str, float]) -> list[Result]:
    """Every run of the smoke scale, those of an arm named in `errors` with that test error, others with 0.5."""
    return [
        dataclasses.replace(r, status="finished", summary={"eval/top1": 1 - errors.get(r.arm, 0.5) - 0.001 * r.seed})
        for r in waiting()
    ]


@pytest.mark.parametrize("cost", ["params", "activations"])
@pytest.mark.parametrize(("scale", "within"), EVERY)
def test_costs_grow_with_the_exponents_of_the_rule(scale: str, within: float, cost: str) -> None:
    """Stems and heads do not grow as the stages do; at small scales networks are coarse and maps have few pixels."""
    base = next(row for row in rows(scale) if row["arm"] == study.BASE)
    for name in study.SETTINGS[scale].rules:
        grown = [base, *(row for row in rows(scale) if row["arm"] == name)]
        slope = statistics.linear_regression([log(r["macs"]) for r in grown], [log(r[cost]) for r in grown]).slope
        assert slope == pytest.approx(getattr(rules.RULES[name], cost), abs=within), name


def test_the_search_is_over_coefficients_that_double_the_cost() -> None:
    setting = study.SETTINGS["full"]
    for alpha, beta in setting.search:
        gamma = sqrt(setting.step / (alpha * beta**2))
        assert gamma >= 1
        by = study._rule(alpha, beta, setting.step)
        assert setting.step**by.depth == pytest.approx(alpha)
        assert setting.step**by.width == pytest.approx(beta)
        assert setting.step**by.resolution == pytest.approx(gamma)


def test_what_the_search_found_is_grown_to_every_budget_and_shares_its_runs() -> None:
    assert study.found(waiting()) is None
    assert study.follow_up("smoke", waiting()) == []
    results = finished({"search_1_1.3": 0.1, "search_1.18_1.09": 0.2})
    assert study.found(results) == (1.0, 1.3)
    more = study.follow_up("smoke", results)
    assert {p.arm for p in more} == {study.FOUND}
    assert {p.budget for p in more} == {f"x{times:g}" for times in study.SETTINGS["smoke"].growth}
    searched = {p.seed: p.config for p in study.runs("smoke") if p.arm == "search_1_1.3"}
    assert {p.seed: p.config for p in more if p.budget == f"x{study.SETTINGS['smoke'].step:g}"} == searched, (
        "the same run, not one like it"
    )


def test_a_search_with_a_run_to_come_has_found_nothing() -> None:
    results = finished({})
    last = next(r for r in results if r.arm.startswith(study.SEARCH))
    left = [dataclasses.replace(r, status="running") if r is last else r for r in results]
    assert study.found(left) is None
    failed = [dataclasses.replace(r, status="failed", summary={}) if r is last else r for r in results]
    assert study.found(failed) is not None, "a failed run does not hold up the others"


def test_the_report_names_the_search_its_rules_and_the_best() -> None:
    document = study.report(finished({"search_1_1.3": 0.1, "search_1.18_1.09": 0.2, "width": 0.3}))
    sections = {section.title: section for section in document.sections}
    assert "alpha 1, beta 1.3, gamma 1.04" in sections["The search for coefficients"].text
    assert "search_1_1.3 x1.83 = width x1.83" in sections["Error against growth"].text
    answers = {verdict.claim: verdict.verdict for verdict in document.verdicts}
    assert set(answers) == {"width against efficientnet, 4.008 times the cost: test error"}
