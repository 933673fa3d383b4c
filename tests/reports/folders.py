"""Run folders written by hand, as the reports' input: what a training run leaves, with numbers from a formula."""

import math
from pathlib import Path
from typing import Any

from research import config, storage
from research.config import Config, ModelConfig, ProbesConfig
from research.sweeps import results, store
from research.sweeps.results import StudyRecord
from research.training import record

QUESTION = "Does depth hurt a plain network where it helps a residual one?"
COMMAND = "python launch.py study residual_vs_plain --scale smoke --workdir DIR"


def accuracy(arm: str, depth: int, seed: int, epoch: float) -> float:
    """Some curve that rises with the epoch, falls with depth for one arm, and differs a little between seeds."""
    ceiling = (
        0.98 - (0.0011 if arm == "plain" else -0.0002) * depth + 0.012 * math.sin(7.0 * seed + 1.3 * depth + len(arm))
    )
    return ceiling * (1.0 - math.exp(-epoch / (3.0 + depth / 20.0))) + 0.1 * math.exp(-epoch)


def write_run(folder: Path, cfg: Config, arm: str, depth: int, *, status: str = "finished", epochs: int = 12) -> None:
    """One run folder with its four records; `running` leaves out the summary, `failed` ends half-way with a reason."""
    reached = epochs if status == "finished" else epochs // 2
    storage.write(folder / record.CONFIG, config.to_json(cfg))
    record.write_json(folder / record.ENVIRONMENT, environment())
    lines, last = [], {}
    for step in range(2, reached * 11 + 1, 3):
        epoch = step / 11
        top1 = accuracy(arm, depth, cfg.seed, epoch)
        row = {"step": step, "epoch": epoch, "wall_time": 1.7e9 + step, "train/loss": 2.3 * (1.01 - top1) + 0.002}
        lines.append(row | {"train/top1": top1, "learning_rate": 0.1, "images_per_second": 5100.0 + 13 * step})
    for epoch in range(1, reached + 1):
        top1 = accuracy(arm, depth, cfg.seed, epoch)
        last = {"eval/loss": 2.3 * (1.02 - top1), "eval/top1": top1 - 0.01, "eval/macro_f1": top1 - 0.012}
        last |= {"eval_train/loss": 2.3 * (1.01 - top1), "eval_train/top1": min(1.0, top1 + 0.004)}
        lines.append({"step": epoch * 11, "epoch": float(epoch), "wall_time": 1.7e9 + epoch, **last})
    lines += [probe(depth, step, cfg.seed) for step in (0, reached * 11)] if cfg.probes.names else []
    lines.sort(key=lambda row: row["step"])
    storage.write(folder / record.METRICS, "".join(record.metrics_line(row) for row in lines))
    if status != "running":
        record.write_json(folder / record.SUMMARY, summary(status, depth, reached * 11, last))


def probe(depth: int, step: int, seed: int) -> dict[str, Any]:
    """What a probe of gradients finds: it falls from layer to layer, by less after training."""
    norms = {f"probe/gradient_norms/layer{n}": (1 + 0.1 * seed) * 10.0 ** (-3 * n / depth) for n in range(1, depth + 1)}
    return {"step": step, "epoch": step / 11, "wall_time": 0.1 * step, **norms}


def summary(status: str, depth: int, step: int, last: dict[str, Any]) -> dict[str, Any]:
    """The summary of a run; the costs of a network of this depth are made up."""
    cost = {"params": 272_474 * depth // 20, "macs": 40_551_424 * depth // 20, "activations": 187_648 * depth // 20}
    values = {"status": status, "step": step, **cost, "train_seconds": 4.0 + 0.31 * depth + 0.01 * step}
    values |= {"compile_seconds": 3.0 + depth / 9, "params_digest": f"{depth:064x}", **last}
    values |= {"eval/per_class_recall": [0.9, 0.5, 1.0]} if last else {}
    values |= {"best/top1": last["eval/top1"], "best/step": step} if last else {}
    return values | ({"reason": f"loss is not finite at step {step}"} if status == "failed" else {})


def environment() -> dict[str, Any]:
    """An `environment.json` as a run on one CPU writes it."""
    return {
        "python": "3.13.1",
        "versions": {"jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8"},
        "device": {"platform": "cpu", "device_kind": "cpu", "devices": 1},
        "xla_flags": "",
        "matmul_precision": "default",
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": False,
        "code_digest": "c0de" * 16,
        "dataset_fingerprint": "da7a" * 16,
    }


def write_study(
    workdir: Path,
    *,
    arms: tuple[str, ...] = ("plain", "residual_a"),
    depths: tuple[int, ...] = (8, 20, 32),
    seeds: int = 3,
    status: dict[str, str] | None = None,
    name: str = "residual_vs_plain",
    epochs: int = 12,
    probes: tuple[str, ...] = (),
) -> list[StudyRecord]:
    """A workdir with a study of arms x depths x seeds. `status`: label -> waiting, running, failed; others finish."""
    runs = []
    for depth in depths:
        for arm in arms:
            for seed in range(seeds):
                model = f"{'plain' if arm == 'plain' else 'resnet'}{depth}"
                cfg = Config(model=ModelConfig(model), seed=seed, probes=ProbesConfig(probes))
                runs.append({"id": run_id(arm, depth, seed), "arm": arm, "budget": f"depth{depth}", "seed": seed})
                state = (status or {}).get(f"{arm}/depth{depth}/{seed}", "finished")
                if state != "waiting":
                    folder = workdir / "runs" / run_id(arm, depth, seed)
                    write_run(folder, cfg, arm, depth, status=state, epochs=epochs)
    entry = {"name": name, "scale": "smoke", "question": QUESTION, "command": COMMAND, "axes": [], "runs": runs}
    store.write_study(workdir, entry)
    return results.read(workdir)


def run_id(arm: str, depth: int, seed: int) -> str:
    """16 hex digits, other ones for every run."""
    return f"{sum(map(ord, arm)) * 1_000_003 + depth * 1009 + seed * 7 + 0xABCDEF0123456789:016x}"[-16:]
