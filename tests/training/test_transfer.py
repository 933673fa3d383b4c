"""Transfer: what starts from weights, what stays as it is, and what is refused."""

import shutil

import numpy as np
import pytest

from research import config as configs
from research import models, training
from research.config import BudgetConfig, Config, DataConfig, ModelConfig, OptimizerConfig, TransferConfig
from research.errors import UserError
from research.sweeps.identity import run_identity
from research.testing.model_laws import paths
from research.training import preview, resolve, transfer
from research.training.checkpoint import Checkpoints
from research.training.step import Frozen
from research.values import Duration

BASE = Config(
    model=ModelConfig("resnet8"),
    data=DataConfig("digits", batch_size=64),
    optimizer=OptimizerConfig("momentum", learning_rate=0.05, weight_decay=1e-3),
    budget=BudgetConfig(train=Duration(8, "steps")),
)


def weights(folder):
    """Path -> array of the last checkpoint's parameters and batch statistics."""
    cfg = configs.from_json((folder / "config.json").read_text())
    checkpoints = Checkpoints(folder, cfg.checkpointing, read_only=True)
    found = checkpoints.weights(checkpoints.find("last"))
    return {f"{kind}/{path}": x for kind, tree in found.items() for path, x in paths(tree).items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    training.train(BASE, folder, display=False)
    return folder


def changed(source, folder, **fields):
    """Outermost modules whose parameters, and those whose statistics, differ after training from `source`."""
    cfg = configs.replace(BASE, **{"transfer.weights": str(source), **fields})
    training.train(cfg, folder, display=False)
    before, after = weights(source), weights(folder)
    moved = [path for path in after if path not in before or not np.array_equal(before[path], after[path])]
    return tuple({path.split("/")[1] for path in moved if path.startswith(kind)} for kind in ("params", "batch_stats"))


ALL = {"stem", "stage1_block1", "stage2_block1", "stage3_block1", "head"}
NORMED = ALL - {"head"}


@pytest.mark.parametrize(
    ("fields", "params", "statistics"),
    [
        ({"transfer.freeze": "none"}, ALL, NORMED),
        ({"transfer.freeze": "all_but_head"}, {"head"}, set()),
        ({"transfer.freeze": "auto"}, {"head"}, set()),  # 1,438 digits are few
        (
            {"transfer.freeze": "up_to:stage1"},
            {"stage2_block1", "stage3_block1", "head"},
            {"stage2_block1", "stage3_block1"},
        ),
        ({"transfer.freeze": "all_but_head", "transfer.frozen_statistics": "none"}, {"head"}, NORMED),
        ({"transfer.frozen_statistics": "all"}, ALL, set()),
        ({"optimizer.learning_rate": 0.0, "transfer.frozen_statistics": "all"}, set(), set()),
        (
            {"optimizer.learning_rate": 0.0, "transfer.frozen_statistics": "all", "transfer.head": "new"},
            {"head"},
            set(),
        ),
        # In several devices and parts, and recomputed, too.
        ({"transfer.freeze": "all_but_head", "parallelism.mode": "pmap"}, {"head"}, set()),
        ({"transfer.freeze": "all_but_head", "parallelism.remat": True}, {"head"}, set()),
        (
            {"transfer.freeze": "up_to:stage2", "optimizer.groups": ("head=2",)},
            {"stage3_block1", "head"},
            {"stage3_block1"},
        ),
    ],
)
def test_exactly_what_is_not_frozen_changes(source, tmp_path, fields, params, statistics):
    assert changed(source, tmp_path / "run", **fields) == (params, statistics)


def test_another_number_of_classes_gets_a_new_head(source, tmp_path):
    fields = {"data.name": "orl_faces", "data.resolution": 8, "transfer.freeze": "all_but_head"}
    assert changed(source, tmp_path / "run", **fields) == ({"head"}, set())
    assert weights(tmp_path / "run")["params/head/kernel"].shape == (64, 40)


def test_images_are_prepared_as_the_weights_ask(source):
    described = configs.json.loads((source / "environment.json").read_text())["images"]
    cfg = configs.replace(BASE, **{"transfer.weights": str(source), "data.name": "orl_faces"})
    prepared = resolve.resolve(cfg)
    assert prepared.info.shape == (8, 8, 1)
    assert list(prepared.data.mean) == described["mean"]
    own = configs.replace(cfg, **{"data.resolution": 16, "data.mean": (1.0,)})
    assert resolve.resolve(own).info.shape == (16, 16, 1)
    assert resolve.resolve(own).data.mean == (1.0,)


def test_strategy_by_number_of_examples():
    stages = ["stage1", "stage2", "stage3", "stage4"]
    assert transfer.strategy(9_999, stages) == "all_but_head"
    assert transfer.strategy(10_000, stages) == "up_to:stage2"
    assert transfer.strategy(99_999, stages[:3]) == "up_to:stage1"
    assert transfer.strategy(100_000, stages) == "none"
    assert transfer.strategy(50_000, []) == "none"


def test_nothing_is_frozen_by_default():
    model, shape = models.create("resnet8"), (8, 8, 1)
    assert transfer.frozen(TransferConfig(), model, shape, 10) == Frozen()
    assert transfer.order(model, shape)[:4] == ["stem", "stage1_block1", "stage1", "stage2_block1"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"transfer.freeze": "up_to:stage7"}, "unknown stage in transfer.freeze 'stage7'; nearest: stage"),
        ({"transfer.freeze": "upto"}, "unknown transfer.freeze 'upto'"),
        ({"transfer.weights": "none.pth", "model.name": "resnet18", "data.resolution": 32}, "which does not exist"),
        ({"transfer.weights": "package:no_such_package/w.pkl"}, "which is not installed"),
        ({"transfer.weights": "none.pth"}, "'none.pth', which does not exist"),
        ({"transfer.weights": ""}, "'', which does not exist"),
        ({"transfer.weights": __file__}, "unknown network with weights from elsewhere 'resnet8'"),
        ({"transfer.freeze": "up_to:stage1"}, "of random weights; expected transfer.weights, or none"),
        ({"model.name": "lenet5_1998", "data.resolution": 32, "transfer.freeze": "all_but_head"}, "no head to train"),
    ],
)
def test_wrong_words_are_refused_in_one_line(fields, message):
    with pytest.raises(UserError, match=message) as refusal:
        resolve.resolve(configs.replace(BASE, **fields))
    assert "\n" not in str(refusal.value)


