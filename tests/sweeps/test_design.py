"""The tuning grid that every arm shares, and twins of equal cost: searched for, kept, counted anew for new code."""

import json

import pytest

from research.config import Config, replace
from research.errors import UserError
from research.scaling import match, rules
from research.sweeps import design, identity, plan, predict

BASE = replace(
    Config(), **{"optimizer.learning_rate": 0.1, "optimizer.weight_decay": 1e-3, "probes.names": ("gradient_norms",)}
)
GRID = {"optimizer.learning_rate": (0.05, 0.1, 0.2), "optimizer.weight_decay": (1e-3, 1e-4)}


def test_the_locked_setting_comes_first_and_has_no_name():
    found = design.settings(BASE, GRID)
    assert next(iter(found)) == ""
    assert found[""] == BASE
    assert sorted(found) == sorted(
        ["", "learning_rate=0.05", "learning_rate=0.2", "weight_decay=0.0001"]
        + [f"learning_rate={rate},weight_decay=0.0001" for rate in (0.05, 0.2)]
    )
    assert found["learning_rate=0.2,weight_decay=0.0001"].optimizer.learning_rate == 0.2
    assert design.settings(BASE, {}) == {"": BASE}


def test_every_setting_has_the_same_seeds_and_only_the_locked_one_is_probed():
    runs = design.planned("plain", "depth8", BASE, seeds=range(3), grid=GRID, target_macs=5)
    plan.check(runs)
    assert len(runs) == 18
    assert {run.budget.partition(",")[0] for run in runs} == {"depth8"}
    assert {run.target_macs for run in runs} == {5}
    assert {bool(run.config.probes.names) for run in runs if run.budget == "depth8"} == {True}
    assert {bool(run.config.probes.names) for run in runs if run.budget != "depth8"} == {False}


@pytest.mark.parametrize("values", [(0.05, 0.2), (0.1, 0.1)])
def test_a_grid_without_the_locked_value_or_with_one_twice_is_refused(values):
    with pytest.raises(UserError, match=r"expected 0\.1 and others, each once"):
        design.settings(BASE, {"optimizer.learning_rate": values})


SMALL = replace(
    Config(),
    **{"model.name": "resnet20", "model.width": 16, "model.channel_divisor": 1, "data.resolution": 14},
)


@pytest.mark.parametrize(("name", "options"), [("plain20", {}), ("mobilenet_v1_x0.25", {"stem": "cifar"})])
def test_a_twin_costs_what_it_is_told_to(name, options):
    target = 2 * predict.macs(SMALL)
    fields = {f"model.{key}": value for key, value in options.items()}
    other = replace(Config(), **{"model.name": name, "data.resolution": 14}, **fields)
    found = design.Search().twin(other, target)
    assert abs(found.off) <= match.TOLERANCE
    assert predict.macs_as_a_whole(found.config) == found.reached == predict.macs(found.config)
    assert found.config.model.options["channel_divisor"] == 1


def test_what_has_grown_by_a_rule_keeps_to_it_but_for_rounding_and_a_trim():
    target = 4 * predict.macs(SMALL)
    found = design.Search().grown(SMALL, rules.rule("depth_width"), 4, target, resolution=14)
    assert abs(found.off) <= match.TOLERANCE
    own = found.config.model.options
    assert own["depth_multiplier"] == pytest.approx(found.multiplier**0.5, rel=1e-5)
    assert own["width_multiplier"] == pytest.approx(found.multiplier**0.25 * found.trim, rel=1e-5)
    assert found.config.data.resolution == 14


def keep(file, search, planned, **changed):
    file.write_text(json.dumps(search.kept(planned) | changed))


def test_what_was_found_is_kept_beside_the_study_and_searched_for_again_where_it_does_not_hold(tmp_path, monkeypatch):
    target = 2 * predict.macs(SMALL)
    first = design.Search(tmp_path / "mine.py")
    found = first.twin(SMALL, target)
    ((key, solved),) = first.found.items()
    file = tmp_path / f"mine{design.SOLVED}"
    keep(file, first, [])
    asked = []
    macs = predict.macs
    monkeypatch.setattr(predict, "macs", lambda config: (asked.append(config), macs(config))[1])
    assert design.Search(tmp_path / "mine.py").twin(SMALL, target) == found
    assert asked == [found.config], "one network is asked for, and no search made"
    # A network that has come to cost something else, and another question, are searched for anew.
    keep(file, first, [], searches={key: solved | {"reached": solved["reached"] + 1}})
    assert design.Search(tmp_path / "mine.py").twin(SMALL, target) == found
    assert abs(design.Search(tmp_path / "mine.py").twin(SMALL, 3 * target // 2).off) <= match.TOLERANCE
    assert len(asked) > 5


def test_counts_are_kept_for_the_code_that_made_them(tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "_counted", {})
    config = replace(SMALL, **{"model.width": 11})  # that no other test counts
    [planned] = design.planned("arm", "budget", config, seeds=[0])
    first = design.Search(tmp_path / "mine.py")
    file = tmp_path / f"mine{design.SOLVED}"
    keep(file, first, [planned])
    counts = json.loads(file.read_text())["counts"]
    assert counts == {predict.network_digest(config): dict(predict.counts(config, predict.known_data(config)))}
    told = {name: dict.fromkeys(of_network, 7) for name, of_network in counts.items()}

    def macs_now():
        predict.counts.cache_clear()
        design.Search(tmp_path / "mine.py")
        return predict.macs(config)

    keep(file, first, [planned], counts=told, code="of another day")
    assert macs_now() == counts[predict.network_digest(config)]["macs"]
    keep(file, first, [planned], counts=told, models=["resnet8", "a_network_that_was_taken_out"])
    assert macs_now() == counts[predict.network_digest(config)]["macs"]
    # What is not of the catalogue (a user's own file) has no digest here: it may have changed.
    keep(file, first, [planned], counts=told, models=["mine.py:Net"], code=None)
    assert macs_now() == counts[predict.network_digest(config)]["macs"]
    keep(file, first, [planned], counts=told)
    assert macs_now() == 7
    predict.counts.cache_clear()


def test_counting_is_of_the_code_of_the_networks_counted():
    ours = identity.counting_digest(["resnet8"])
    assert ours == identity.counting_digest(["resnet20", "resnet8"]), "one family, one file"
    assert ours != identity.counting_digest(["resnet8", "vgg16"])
    with pytest.raises(UserError, match="resnet"):
        identity.counting_digest(["resnat"])
