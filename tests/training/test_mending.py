"""Damaged records of a run: whoever reads them is told, and whoever launches the run again gets the same numbers."""

import json
import shutil

import pytest

from research.config import Config, replace, to_json
from research.errors import UserError
from research.training import population, record, train
from research.training.population import Member
from tests.training.test_faults import comparable

CONFIG = replace(
    Config(),
    **{
        "model.name": "lenet5",
        "data.resolution": 16,
        "data.batch_size": 32,
        "data.train_examples": 320,
        "budget.train": "40 steps",
        "budget.eval_every": "10 steps",
        "budget.log_every": "5 steps",
        "checkpointing.every": "10 steps",
        "parallelism.devices": 1,
    },
)
CLOCK = ("train_seconds", "compile_seconds")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder and summary of the run that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(CONFIG, folder, display=False)


def without_clock(summary):
    return {key: value for key, value in summary.items() if key not in CLOCK}


def change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def summary_number(folder):
    change(folder / "summary.json", '"step": 40', '"step": 41')


def summary_cut(folder):
    (folder / "summary.json").write_text('{"status": "fin')


def summary_empty(folder):
    (folder / "summary.json").write_text("{}")


def environment_word(folder):
    change(folder / "environment.json", '"cpu"', '"cpv"')


def environment_gone(folder):
    (folder / "environment.json").unlink()


def config_cosmetic(folder):
    change(folder / "config.json", '"log_every": "5 steps"', '"log_every": "4 steps"')


def config_number(folder):
    change(folder / "config.json", '"batch_size": 32', '"batch_size": 33')


def config_cut(folder):
    (folder / "config.json").write_text('{"model"')


def metrics_line(folder):
    change(folder / "metrics.jsonl", '"step": 20', '"step": 21')


def metrics_cut(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-2]))


def metrics_gone(folder):
    (folder / "metrics.jsonl").unlink()


DAMAGES = (
    summary_number,
    summary_cut,
    summary_empty,
    environment_word,
    environment_gone,
    config_cosmetic,
    config_number,
    config_cut,
    metrics_line,
    metrics_cut,
    metrics_gone,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_record_is_refused_by_readers_and_mended_by_the_launch(damage, whole, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    damage(folder)
    with pytest.raises(UserError, match=r"json.* is damaged.*; launch its run again") as caught:
        record.read_run(folder)
    again = train(CONFIG, folder, display=False)
    if damage is not summary_cut and damage is not summary_empty:
        assert str(caught.value).partition(";")[0] in caplog.text
    assert without_clock(again) == without_clock(whole[1])
    assert comparable(folder) == comparable(whole[0])
    assert json.loads((folder / "config.json").read_text()) == json.loads(to_json(CONFIG))
    assert record.read_run(folder).environment.keys() == record.read_run(whole[0]).environment.keys()


@pytest.mark.parametrize("damage", [metrics_line, metrics_cut, environment_word], ids=lambda damage: damage.__name__)
def test_an_unfinished_run_goes_on_from_where_all_its_records_are(damage, whole, tmp_path):
    """Records that are gone are made again: a checkpoint whose records are not all there is no place to go on from."""
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "summary.json").unlink()
    damage(folder)
    assert without_clock(train(CONFIG, folder, display=False)) == without_clock(whole[1])
    assert comparable(folder) == comparable(whole[0])


def test_a_config_that_nothing_else_knows_is_refused(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "summary.json").unlink()
    config_cut(folder)
    with pytest.raises(UserError, match=r"config\.json is damaged.*; put it right, or train into another folder"):
        train(CONFIG, folder, display=False)
    shutil.copy(whole[0] / "summary.json", folder)
    change(folder / "config.json", '{"model"', to_json(CONFIG))
    change(folder / "config.json", '"notes": ""', '"notes": "!"')
    other = replace(CONFIG, notes="?")
    with pytest.raises(UserError, match=r"config\.json is damaged.*; put it right, or train into another folder"):
        train(other, folder, display=False)


def test_a_flipped_bit_in_what_lies_beside_the_state_is_seen(whole, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "summary.json").unlink()
    (file,) = [p for p in (folder / "checkpoints" / "40" / "progress").rglob("*") if b"evaluated" in p.read_bytes()]
    values = json.loads(file.read_text())
    values["evaluated"]["eval/top1"] = 1.0
    file.write_text(json.dumps(values))
    assert without_clock(train(CONFIG, folder, display=False)) == without_clock(whole[1])
    assert f"checkpoint 40 of {folder} is damaged: its checksum does not match" in caplog.text


@pytest.mark.parametrize("damage", DAMAGES[3:], ids=lambda damage: damage.__name__)
def test_a_damaged_member_of_a_group_that_is_gone_is_made_again(damage, tmp_path, caplog):
    """Its own checkpoints lie beyond the start of the group, which comes to them again."""
    from research.training import mending

    configs = [CONFIG, replace(CONFIG, seed=1)]
    members = [Member(f"m{i}", cfg, tmp_path / f"m{i}") for i, cfg in enumerate(configs)]
    summaries = population.train(members, tmp_path / "group", display=False)
    damage(tmp_path / "m0")
    mending.mend(tmp_path / "m0", CONFIG)
    assert "its run is trained again from where all is sound" in caplog.text
    again = [Member("m0", CONFIG, tmp_path / "m0"), Member("m1", configs[1], tmp_path / "m1", recorded=False)]
    (found,) = population.train(again, tmp_path / "group", display=False)
    assert without_clock(found) == without_clock(summaries[0])
    assert record.read_run(tmp_path / "m0").summary["status"] == "finished"
