"""Where torchvision's VGG networks keep their weights (github.com/pytorch/vision, models/vgg.py)."""

from research.models.vgg import COLUMNS
from research.pretrained.reference import Names, Reference


def torchvision(depth: int, batch_norm: bool) -> Reference:
    """The names of one network: all its layers, activations and pools too, are numbered in one row."""
    names, place = [], 0
    for stage, blocks in enumerate(COLUMNS[depth][1], 1):
        for index in range(1, blocks + 1):
            names.append(Names(f"stage{stage}_conv{index}", f"features.{place}"))
            if batch_norm:
                names.append(Names(f"stage{stage}_norm{index}", f"features.{place + 1}"))
            place += 3 if batch_norm else 2
        place += 1  # the pool
    names += [Names("dense1", "classifier.0"), Names("dense2", "classifier.3"), Names("head", "classifier.6")]
    name = f"vgg{depth}_bn" if batch_norm else f"vgg{depth}"
    maps = (("dense1", (512, 7, 7)),)
    return Reference("torchvision", name, tuple(names), flattened=maps, first="stage1_conv1")


REFERENCES = {
    reference.name: (reference,)
    for depth in COLUMNS
    for reference in (torchvision(depth, False), torchvision(depth, True))
}
