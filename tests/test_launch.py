"""The command line as a user meets it: exit codes, one-line refusals, nothing left behind, several verbs in a row."""

import json
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

import arguments
import launch

ROOT = Path(__file__).resolve().parents[1]


def run(capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command line, in this process."""
    code = launch.main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


REFUSED = [
    (["trian", "digits"], "train"),
    (["--jsn"], "--help"),
    (["--debugg", "list"], "--debug"),
    (["list", "modelz"], "models"),
    (["list", "--jsn"], "--json"),
    (["train"], "CONFIG"),
    (["train", "digits"], "--workdir"),
    (["train", "digitz", "--workdir", "W"], "digits"),
    (["train", "digits:lenet", "--workdir", "W"], "lenet5"),
    (["train", "missing.py:x", "--workdir", "W"], "missing.py"),
    (["train", "missing/config.json", "--workdir", "W"], "config.json"),
    (["train", "digits", "--optimizer.learnin-rate", "1", "--workdir", "W"], "--optimizer.learning-rate"),
    (["train", "digits", "--optimizer.name", "adma", "--workdir", "W"], "adam"),
    (["train", "digits", "--schedule.name", "cosin", "--workdir", "W"], "cosine"),
    (["train", "digits", "--task.name", "classificatoin", "--workdir", "W"], "classification"),
    (["train", "digits", "--task.loss", "softmax", "--workdir", "W"], "softmax_cross_entropy"),
    (["train", "digits", "--model.name", "lenet6", "--workdir", "W"], "lenet5"),
    (["train", "digits", "--model.name", "nowhere.py:Net", "--workdir", "W"], "nowhere.py"),
    (["train", "digits", "--model.num-classes", "99", "--workdir", "W"], "expected 10"),
    (["train", "digits", "--data.name", "fashion_mnst", "--workdir", "W"], "fashion_mnist"),
    (["train", "digits", "--data.resolution", "8", "--workdir", "W"], "at least 16"),
    (["train", "digits", "--data.batch-size", "5000", "--workdir", "W"], "1438"),
    (["train", "digits", "--data.batch-size", "63", "--parallelism.devices", "4", "--workdir", "W"], "60 or 64"),
    (["train", "digits", "--parallelism.devices", "64", "--workdir", "W"], "devices"),
    (["train", "digits", "--budget.train", "0 steps", "--workdir", "W"], "budget.train"),
    (["train", "digits", "--schedule.warmup", "99 epochs", "--workdir", "W"], "schedule.warmup"),
    (["train", "digits", "--data.train-examples", "99999", "--workdir", "W"], "1438"),
    (["train", "digits", "--seed", "4294967296", "--workdir", "W"], "seed"),
    (["train", "digits:", "--workdir", "W"], "lenet5"),
    (["train", "digits", "--workdir", ""], "empty"),
    (["train", "digits", "--data.flip", "maybe", "--workdir", "W"], "--data.flip"),
    (["plan"], "CONFIG"),
    (["plan", "digitz"], "digits"),
    (["plan", "digits", "--topology", "v5e:2x3"], "nearest: v5e:2x4"),
    (["plan", "digits", "--topology", "v5e-8"], "CHIP:SHAPE"),
    (["plan", "digits", "--topology", "v4:2x2x1"], "v5p"),
    (["plan", "digits", "--data.batch-size", "62", "--parallelism.devices", "4"], "60 or 64"),
    (["plan", "digits", "--data.name", "coco"], "prepare coco"),
    (["inspect", "resnet21"], "resnet20"),
    (["inspect", "resnet20", "--shortcut", "D"], "shortcut"),
    (["inspect", "resnet50", "--resolution", "8"], "at least"),
    (["inspect", "resnet20", "--out", "rate.svg"], "--schedule"),
    (["inspect", "resnet20", "--shortcutt", "B"], "nearest: --shortcut,"),
    (["bench", "resnet20", "--precision.compute", "bfloat16"], "nearest: --shortcut,"),
    (["inspect", "digitz", "--schedule"], "digits"),
    (["inspect", "digits", "--schedule", "--num-classes", "7"], "--num-classes"),
    (["inspect", "digits", "--schedule", "--out", "rate.pgn"], "nearest: .png"),
    (["inspect", "digits", "--schedule", "--out", "rate"], ".svg"),
    (["inspect", "digits", "--schedule", "--out", "nowhere/rate.svg"], "nowhere"),
    (["inspect", "digits", "--schedule", "--out", "launch.py/rate.svg"], "launch.py"),
    (["inspect", "digits", "--schedule", "--schedule.warmup", "99 epochs"], "schedule.warmup"),
    (["inspect", "digits", "--schedule", "--schedule.nam", "cosine"], "--schedule.name"),
    (["inspect", "digits", "--schedule", "--optimizer.groups", "con1=0"], "conv1"),
    (["inspect", "digits", "--schedule", "--data.name", "digitz"], "digits"),
    (["study", "residual_vs_plan", "--workdir", "W"], "residual_vs_plain"),
    (["study", "residual_vs_plain", "--scale", "smal", "--workdir", "W"], "small"),
    (["study", "residual_vs_plain", "--filter", "nothing*", "--workdir", "W"], "nearest"),
    (["study", "residual_vs_plain", "--executor", "loca", "--workdir", "W"], "local"),
    (["sweep", "digits", "--grid", "optimizer.learning_rat=1,2", "--workdir", "W"], "optimizer.learning_rate"),
    (["sweep", "digits", "--grid", "optimizer.learning_rate=fast", "--workdir", "W"], "optimizer.learning_rate"),
    (["report", "W"], "study.json"),
    (["status", "W"], "study.json"),
    (["eval", "--workdir", "W"], "config.json"),
]


@pytest.mark.parametrize(("words", "hint"), REFUSED, ids=[" ".join(words[:4]) for words, _ in REFUSED])
def test_wrong_words_exit_2_with_one_line_and_leave_nothing(words, hint, capsys, tmp_path):
    workdir = tmp_path / "W"
    code, out, err = run(capsys, *(str(workdir) if word == "W" else word for word in words))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert hint in err
    assert "Traceback" not in err
    assert not workdir.exists()


def test_a_refusal_in_a_process_of_its_own_prints_no_traceback(tmp_path):
    words = ["train", "digits", "--model.num-classes", "99", "--workdir", str(tmp_path / "W")]
    done = subprocess.run([sys.executable, "launch.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_help_names_every_verb_and_every_verb_has_help(capsys):
    _, verbs = arguments.parser(launch.__doc__, launch.VERBS)
    with pytest.raises(SystemExit) as stop:
        launch.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in verbs)
    for verb in verbs:
        if verb == "train":
            assert launch.main([verb, "--help"]) == 0
        else:
            with pytest.raises(SystemExit) as stop:
                launch.main([verb, "--help"])
            assert stop.value.code == 0
        assert "usage" in capsys.readouterr().out


def test_train_help_lists_the_flags_of_the_config_and_of_its_model(capsys):
    with pytest.raises(SystemExit):
        launch.main(["train", "digits:resnet8", "--help"])
    shown = capsys.readouterr().out
    assert "--optimizer.learning-rate" in shown
    assert "--model.shortcut" in shown


def test_list_names_everything_by_itself(capsys):
    from research import catalogue, models

    code, out, _ = run(capsys, "list", "--json")
    found = json.loads(out)
    assert code == 0
    assert list(found["models"]) == models.names()
    assert {name.split(":")[0] for name in found["configs"]} == set(catalogue.modules("configs"))
    assert all(line for names in found.values() for line in names.values())
    code, out, _ = run(capsys, "list")
    assert max(map(len, out.splitlines())) <= 80


def test_inspect_prints_exact_counts(capsys):
    code, out, _ = run(capsys, "inspect", "resnet20", "--shortcut", "B", "--json")
    assert code == 0
    assert json.loads(out)["params"] == 272_474  # He et al. 2015 table, option B
    code, out, _ = run(capsys, "inspect", "resnet20")
    assert max(map(len, out.splitlines())) <= 80


def test_inspect_shows_a_learning_rate_without_training(tmp_path):
    """In a process and a folder of its own: a table, then a figure whose path is the last line; no example is read."""
    words = ["inspect", "digits:resnet8", "--schedule", "--optimizer.groups", "stem=0", "*/bias=2"]
    done = subprocess.run(
        [sys.executable, ROOT / "launch.py", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *shown, last = done.stdout.splitlines()
    assert last == "learning_rate.svg"
    # 20 epochs of 1,438 images at 64 a step are 449.4 steps; half way down the cosine from 0.1, biases at twice that.
    assert "449 steps" in shown[0]
    rows = {line[:15].strip(): line[15:].split() for line in shown[2:]}
    assert rows["factor"] == ["frozen", "2", "1"]
    assert rows["end of warmup"] == ["22", "0.9791", "0", "0.2", "0.1"]
    assert xml.etree.ElementTree.parse(tmp_path / last).getroot().tag.endswith("svg")
    assert [path.name for path in tmp_path.iterdir()] == [last]


def test_a_learning_rate_in_steps_needs_no_data(capsys, tmp_path):
    words = ["inspect", "digits", "--schedule", "--data.name", "not_here", "--schedule.warmup", "10"]
    words += ["--out", str(tmp_path / "rate.html"), "--json"]
    code, out, _ = run(capsys, *words, "--budget.train", "100 steps")
    shown = json.loads(out)
    assert (code, shown["steps"], shown["epochs"]) == (0, 100, None)
    assert "not_here" in shown["note"]
    assert "<script" in Path(shown["figure"]).read_text()
    code, _, err = run(capsys, *words, "--budget.train", "10 epochs")
    assert (code, err.count("\n")) == (2, 1)
    assert "budget.train" in err


TINY = [
    "--data.batch-size",
    "32",
    "--budget.train",
    "12 steps",
    "--budget.eval-every",
    "6 steps",
    "--schedule.warmup",
    "2",
]
TINY += ["--data.train-examples", "200", "--parallelism.devices", "1"]


def test_train_then_again_then_eval(capsys, tmp_path):
    workdir = str(tmp_path / "run")
    words = ["train", "digits:resnet8", "--model.width", "4", *TINY, "--workdir", workdir]
    code, out, _ = run(capsys, *words)
    assert code == 0
    summary = json.loads(out)
    assert (summary["status"], summary["step"]) == ("finished", 12)
    code, out, err = run(capsys, *words)
    assert (code, json.loads(out)) == (0, summary)
    assert "nothing to do" in err
    code, _, err = run(capsys, *[word.replace("12 steps", "13 steps") for word in words])
    assert code == 2
    assert "budget.train" in err
    code, out, _ = run(capsys, "eval", "--workdir", workdir, "--checkpoint", "last")
    assert code == 0
    assert json.loads(out)["top1"] == summary["eval/top1"]
    code, _, err = run(capsys, "eval", "--workdir", workdir, "--checkpoint", "7")
    assert (code, "12" in err) == (2, True)
    code, out, _ = run(capsys, "train", f"{workdir}/config.json", "--workdir", workdir)
    assert (code, json.loads(out)) == (0, summary)


USERS = '''
"""A user's own network and loss."""
import flax.linen as nn
import jax.numpy as jnp


class MyNet(nn.Module):
    """Two dense layers."""

    num_classes: int = 10
    hidden: int = 8
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = nn.relu(nn.Dense(self.hidden, name="hidden_layer")(images.reshape(images.shape[0], -1)))
        return nn.Dense(self.num_classes, name="head")(x)


class Wrong(MyNet):
    """Gives one value too many."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        return nn.Dense(self.num_classes + 1, name="head")(images.reshape(images.shape[0], -1))


class Normalised(MyNet):
    """Has batch norm that pmap could not synchronise."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(images.reshape(images.shape[0], -1))
        return nn.Dense(self.num_classes, name="head")(x)


def scalar(outputs, labels):
    return jnp.mean(outputs)


def one_argument(outputs):
    return outputs[:, 0]


def squared(outputs, labels):
    """Squared distance to the one-hot label."""
    return jnp.sum((outputs - jnp.eye(outputs.shape[-1])[labels]) ** 2, axis=-1)
'''


def test_a_users_own_model_and_loss_by_path(capsys, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(USERS)
    own = ["--model.name", f"{mine}:MyNet", "--model.hidden", "5", "--task.loss", f"{mine}:squared"]
    code, _, err = run(capsys, "train", "digits:resnet8", *own, *TINY, "--workdir", str(tmp_path / "a"))
    assert code == 0, err
    code, _, err = run(
        capsys, "train", "digits:resnet8", "--model.name", f"{mine}:Wrong", *TINY, "--workdir", str(tmp_path / "b")
    )
    assert code == 2
    assert "(1, 11)" in err
    for loss in ("scalar", "one_argument"):
        wrong = ["--task.loss", f"{mine}:{loss}"]
        code, _, err = run(capsys, "train", "digits:resnet8", *wrong, *TINY, "--workdir", str(tmp_path / "b"))
        assert (code, err.count("\n")) == (2, 1)
        assert loss in err
    pmap = ["--model.name", f"{mine}:Normalised", "--parallelism.mode", "pmap"]
    code, _, err = run(capsys, "train", "digits:resnet8", *pmap, *TINY, "--workdir", str(tmp_path / "b"))
    assert code == 2
    assert "per_replica" in err
    code, _, err = run(
        capsys, "train", "digits:resnet8", "--model.name", f"{mine}:MyNett", *TINY, "--workdir", str(tmp_path / "b")
    )
    assert code == 2
    assert "MyNet" in err


def test_a_sweep_runs_once_reports_and_survives_a_failing_run(capsys, tmp_path):
    workdir = str(tmp_path / "sweep")
    grid = ["--grid", "optimizer.learning_rate=0.1,1e30"]
    words = ["sweep", "digits:resnet8", *grid, "--model.width", "4", *TINY, "--workdir", workdir]
    code, out, err = run(capsys, *words)
    assert code == 1  # the second rate diverges: it is shown, and the exit code says so
    assert "1 of 2 runs" in err
    report = Path(out.strip().splitlines()[-1])
    assert report.name == "report.html"
    assert report.exists()
    code, out, _ = run(capsys, "status", workdir)
    assert "1 failed, 1 finished" in out
    finished = [row for row in json.loads(run(capsys, "status", workdir, "--json")[1]) if row["status"] == "finished"]
    summary = Path(workdir) / "runs" / finished[0]["id"] / "summary.json"
    before = summary.stat().st_mtime_ns
    run(capsys, *words)
    assert summary.stat().st_mtime_ns == before
    html = report.read_bytes()
    report.unlink()
    code, out, _ = run(capsys, "report", workdir)
    assert (code, report.read_bytes()) == (0, html)


def test_dry_run_of_a_study_says_what_it_could_tell(capsys):
    code, out, _ = run(capsys, "study", "residual_vs_plain", "--dry-run", "--workdir", "nowhere")
    assert code == 0
    assert "6 pairs of seeds, 4 claims judged together" in out
    assert max(map(len, out.splitlines()[-3:])) <= 80


def test_dry_run_says_what_a_run_would_cost_and_starts_none(capsys, tmp_path):
    workdir = tmp_path / "W"
    code, out, _ = run(capsys, "study", "residual_vs_plain", "--dry-run", "--json", "--workdir", str(workdir))
    rows = json.loads(out)
    keys = {
        "run",
        "arm",
        "seed",
        "budget",
        "target_macs",
        "macs",
        "params",
        "activations",
        "predicted_seconds",
        "reason",
    }
    assert code == 0
    assert all(set(row) == keys for row in rows)
    assert not workdir.exists()


def test_a_signal_stops_a_study_between_and_within_runs(tmp_path):
    """SIGTERM while a study runs: exit 3, nothing lost, and the same command trains only what is missing."""
    workdir = tmp_path / "sweep"
    words = [
        "sweep",
        "digits:resnet8",
        "--grid",
        "seed=0,1,2,3",
        "--model.width",
        "4",
        *TINY,
        "--workdir",
        str(workdir),
    ]
    slowed = (
        "import sys, time, launch\n"
        "from research.training import parallel\n"
        "split = parallel.Layout.split\n"
        "parallel.Layout.split = lambda self, feed, **more: (time.sleep(0.1), split(self, feed, **more))[1]\n"
        f"sys.exit(launch.program({words!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slowed], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "[1/4]" in process.stdout.readline()  # the first run has ended
    process.terminate()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "[4/4]" not in out
    assert "Traceback" not in err
    done = {
        path: path.read_bytes() for path in workdir.glob("runs/*/summary.json") if b'"finished"' in path.read_bytes()
    }
    assert 1 <= len(done) < 4
    again = subprocess.run([sys.executable, "launch.py", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert again.stdout.count("already finished") == len(done)
    assert all(path.read_bytes() == content for path, content in done.items())
    assert len(list(workdir.glob("runs/*/summary.json"))) == 4


def test_a_refused_sweep_leaves_nothing(capsys, tmp_path):
    workdir = tmp_path / "W"
    for extra in (["--threads", "2"], ["--data.batch-size", "9999"], ["--workers", "2", "--data.batch-size", "9999"]):
        words = ["sweep", "digits:resnet8", "--grid", "seed=0,1", *extra, "--workdir", str(workdir)]
        code, _, err = run(capsys, *words)
        assert (code, err.count("\n")) == (2, 1)
        assert not workdir.exists()
