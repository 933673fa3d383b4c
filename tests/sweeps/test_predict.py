"""What `--dry-run` prints."""

import pytest

import experiments
from research.config import Config, replace
from research.errors import UserError
from research.sweeps import predict
from research.sweeps.plan import Planned
from research.sweeps.predict import Data, Speed

KEYS = ["run", "arm", "seed", "budget", "target_macs", "macs", "params", "activations", "predicted_seconds", "reason"]


@pytest.mark.parametrize("name", experiments.names())
def test_every_smoke_study_has_a_row_per_run(name: str) -> None:
    planned = experiments.load(name).runs("smoke")
    rows = predict.rows(planned)
    assert [row["run"] for row in rows] == [p.label for p in planned]
    for row in rows:
        assert list(row) == KEYS
        assert min(row["macs"], row["params"], row["activations"]) > 0


def test_a_plan_can_be_read_without_its_data() -> None:
    # CIFAR-10 need not be prepared where this runs. Counts: He et al. 2015, table 6 and section 4.2.
    config = replace(Config(), **{"model.name": "resnet20", "data.name": "cifar10", "budget.train": "10 epochs"})
    (row,) = predict.rows([Planned("residual", "depth20", 0, config, target_macs=40_000_000, reason="too coarse")])
    assert (row["macs"], row["params"]) == (40_551_040, 269_722)
    assert (row["target_macs"], row["reason"]) == (40_000_000, "too coarse")


def test_what_nobody_knows_is_refused() -> None:
    for key, name in {"data.name": "digit", "model.name": "resnet21"}.items():
        with pytest.raises(UserError, match=name):
            predict.rows([Planned("a", "b", 0, replace(Config(), **{key: name}))])


DATA = Data((8, 8, 1), 10, train_examples=1000, eval_examples=200)
COST = {"macs": 4000, "activations": 50, "params": 1}
SPEED = Speed(macs=1e6, activations=1e5)  # one pass of one example: 4 ms + 0.5 ms


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        # 10 steps of 100 cost three passes an example, one evaluation of 200 one.
        ({"budget.train": "1 epochs", "budget.eval_every": "0"}, 3 * 1000 + 200),
        ({"budget.train": "10 steps", "budget.eval_every": "0"}, 3 * 1000 + 200),
        ({"budget.train": "10 steps", "budget.eval_every": "4 steps"}, 3 * 1000 + 3 * 200),
        ({"budget.train": "1 epochs", "budget.eval_every": "0", "data.eval_on_train": True}, 3 * 1000 + 1200),
        ({"budget.train": "1 epochs", "budget.eval_every": "0", "parallelism.remat": True}, 4 * 1000 + 200),
        # Two batches of 100 for the statistics, for the weights and for their average.
        (
            {
                "budget.train": "1 epochs",
                "budget.eval_every": "0",
                "optimizer.ema_decay": 0.9,
                "evaluation.batch_norm_batches": 2,
            },
            3 * 1000 + 2 * (200 + 200),
        ),
    ],
)
def test_seconds_follow_the_stated_model(change: dict[str, object], passes: int) -> None:
    config = replace(Config(), **{"data.batch_size": 100, **change})
    assert predict.seconds(config, DATA, COST, SPEED) == pytest.approx(passes * 0.0045)


def test_seconds_are_unknown_rather_than_guessed() -> None:
    unknown = Data((8, 8, 1), 10, None, None)
    assert predict.seconds(Config(), DATA, COST, None) is None
    assert predict.seconds(replace(Config(), **{"budget.train": "1 epochs"}), unknown, COST, SPEED) is None
    assert predict.seconds(replace(Config(), **{"budget.train": "10 steps"}), unknown, COST, SPEED) is not None
