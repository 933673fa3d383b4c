"""Where torchvision's EfficientNetV2 keeps its weights (github.com/pytorch/vision, models/efficientnet.py)."""

from research.pretrained.reference import Names, Preprocessing, Reference

FUSED, LATER = r"stage([23])_block(\d+)", r"stage(\d)_block(\d+)"


def torchvision(final: int) -> tuple[Names, ...]:
    """The names, where the last convolution is the module number `final`."""
    return (
        Names(r"stem/conv", "features.0.0"),
        Names(r"stem/norm", "features.0.1"),
        Names(r"stage([123])_block(\d+)/fused/conv", "features.{1}.{2-1}.block.0.0"),
        Names(r"stage([123])_block(\d+)/fused/norm", "features.{1}.{2-1}.block.0.1"),
        Names(rf"{FUSED}/project/conv", "features.{1}.{2-1}.block.1.0"),
        Names(rf"{FUSED}/project/norm", "features.{1}.{2-1}.block.1.1"),
        Names(rf"{LATER}/expand/conv", "features.{1}.{2-1}.block.0.0"),
        Names(rf"{LATER}/expand/norm", "features.{1}.{2-1}.block.0.1"),
        Names(rf"{LATER}/depthwise/conv", "features.{1}.{2-1}.block.1.0"),
        Names(rf"{LATER}/depthwise/norm", "features.{1}.{2-1}.block.1.1"),
        Names(rf"{LATER}/excite/reduce", "features.{1}.{2-1}.block.2.fc1"),
        Names(rf"{LATER}/excite/expand", "features.{1}.{2-1}.block.2.fc2"),
        Names(rf"{LATER}/project/conv", "features.{1}.{2-1}.block.3.0"),
        Names(rf"{LATER}/project/norm", "features.{1}.{2-1}.block.3.1"),
        Names(r"final/conv", f"features.{final}.0"),
        Names(r"final/norm", f"features.{final}.1"),
        Names(r"head", "classifier.1"),
    )


HALVES = (127.5, 127.5, 127.5)
SIZES = {
    "s": (7, Preprocessing(384, crop_fraction=1.0)),
    "m": (8, Preprocessing(480, crop_fraction=1.0)),
    "l": (8, Preprocessing(480, crop_fraction=1.0, mean=HALVES, std=HALVES, interpolation="bicubic")),
}

REFERENCES = {
    f"efficientnet_v2_{size}": (
        Reference(
            "torchvision",
            f"efficientnet_v2_{size}",
            torchvision(final),
            fields=(("padding", "symmetric"),),
            preprocessing=preprocessing,
        ),
    )
    for size, (final, preprocessing) in SIZES.items()
}
