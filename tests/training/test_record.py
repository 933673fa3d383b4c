"""Records: verified lines, torn tails, atomic files, and what a resumed run drops."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.errors import UserError
from research.training import record

values = st.dictionaries(
    st.text(min_size=1).filter(lambda key: key != "checksum"),
    st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans()),
)


@given(st.lists(values, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("records") / "metrics.jsonl"
    path.write_text("".join(record.metrics_line(row) for row in rows))
    assert record.read_metrics(path) == rows


@given(st.integers(1, 80))
def test_a_torn_last_line_is_dropped_wherever_it_was_cut(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("records") / "metrics.jsonl"
    lines = [record.metrics_line({"step": step, "train/loss": 1 / step, "text": "x" * 50}) for step in (1, 2, 3)]
    path.write_text(lines[0] + lines[1] + lines[2][: min(cut, len(lines[2]) - 2)])
    assert [row["step"] for row in record.read_metrics(path)] == [1, 2]


def test_a_damaged_line_inside_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [record.metrics_line({"step": step, "train/loss": 0.5}) for step in (1, 2, 3)]
    path.write_text(lines[0] + lines[1].replace("0.5", "0.6") + lines[2])
    with pytest.raises(UserError, match="line 2"):
        record.read_metrics(path)


def test_numbers_that_are_not_finite_become_null(tmp_path):
    record.write_json(tmp_path / "a.json", {"loss": float("nan"), "list": [float("inf"), 1.0]})
    assert record.read_json(tmp_path / "a.json") == {"loss": None, "list": [None, 1.0]}
    assert json.loads((tmp_path / "a.json").read_text()).keys() == {"loss", "list", "checksum"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]  # nothing half-written is left beside it


def test_a_resumed_writer_drops_what_lies_beyond_its_state(tmp_path):
    first = record.MetricsWriter(tmp_path, start_step=0)
    for step in (10, 20, 30):
        first.write({"step": step, "train/loss": 1.0})
    second = record.MetricsWriter(tmp_path, start_step=20)
    second.write({"step": 30, "train/loss": 2.0})
    rows = record.read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["train/loss"]) for row in rows] == [(10, 1.0), (20, 1.0), (30, 2.0)]


def test_a_folder_without_a_run_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        record.read_run(tmp_path)


SAID = {
    "network": {"fields": {"num_classes": 10}, "higher_is_better": True},
    "images": {
        "shape": [8, 8, 1],
        "crop_fraction": 1.0,
        "interpolation": "bilinear",
        "mean": [120.0],
        "std": [60.0],
        "class_names": ["a", "b"],
        "multi_label": False,
    },
}
WRONG = {
    "shape": [[8, 8], [0, 8, 1], [8, 8, 2], [10**9, 8, 1], ["8", 8, 1], [8.0, 8, 1], "881", None],
    "crop_fraction": [0, -1, 1e-300, 2, "1", None, True],
    "interpolation": ["nearest", 3, None],
    "mean": [[], [1, 2], ["x"], 3, None, [True]],
    "std": [[], [0], [-1], [1, 2], ["x"], None],
    "class_names": [[1], "ab", None],
    "multi_label": [1, None, "no"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, found in WRONG.items() for value in found])
def test_what_a_run_cannot_have_said_of_its_images_is_named(tmp_path, key, value):
    record.write_json(tmp_path / record.ENVIRONMENT, SAID)
    assert record.described(tmp_path) == (SAID["network"], SAID["images"])
    record.write_json(tmp_path / record.ENVIRONMENT, {**SAID, "images": {**SAID["images"], key: value}})
    with pytest.raises(UserError, match=f"is damaged: images.{key}"):
        record.described(tmp_path)


@pytest.mark.parametrize("fields", [None, {}, {"num_classes": -1}, {"num_classes": "ten"}, {"num_classes": 10**15}])
def test_what_a_run_cannot_have_said_of_its_network_is_named(tmp_path, fields):
    record.write_json(tmp_path / record.ENVIRONMENT, {**SAID, "network": {**SAID["network"], "fields": fields}})
    with pytest.raises(UserError, match="is damaged: network"):
        record.described(tmp_path)


DEEP = ["[" * 10**5, '{"a":' * 10**5]


@pytest.mark.parametrize("text", ["", "[]", "null", "{", *DEEP, "\x00", '{"a": ' + "9" * 5000 + "}"])
def test_a_record_that_is_no_object_is_damaged(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UserError, match=r"r.json is damaged"):
        record.read_json(tmp_path / "r.json")
    (tmp_path / "m.jsonl").write_text(text.replace("\n", "") + "\n" + record.metrics_line({"step": 1}))
    if text:
        with pytest.raises(UserError, match="line 1"):
            record.read_metrics(tmp_path / "m.jsonl")


def test_a_number_that_is_none_in_a_line_of_metrics_is_damage(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": NaN, "checksum": "00000000"}\n' + record.metrics_line({"step": 1}))
    with pytest.raises(UserError, match="line 1"):
        record.read_metrics(tmp_path / "m.jsonl")


@given(values, st.randoms(use_true_random=False))
def test_one_flipped_bit_is_seen_or_changes_nothing(tmp_path_factory, row, chance):
    """In any byte: also in the word `checksum` itself, and in white space, which means nothing."""
    path = tmp_path_factory.mktemp("records") / "a.json"
    record.write_json(path, row)
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(content))
    try:
        read = record.read_json(path)
    except record.Damaged:
        return
    assert read == row


@given(values, st.integers(0, 10_000))
def test_a_cut_record_is_seen(tmp_path_factory, row, cut):
    path = tmp_path_factory.mktemp("records") / "a.json"
    record.write_json(path, row)
    content = path.read_bytes()
    path.write_bytes(content[: cut % (len(content) - 1)])
    with pytest.raises(record.Damaged, match="launch its run again"):
        record.read_json(path)


def test_records_of_older_code_have_no_checksum_and_are_read(tmp_path):
    (tmp_path / "a.json").write_text('{"status": "finished", "eval/top1": 0.5}')
    assert record.read_json(tmp_path / "a.json") == {"status": "finished", "eval/top1": 0.5}
    (tmp_path / "b.json").write_text("{}")
    assert record.read_json(tmp_path / "b.json") == {}
