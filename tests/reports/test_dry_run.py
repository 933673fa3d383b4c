"""What `--dry-run` prints fits a terminal, and counts a run of two names once."""

from research.config import Config, DataConfig, ModelConfig, replace
from research.reports import dry_run
from research.sweeps import predict
from research.sweeps.plan import Planned

CONFIG = Config(model=ModelConfig("resnet8"), data=DataConfig("digits", resolution=8))
WIDER = replace(CONFIG, **{"model.width": 20})
LONG = "an_arm_with_a_name_that_is_long"
REASON = "blocks, channels and pixels are whole numbers, and channels are trimmed by 5% at most"


def test_a_run_of_two_names_is_counted_once_and_nothing_is_wider_than_a_terminal() -> None:
    planned = [
        Planned("width", "x2", 0, CONFIG),
        Planned(LONG, "x2,learning_rate=0.05", 0, CONFIG),
        Planned(LONG, "x4,learning_rate=0.05", 0, WIDER, 123, REASON),
    ]
    rows = predict.rows(planned)
    lines = dry_run.table(rows, planned).splitlines()
    assert max(map(len, lines)) <= dry_run.COLUMNS
    assert lines[2:4] == [f"{LONG}/x2,learning_rate=0.05/0", f"{'':<30}  is width/x2/0"]
    assert lines[4] == f"{LONG}/x4,learning_rate=0.05/0"
    assert [f"{rows[2][key]:,}" for key in ("params", "macs", "activations")] == lines[5].split()[:3]
    alone = rows[0]["predicted_seconds"] + rows[2]["predicted_seconds"]
    expected = f"3 runs, 1 the same as another, {alone:.0f} s predicted, compilation not counted"
    assert lines[-1] == expected
    assert " ".join(line.strip() for line in lines[6:-1]) == f"{LONG}/x4: {REASON}"


def test_a_run_of_unknown_length_is_not_in_the_sum() -> None:
    planned = [Planned("width", "x2", 0, CONFIG), Planned("width", "x4", 0, WIDER)]
    rows = [{**row, "predicted_seconds": None if row["budget"] == "x4" else 7.0} for row in predict.rows(planned)]
    table = dry_run.table(rows, planned)
    assert table.endswith("2 runs, 7 s predicted, compilation not counted and 1 of unknown length")
    assert "unknown" in table.splitlines()[2]
