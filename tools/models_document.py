"""Writes docs/models.md from the catalogue: every variant, what it costs, what others measured, which weights load.

python tools/models_document.py            # some minutes: every network is counted
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from research import models, pretrained  # noqa: E402
from research.scaling import complexity  # noqa: E402
from research.scaling.complexity import Cost  # noqa: E402

DOCUMENT = ROOT / "docs" / "models.md"
HEADER = """\
# The networks

Written by `python tools/models_document.py`; a test holds each row to the catalogue. Parameters are those that train.
Multiply-adds are of convolutions, dense layers and products of two activations, for one image of the default size,
one multiply-add counted as 1. Activations are the elements of the outputs of convolutions and dense layers, those of
squeeze-and-excitation left out.
`python launch.py inspect NAME` shows them layer by layer, and in every other published convention. Top-1 is what the
source named measured on ImageNet (or CIFAR-10, where it says so), in percent: not by this code. Weights are those known
to load, by whose they are. `least` is the smallest side in pixels, with the default stem.

The last layer of each network is `head`. The output of each stage is that of a module called `stage1`, `stage2` and so
on: `model.apply(variables, images, train=False, capture_intermediates=True)` has it under that name. Patterns stand for
more: `resnet26`, `plain62`, `preresnet62` and so on, any depth of 6n + 2 layers but those by which the literature means
other networks (50, 152, 164, 200).

| name | params | multiply-adds | activations | input | least | top-1, source | weights | paper |
| --- | ---: | ---: | ---: | --- | ---: | --- | --- | --- |
"""


def row(name: str, cost: Cost) -> str:
    """The line of one variant."""
    variant = models.variant(name)
    published = "" if variant.published is None else f"{variant.published.top1:g}, {variant.published.source}"
    sources = ", ".join(dict.fromkeys(f"{r.source} {r.name}" for r in pretrained.known(name)))
    size = "x".join(map(str, variant.input_shape))
    numbers = f"{cost.params:,} | {cost.macs:,} | {cost.activations:,}"
    return f"| {name} | {numbers} | {size} | {variant.minimum} | {published} | {sources} | {variant.paper} |"


def main() -> None:
    """Count every variant and write the document."""
    lines = []
    for name in models.names():
        lines.append(row(name, complexity.count(models.create(name), (1, *models.variant(name).input_shape))))
        print(lines[-1], flush=True)
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
