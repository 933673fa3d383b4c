"""Where timm's Inception-ResNet-v2 keeps its weights (pytorch-image-models, models/inception_resnet_v2.py)."""

from research.pretrained.reference import Names, Preprocessing, Reference
from research.pretrained.references.googlenet import conv_bn

CONVS = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a")
PLACES = ("stage1_layer1", "stage1_layer2", "stage1_layer3", "stage2_layer1", "stage2_layer2")

PARALLEL = (("branch1_layer1", "branch0"), (r"branch([23])_layer(\d)", "branch{1-1}.{2-1}"))
FIRST = (*PARALLEL, ("branch4_layer1", "branch3.1"))
FACTORISED = (
    ("branch1_layer1", "branch0"),
    ("branch2_layer1", "branch1.0"),
    ("branch2_layer2_axis2", "branch1.1"),
    ("branch2_layer2_axis1", "branch1.2"),
)
REDUCTIONS = (
    ("stage3_mixed1", "mixed_5b", FIRST),
    ("stage4_mixed1", "mixed_6a", PARALLEL),
    ("stage5_mixed1", "mixed_7a", ((r"branch([123])_layer(\d)", "branch{1-1}.{2-1}"),)),
)
BLOCKS = (
    *((f"stage3_block{block}", f"repeat.{block - 1}", PARALLEL) for block in range(1, 11)),
    *((f"stage4_block{block}", f"repeat_1.{block - 1}", FACTORISED) for block in range(1, 21)),
    *((f"stage5_block{block}", f"repeat_2.{block - 1}", FACTORISED) for block in range(1, 10)),
    ("stage5_closing", "block8", FACTORISED),
)
NAMES = (
    *conv_bn(*zip(PLACES, CONVS, strict=True)),
    *conv_bn(*((f"{ours}/{a}", f"{theirs}.{b}") for ours, theirs, rows in REDUCTIONS for a, b in rows)),
    *conv_bn(*((f"{ours}/module/{a}", f"{theirs}.{b}") for ours, theirs, rows in BLOCKS for a, b in rows)),
    *(Names(f"{ours}/projection", f"{theirs}.conv2d") for ours, theirs, _ in BLOCKS),
    *conv_bn(("stage5_exit_layer1", "conv2d_7b")),
    Names("head", "classif"),
)
PREPROCESSING = Preprocessing(299, crop_fraction=0.8975, mean=(127.5,) * 3, std=(127.5,) * 3, interpolation="bicubic")

REFERENCES = {
    "inception_resnet_v2": (
        Reference("timm", "inception_resnet_v2", NAMES, preprocessing=PREPROCESSING, first="stage1_layer1/conv"),
    )
}
