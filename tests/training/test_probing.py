"""Probes within a run: when they look, what they write, and that they change no other number."""

import pytest

from research.config import Config, replace
from research.errors import UserError
from research.training import loop, record, resolve

CONFIG = replace(
    Config(),
    **{
        "model.name": "resnet8",
        "model.width": 4,
        "data.name": "digits",
        "data.batch_size": 64,
        "data.train_examples": 320,
        "budget.train": "12 steps",
        "budget.eval_every": "0 steps",
        "checkpointing.every": "0 steps",
        "probes.examples": 32,
    },
)
NAMES = ("gradient_norms", "response_deviations", "block_deletion_errors")


def probed(folder) -> dict[int, dict[str, float]]:
    rows = record.read_metrics(folder / record.METRICS)
    return {row["step"]: found for row in rows if (found := {k: v for k, v in row.items() if k.startswith("probe/")})}


def test_probes_look_at_the_beginning_in_between_and_at_the_end_and_change_nothing(tmp_path):
    cfg = replace(CONFIG, **{"probes.names": NAMES, "probes.every": "5 steps"})
    with_probes = loop.train(cfg, tmp_path / "with", display=False)
    without = loop.train(CONFIG, tmp_path / "without", display=False)
    assert with_probes["params_digest"] == without["params_digest"]
    found = probed(tmp_path / "with")
    assert list(found) == [0, 5, 10, 12]
    assert not probed(tmp_path / "without")
    (layers,) = {tuple(row) for row in found.values()}
    assert layers[:2] == ("probe/gradient_norms/stem/conv", "probe/gradient_norms/stage1_block1/conv1")
    assert "probe/response_deviations/stem/norm" in layers
    assert [layer for layer in layers if "deletion" in layer] == ["probe/block_deletion_errors/stage1_block1"]
    assert all(value >= 0 for row in found.values() for value in row.values())
    assert found[0] != found[12]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"probes.names": ("gradient_norm",)}, "nearest: gradient_norms"),
        ({"probes.names": NAMES, "probes.examples": 321}, "trains on 320; expected fewer"),
        ({"probes.names": NAMES, "parallelism.mode": "pmap"}, "expected jit"),
    ],
)
def test_what_cannot_be_probed_is_refused(keys, message):
    with pytest.raises(UserError, match=message):
        resolve.resolve(replace(CONFIG, **keys))
