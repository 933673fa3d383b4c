"""Where timm's Inception-v4 keeps its weights (github.com/huggingface/pytorch-image-models, models/inception_v4.py)."""

from research.pretrained.reference import Names, Preprocessing, Reference
from research.pretrained.references.googlenet import conv_bn

A = (
    ("branch1_layer1", "branch0"),
    (r"branch([23])_layer(\d)", "branch{1-1}.{2-1}"),
    ("branch4_layer1", "branch3.1"),
)
B = (
    ("branch1_layer1", "branch0"),
    (r"branch([23])_layer1", "branch{1-1}.0"),
    ("branch2_layer2_axis2", "branch1.1"),
    ("branch2_layer2_axis1", "branch1.2"),
    (r"branch3_layer2_axis(\d)", "branch2.{1}"),
    (r"branch3_layer3_axis(\d)", "branch2.{1+2}"),
    ("branch4_layer1", "branch3.1"),
)
C = (
    ("branch1_layer1", "branch0"),
    (r"branch([23])_layer1", "branch{1-1}_0"),
    ("branch2_layer2_axis2", "branch1_1a"),
    ("branch2_layer2_axis1", "branch1_1b"),
    (r"branch3_layer2_axis(\d)", "branch2_{1}"),
    ("branch3_layer3_axis2", "branch2_3a"),
    ("branch3_layer3_axis1", "branch2_3b"),
    ("branch4_layer1", "branch3.1"),
)
# Two branches of which the second has a factorised convolution: the second part of the stem and the last reduction.
FACTORISED = (
    (r"branch1_layer(\d)", "branch0.{1-1}"),
    ("branch2_layer1", "branch1.0"),
    ("branch2_layer2_axis2", "branch1.1"),
    ("branch2_layer2_axis1", "branch1.2"),
    ("branch2_layer3", "branch1.3"),
)
MODULES = (
    ("stage2_mixed1", 3, (("branch2_layer1", "conv"),)),
    ("stage2_mixed2", 4, FACTORISED),
    ("stage3_mixed1", 5, (("branch1_layer1", "conv"),)),
    *((f"stage3_block{block}", 5 + block, A) for block in range(1, 5)),
    ("stage4_mixed1", 10, A),
    *((f"stage4_block{block}", 10 + block, B) for block in range(1, 8)),
    ("stage5_mixed1", 18, FACTORISED),
    *((f"stage5_block{block}", 18 + block, C) for block in range(1, 4)),
)
NAMES = (
    *conv_bn((r"stage1_layer(\d)", "features.{1-1}")),
    *conv_bn(*((f"{ours}/{a}", f"features.{place}.{b}") for ours, place, rows in MODULES for a, b in rows)),
    Names("head", "last_linear"),
)

REFERENCES = {
    "inception_v4": (
        Reference(
            "timm",
            "inception_v4",
            NAMES,
            preprocessing=Preprocessing(299, mean=(127.5,) * 3, std=(127.5,) * 3, interpolation="bicubic"),
            first="stage1_layer1/conv",
        ),
    )
}
