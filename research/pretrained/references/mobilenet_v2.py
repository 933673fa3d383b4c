"""Where torchvision's MobileNetV2 keeps its weights (github.com/pytorch/vision, models/mobilenetv2.py)."""

from research.pretrained.reference import Names, Reference, retrained

BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of each stage


def stages() -> tuple[Names, ...]:
    """The names of all blocks, which are numbered through; those of the first stage have no expansion."""
    names: list[Names] = []
    for stage, blocks_before in enumerate((sum(BLOCKS[:stage]) for stage in range(len(BLOCKS))), 1):
        ours, theirs = rf"stage{stage}_block(\d+)", f"features.{{1+{blocks_before}}}.conv"
        layers = ("depthwise",) if stage == 1 else ("expand", "depthwise")
        for place, layer in enumerate(layers):
            names += [
                Names(f"{ours}/{layer}/conv", f"{theirs}.{place}.0"),
                Names(f"{ours}/{layer}/norm", f"{theirs}.{place}.1"),
            ]
        names += [
            Names(f"{ours}/project/conv", f"{theirs}.{len(layers)}"),
            Names(f"{ours}/project/norm", f"{theirs}.{len(layers) + 1}"),
        ]
    return tuple(names)


TORCHVISION = (
    Names(r"stem/conv", "features.0.0"),
    Names(r"stem/norm", "features.0.1"),
    *stages(),
    Names(r"final/conv", "features.18.0"),
    Names(r"final/norm", "features.18.1"),
    Names(r"head", "classifier.1"),
)

PORT = Reference("torchvision", "mobilenet_v2", TORCHVISION, fields=(("padding", "symmetric"), ("norm_epsilon", 1e-5)))
REFERENCES = {"mobilenet_v2": (PORT, retrained(PORT))}