def test_a_run_of_another_network_is_refused(source):
    cfg = configs.replace(BASE, **{"transfer.weights": str(source), "model.name": "resnet14"})
    with pytest.raises(UserError, match="is a run of resnet8; expected one of resnet14"):
        resolve.resolve(cfg)


def test_another_width_is_refused(source):
    cfg = configs.replace(BASE, **{"transfer.weights": str(source), "model.width": 8})
    with pytest.raises(UserError, match=r"the weights have \(.*expected the options they were trained with"):
        resolve.resolve(cfg)


def test_damaged_weights_are_refused(source, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    for file in (copy / "checkpoints").rglob("d/*"):  # the files of numbers
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"damaged|cannot be read"):
        resolve.resolve(configs.replace(BASE, **{"transfer.weights": str(copy)}))


def test_what_is_frozen_keeps_its_statistics_when_others_are_estimated_anew(source, tmp_path):
    cfg = {"transfer.freeze": "up_to:stage2", "evaluation.batch_norm_batches": 2}
    params, statistics = changed(source, tmp_path / "run", **cfg)
    assert params == {"stage3_block1", "head"}
    assert statistics == {"stage3_block1"}


def test_averaged_weights_of_what_is_frozen_are_the_weights_to_the_bit(source, tmp_path):
    fields = {"transfer.freeze": "up_to:stage2", "optimizer.ema_decay": 0.9}
    assert changed(source, tmp_path / "run", **fields)[0] == {"stage3_block1", "head"}


def test_the_identity_of_a_run_has_the_weights_that_it_takes(source, tmp_path):
    identity = run_identity(configs.replace(BASE, **{"transfer.weights": str(source)})).id
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    cfg = configs.replace(BASE, **{"transfer.weights": str(copy)})
    assert transfer.weights_digest(cfg) == transfer.weights_digest(
        configs.replace(BASE, **{"transfer.weights": str(source)})
    )
    (copy / "summary.json").unlink()  # it may have been preempted: its checkpoints count
    before = run_identity(cfg).id
    shutil.rmtree(copy)
    training.train(configs.replace(BASE, **{"optimizer.ema_decay": 0.9}), copy, display=False)
    assert run_identity(cfg).id != before
    assert identity != run_identity(BASE).id


@pytest.mark.parametrize("fields", [{"optimizer.groups": ("head=0",)}, {"optimizer.groups": ("stage1*=0.1",)}])
def test_groups_are_held_against_what_is_frozen(source, fields):
    cfg = configs.replace(BASE, **{"transfer.weights": str(source), "transfer.freeze": "all_but_head", **fields})
    with pytest.raises(UserError, match=r"freeze every parameter|decides nothing"):
        resolve.resolve(cfg)


def test_a_preview_shows_what_is_frozen(source):
    cfg = configs.replace(BASE, **{"transfer.weights": str(source), "transfer.freeze": "all_but_head"})
    rows = {group.label: (group.factor, group.parameters) for group in preview.preview(cfg).groups}
    assert rows["the rest"] == (1.0, 650)  # the head's
    assert rows["stem"][0] == 0
    with pytest.raises(UserError, match=r"unknown transfer\.freeze 'foo'"):
        preview.preview(configs.replace(cfg, **{"transfer.freeze": "foo"}))
