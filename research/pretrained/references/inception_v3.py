"""Where torchvision's Inception-v3 keeps its weights (github.com/pytorch/vision, models/inception.py).

The published ones were trained on images of -1 to 1 (`transform_input`). The source `torchvision_aux` has the auxiliary
classifier too.
"""

from research.pretrained.reference import Names, Preprocessing, Reference
from research.pretrained.references.googlenet import conv_bn

PREPROCESSING = Preprocessing(299, crop_fraction=299 / 342, mean=(127.5,) * 3, std=(127.5,) * 3)

A = (
    ("branch1_layer1", "branch1x1"),
    (r"branch2_layer(\d)", "branch5x5_{1}"),
    (r"branch3_layer(\d)", "branch3x3dbl_{1}"),
    ("branch4_layer1", "branch_pool"),
)
B = (
    ("branch1_layer1", "branch1x1"),
    ("branch2_layer1", "branch7x7_1"),
    ("branch2_layer2_axis2", "branch7x7_2"),
    ("branch2_layer2_axis1", "branch7x7_3"),
    ("branch3_layer1", "branch7x7dbl_1"),
    (r"branch3_layer2_axis(\d)", "branch7x7dbl_{1+1}"),
    (r"branch3_layer3_axis(\d)", "branch7x7dbl_{1+3}"),
    ("branch4_layer1", "branch_pool"),
)
C = (
    ("branch1_layer1", "branch1x1"),
    ("branch2_layer1", "branch3x3_1"),
    ("branch2_layer2_axis2", "branch3x3_2a"),
    ("branch2_layer2_axis1", "branch3x3_2b"),
    (r"branch3_layer([12])", "branch3x3dbl_{1}"),
    ("branch3_layer3_axis2", "branch3x3dbl_3a"),
    ("branch3_layer3_axis1", "branch3x3dbl_3b"),
    ("branch4_layer1", "branch_pool"),
)
TO17 = (("branch1_layer1", "branch3x3"), (r"branch2_layer(\d)", "branch3x3dbl_{1}"))
TO8 = (
    (r"branch1_layer(\d)", "branch3x3_{1}"),
    ("branch2_layer1", "branch7x7x3_1"),
    ("branch2_layer2_axis2", "branch7x7x3_2"),
    ("branch2_layer2_axis1", "branch7x7x3_3"),
    ("branch2_layer3", "branch7x7x3_4"),
)
MODULES = (
    *((f"stage3_block{block}", f"Mixed_5{letter}", A) for block, letter in enumerate("bcd", 1)),
    ("stage4_mixed1", "Mixed_6a", TO17),
    *((f"stage4_block{block}", f"Mixed_6{letter}", B) for block, letter in enumerate("bcde", 1)),
    ("stage5_mixed1", "Mixed_7a", TO8),
    *((f"stage5_block{block}", f"Mixed_7{letter}", C) for block, letter in enumerate("bc", 1)),
)
CONVS = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
PLACES = ("stage1_layer1", "stage1_layer2", "stage1_layer3", "stage2_layer1", "stage2_layer2")
NAMES = (
    *conv_bn(*zip(PLACES, CONVS, strict=True)),
    *conv_bn(*((f"{ours}/{a}", f"{theirs}.{b}") for ours, theirs, rows in MODULES for a, b in rows)),
    *conv_bn((r"aux1_head/layer(\d)", "AuxLogits.conv{1-1}")),
    Names("aux1_head/head", "AuxLogits.fc"),
    Names("head", "fc"),
)

REFERENCES = {
    "inception_v3": (
        Reference(
            "torchvision",
            "inception_v3",
            NAMES,
            fields=(("count_padding", True),),
            preprocessing=PREPROCESSING,
            ignored=(r"AuxLogits\..*",),
            first="stage1_layer1/conv",
        ),
        Reference(
            "torchvision_aux",
            "inception_v3",
            NAMES,
            fields=(("count_padding", True), ("aux_heads", True)),
            preprocessing=PREPROCESSING,
            first="stage1_layer1/conv",
        ),
    )
}
