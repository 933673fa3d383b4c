"""A run of a task that places things leaves pictures of them; verbs that are about classes say so."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from research import training
from research.config import BudgetConfig, Config, DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TaskConfig
from research.data import placed
from research.errors import UserError
from research.training import overlays, record, trained
from research.values import Duration

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed, "COUNTS", {"train": 48, "eval": 10})


def test_landmarks_are_trained_evaluated_and_drawn(few: None, tmp_path: Path) -> None:
    cfg = Config(
        model=ModelConfig("resnet8"),
        task=TaskConfig("landmarks", "landmark_mse", pool="places"),
        data=DataConfig("figures", batch_size=16),
        optimizer=OptimizerConfig("adamw", learning_rate=1e-3),
        schedule=ScheduleConfig("constant"),
        budget=BudgetConfig(train=Duration(3, "steps")),
    )
    summary = training.train(cfg, tmp_path)
    assert {"eval/loss", "eval/nme", "eval/pck05", "eval/pck10"} <= summary.keys()
    assert summary["best/nme"] == min(
        r["eval/nme"] for r in record.read_metrics(tmp_path / "metrics.jsonl") if "eval/nme" in r
    )
    drawn = ElementTree.fromstring((tmp_path / overlays.FILE).read_text())
    pictures = drawn.findall(f"{SVG}g")
    assert len(pictures) == 10  # every evaluation example there is
    # Five points that are, five that the network gives.
    assert [len(picture.findall(f"{SVG}circle")) for picture in pictures] == [10] * 10
    with pytest.raises(UserError, match="is a run of task 'landmarks'; expected one of classification"):
        trained.load(tmp_path)
