"""Under which circumstances a run was made: versions, device, flags, code and data, for `environment.json`."""

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import backend, data
from research.sweeps import identity
from research.training import parallel, transfer
from research.training.resolve import Resolved

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets", "grain")


@functools.cache
def _git(*words: str) -> str | None:
    """Output of a git command in this project when the process began to train; None outside a checkout, without git."""
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


def describe(
    resolved: Resolved, normalisation: Mapping[str, Any], *, at_once: int = 1, group: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The environment of a run about to start, as JSON values; `normalisation` has `mean` and `std` of its images.

    `at_once`: how many runs this process trains at a time, for whoever reads its times; `group`: which population it
    is a member of.
    """
    cfg = resolved.config
    status = _git("status", "--porcelain")
    return {
        "python": platform.python_version(),
        "versions": _versions(),
        "device": parallel.describe(resolved.layout),
        "cpu_count": os.cpu_count(),
        "processes": jax.process_count(),
        "runs_at_once": at_once,
        "group": group,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "lowering": {"asked_for": backend.lowering(), "calls_onednn": resolved.layout.calls_onednn},
        "matmul_precision": cfg.precision.matmul,
        "determinism": {
            "asked_for": cfg.precision.deterministic,
            "jax_threefry_partitionable": bool(jax.config.values["jax_threefry_partitionable"]),
            "xla_gpu_deterministic_ops": resolved.layout.deterministic_ops,
        },
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "code_digest": identity.code_digest(cfg),
        "dataset_fingerprint": data.fingerprint(cfg.data),
        "weights_digest": transfer.weights_digest(cfg),
        "network": {
            "fields": {"num_classes": resolved.task.num_outputs, **transfer.model_fields(cfg)},
            "higher_is_better": resolved.task.higher_is_better,
        },
        "images": {
            "shape": list(resolved.info.shape),
            # Images of the data's own size are not cropped.
            "crop_fraction": 1.0 if resolved.data.resolution is None else resolved.data.crop_fraction or 1.0,
            "interpolation": resolved.data.interpolation or "bilinear",
            "mean": np.asarray(normalisation["mean"]).tolist(),
            "std": np.asarray(normalisation["std"]).tolist(),
            "class_names": list(resolved.info.class_names),
            "multi_label": resolved.info.multi_label,
        },
    }
