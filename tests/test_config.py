"""Laws of config values: exact round trip, stable hash, one-line refusals, typed overrides."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research import config as configs
from research import overrides
from research.config import Config
from research.errors import UserError
from research.values import Duration, Options, flatten

numbers = st.floats(min_value=1e-6, max_value=10, allow_nan=False)
durations = st.builds(Duration, st.integers(0, 10**7), st.sampled_from(["steps", "epochs", "examples"]))
changes = st.fixed_dictionaries(
    {},
    optional={
        "optimizer.learning_rate": numbers,
        "optimizer.weight_decay": numbers,
        "schedule.boundaries": st.lists(st.floats(0, 1), max_size=4).map(tuple),
        "budget.train": durations,
        "data.resolution": st.one_of(st.none(), st.integers(1, 600)),
        "augmentation.flip": st.booleans(),
        "model.shortcut": st.sampled_from(["A", "B"]),
        "seed": st.integers(0, 2**31),
        "notes": st.text(),
    },
)


@given(changes)
@settings(max_examples=60)
def test_json_round_trip_is_exact(values):
    cfg = configs.replace(Config(), **values)
    assert configs.from_json(configs.to_json(cfg)) == cfg
    assert hash(configs.from_json(configs.to_json(cfg))) == hash(cfg)
    assert configs.digest(configs.from_json(configs.to_json(cfg))) == configs.digest(cfg)


@given(changes)
@settings(max_examples=60)
def test_differences_name_exactly_the_changed_essential_keys(values):
    cfg = configs.replace(Config(), **values)
    before, after = flatten(configs.to_dict(Config())), flatten(configs.to_dict(cfg))
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    cosmetic = {
        key for key in changed if key == "notes" or key.startswith("checkpointing.") or key.endswith("log_every")
    }
    assert set(configs.differences(Config(), cfg)) == changed - cosmetic
    assert (configs.digest(Config()) == configs.digest(cfg)) == (changed <= cosmetic)


def test_digest_ignores_key_order_and_cosmetic_fields():
    cfg = Config()
    values = configs.to_dict(cfg)
    reordered = json.loads(json.dumps(dict(reversed(list(values.items())))))
    assert configs.digest(configs.from_dict(reordered)) == configs.digest(cfg)
    other = configs.replace(cfg, **{"notes": "x", "checkpointing.keep_last": 7, "budget.log_every": "3 steps"})
    assert configs.digest(other) == configs.digest(cfg)
    assert configs.digest(configs.replace(cfg, seed=1)) != configs.digest(cfg)


@pytest.mark.parametrize(
    ("text", "steps"),
    [("500 steps", 500), ("500", 500), ("2 epochs", 938), ("1.5epochs", 703), ("1000 examples", 8), ("1 step", 1)],
)
def test_durations_in_steps(text, steps):
    # 60,000 examples at batch 128: 468.75 steps an epoch; 937.5 and 703.125 are rounded.
    assert Duration.parse(text).steps(examples=60_000, batch_size=128) == steps


@pytest.mark.parametrize(
    "text", ["", "ten epochs", "5 epoch s", "-3 steps", "1.5 steps", "nan epochs", "inf steps", "5 days"]
)
def test_bad_durations_are_refused(text):
    with pytest.raises(UserError):
        Duration.parse(text)


BAD = [
    ({"optimizer.learning_rat": 1}, "optimizer.learning_rate"),
    ({"optimizer.learning_rate": "a"}, "a number"),
    ({"optimizer.learning_rate": float("nan")}, "nan"),
    ({"optimizer.learning_rate": -0.1}, "at least 0"),
    ({"seed": -1}, "at least 0"),
    ({"seed": True}, "whole number"),
    ({"seed": 1.5}, "whole number"),
    ({"data.fit": "resiz"}, "resize"),
    ({"data.batch_size": 0}, "at least 1"),
    ({"data.channels": 2}, "1, 3"),
    ({"budget.train": "ten"}, "10 epochs"),
    ({"schedule.boundaries": 3}, "list"),
    ({"schedule.boundaries": (0.5, 2.0)}, "at most 1"),
    ({"model.num_classes": 0}, "at least 1"),
    ({"data": {"nam": "digits"}}, "data.name"),
]


@pytest.mark.parametrize(("values", "hint"), BAD, ids=[next(iter(values)) for values, _ in BAD])
def test_refusals_are_one_line_and_name_the_remedy(values, hint):
    with pytest.raises(UserError) as caught:
        configs.replace(Config(), **values)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_value_is_immutable_and_hashable():
    cfg = Config()
    for field in dataclasses.fields(cfg):
        value = getattr(cfg, field.name)
        hash(value)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(cfg, field.name, value)
    assert Options(b=1, a=[1, 2]) == Options({"a": (1, 2), "b": 1})
    with pytest.raises(UserError):
        Options(a=object())


class TestOverrides:
    def test_typed_by_the_config_and_by_the_model(self):
        words = [
            "--optimizer.learning-rate",
            "0.2",
            "--model.shortcut",
            "B",
            "--budget.train=3epochs",
            "--augmentation.flip",
            "true",
        ]
        cfg = overrides.apply(configs.replace(Config(), **{"model.name": "resnet20"}), words)
        assert cfg.optimizer.learning_rate == 0.2
        assert cfg.model.options["shortcut"] == "B"
        assert cfg.budget.train == Duration(3, "epochs")
        assert cfg.augmentation.flip is True

    def test_nothing_to_apply_changes_nothing(self):
        assert overrides.apply(Config(), []) == Config()
        assert overrides.apply(Config(), ["--seed", "0"]) == Config()

    def test_a_model_name_decides_which_flags_there_are(self):
        cfg = overrides.apply(Config(), ["--model.name", "resnet20", "--model.shortcut", "C"])
        assert (cfg.model.name, dict(cfg.model.options)) == ("resnet20", {"shortcut": "C"})

    @pytest.mark.parametrize(
        ("words", "hint"),
        [
            (["--optimizer.learnin-rate", "1"], "--optimizer.learning-rate"),
            (["--optimizer.learning-rate", "fast"], "fast"),
            (["--model.shortcuts", "B"], "--model.shortcut"),
            (["--data.fit", "resiz"], "resize"),
            (["--budget.train", "ten"], "10 epochs"),
            (["--seed"], "seed"),
            (["stray"], "stray"),
            (["--data.batch-size", "-4"], "at least 1"),
        ],
    )
    def test_refusals_are_one_line(self, words, hint):
        with pytest.raises(UserError) as caught:
            overrides.apply(configs.replace(Config(), **{"model.name": "resnet20"}), words)
        assert hint in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.learning_rate", 1e39),
        ("optimizer.learning_rate", 10**400),
        ("data.batch_size", 2**31),
        ("data.eval_batch_size", 2**17 + 1),
        ("data.resolution", 16_385),
        ("data.crop_fraction", 0.001),
        ("budget.train", "1e13 examples"),
        ("budget.train", "1e999 epochs"),
    ],
)
def test_numbers_that_nothing_could_hold_are_refused(key, value):
    with pytest.raises(UserError) as caught:
        configs.replace(Config(), **{key: value})
    assert "expected a number" in str(caught.value)


def test_more_steps_than_rates_can_be_kept_of_are_refused():
    from research.training import preview

    with pytest.raises(UserError, match="at most 20000000"):
        preview.preview(configs.replace(Config(), **{"budget.train": "30000000 steps"}))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"seed": 1, "seed": 2}', "given twice"),
        ("[" * 10**5, "is not JSON"),
        ("", "is not JSON"),
        ('{"seed": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"seed": NaN}', "seed"),
        ("[]", "expected an object"),
    ],
    ids=["twice", "deep", "empty", "digits", "nan", "list"],
)
def test_json_that_is_no_config_is_refused_in_one_line(tmp_path, text, hint):
    import configs as recipes

    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError, match=hint):
        recipes.load(str(tmp_path / "c.json"))


def test_a_runs_config_names_no_code_beside_itself(tmp_path):
    import configs as recipes

    values = configs.to_dict(configs.replace(Config(), **{"task.loss": f"{tmp_path}/own.py:loss"}))
    (tmp_path / "own.py").write_text("raise SystemExit('ran')\n")
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert recipes.load(str(tmp_path / "config.json")).task.loss.endswith("own.py:loss")  # a config of one's own
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(UserError, match="which is not run"):
        recipes.load(str(tmp_path / "config.json"))
