"""A torchvision network, forward or in training, channels last: eager, or with `torch.compile` where it is asked for.

Runs where PyTorch is installed (`make parity` sets that up), on as many threads as this process may use cores.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch.nn import functional

from benchmarks.alternating import Spec, Timer, serve, wall_timer
from research.analysis import memory


class ResNet20(torch.nn.Module):
    """He et al. 2015, CIFAR form with option A."""

    def __init__(self) -> None:
        super().__init__()
        rows = [(16, 16)] * 3 + [(16, 32)] + [(32, 32)] * 2 + [(32, 64)] + [(64, 64)] * 2
        self.stem = _conv_norm(3, 16, 1)
        self.blocks = torch.nn.ModuleList(_Block(*row) for row in rows)
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images `"b c h w"`."""
        x = functional.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class _Block(torch.nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.more = width - channels
        self.one, self.two = _conv_norm(channels, width, 2 if self.more else 1), _conv_norm(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.two(functional.relu(self.one(x)))
        if self.more:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.more))
        return functional.relu(x + y)


def _conv_norm(channels: int, width: int, stride: int) -> torch.nn.Module:
    conv = torch.nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    return torch.nn.Sequential(conv, torch.nn.BatchNorm2d(width))


def build(name: str) -> torch.nn.Module:
    """The network with fresh weights, without auxiliary heads."""
    if name == "resnet20":
        return ResNet20()
    fields = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **fields)


def prepare(spec: Spec) -> tuple[dict[str, Timer], Spec]:
    """{"model", "train", "batch_size", "resolution", "compile"} -> a timer of one step."""
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    before = memory.forget_peak()
    model = build(spec["model"]).to(memory_format=torch.channels_last)
    images = torch.randn(spec["batch_size"], 3, spec["resolution"], spec["resolution"])
    images = images.contiguous(memory_format=torch.channels_last)
    call = _train(model, images, spec["compile"]) if spec["train"] else _forward(model, images, spec["compile"])
    timer, began = wall_timer(call), time.perf_counter()
    timer(1)
    seconds = time.perf_counter() - began
    memory.forget_peak()
    timer(2)
    most = memory.peak()
    return {"step": timer}, {
        "compile_seconds": seconds - timer(1) if spec["compile"] else None,
        "peak_rss_bytes": most,
        "rss_growth_bytes": None if before is None else most - before,
        "version": torch.__version__,
    }


def _forward(model: torch.nn.Module, images: torch.Tensor, compiled: bool) -> Callable[[], Any]:
    model.eval()
    run = torch.compile(model) if compiled else model

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return run(images)

    return call


def _train(model: torch.nn.Module, images: torch.Tensor, compiled: bool) -> Callable[[], Any]:
    model.train()
    run = torch.compile(model) if compiled else model
    labels = torch.arange(len(images)) % 10
    rule = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def call() -> torch.Tensor:
        rule.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(run(images), labels)
        loss.backward()
        rule.step()
        return loss

    return call


if __name__ == "__main__":
    serve(prepare)
