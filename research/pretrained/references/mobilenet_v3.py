"""Where torchvision's MobileNetV3 keeps its weights (github.com/pytorch/vision, models/mobilenetv3.py)."""

from collections.abc import Sequence
from typing import NamedTuple

from research.pretrained.reference import Names, Reference, retrained


class Blocks(NamedTuple):
    """Those of a stage: how many, and which layers they have beside the depthwise and the last one."""

    blocks: int
    expand: bool = True
    excite: bool = False


def torchvision(stages: Sequence[Blocks]) -> tuple[Names, ...]:
    """The names; the blocks are numbered through, and the layers of each."""
    names = [Names(r"stem/conv", "features.0.0"), Names(r"stem/norm", "features.0.1")]
    before = 0
    for number, stage in enumerate(stages, 1):
        ours, theirs = rf"stage{number}_block(\d+)", f"features.{{1+{before}}}.block"
        layers = [
            *(["expand"] if stage.expand else []),
            "depthwise",
            *(["excite"] if stage.excite else []),
            "project",
        ]
        for place, layer in enumerate(layers):
            inner = {"reduce": "fc1", "expand": "fc2"} if layer == "excite" else {"conv": "0", "norm": "1"}
            names += [Names(f"{ours}/{layer}/{our}", f"{theirs}.{place}.{their}") for our, their in inner.items()]
        before += stage.blocks
    return (
        *names,
        Names(r"final/conv", f"features.{before + 1}.0"),
        Names(r"final/norm", f"features.{before + 1}.1"),
        Names(r"neck/dense", "classifier.0"),
        Names(r"head", "classifier.3"),
    )


E, SE = Blocks(1), Blocks(1, excite=True)
STAGES = {
    "mobilenet_v3_large": (
        *(Blocks(1, expand=False), E, E, Blocks(3, excite=True)),
        *(E, E, Blocks(2), Blocks(2, excite=True), Blocks(3, excite=True)),
    ),
    "mobilenet_v3_small": (
        *(Blocks(1, expand=False, excite=True), E, E),
        *(SE, Blocks(2, excite=True), Blocks(2, excite=True), Blocks(3, excite=True)),
    ),
}

PORTS = {
    name: Reference("torchvision", name, torchvision(stages), fields=(("padding", "symmetric"),))
    for name, stages in STAGES.items()
}
REFERENCES = {
    name: (port, *((retrained(port),) if name == "mobilenet_v3_large" else ())) for name, port in PORTS.items()
}
