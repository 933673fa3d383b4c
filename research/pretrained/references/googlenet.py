"""Where torchvision's GoogLeNet keeps its weights (github.com/pytorch/vision, models/googlenet.py).

The published ones were trained on images of -1 to 1 (`transform_input`). The source `torchvision_aux` has the auxiliary
classifiers too.
"""

from collections.abc import Iterable

from research.pretrained.reference import Names, Preprocessing, Reference

SYMMETRIC = Preprocessing(224, mean=(127.5,) * 3, std=(127.5,) * 3)
AUXILIARY = (r"aux[12]\..*",)


def conv_bn(*pairs: tuple[str, str]) -> Iterable[Names]:
    """The convolution and the norm of layers, from (our path, their name)."""
    for ours, theirs in pairs:
        yield Names(f"{ours}/conv", f"{theirs}.conv")
        yield Names(f"{ours}/norm", f"{theirs}.bn")


MODULES = [(3, "ab"), (4, "abcde"), (5, "ab")]
LAYERS = (
    ("stage1_layer1", "conv1"),
    (r"stage2_layer(\d)", "conv{1+1}"),
    *(
        (rf"stage{stage}_block{block}/branch{ours}", f"inception{stage}{letter}.branch{theirs}")
        for stage, letters in MODULES
        for block, letter in enumerate(letters, 1)
        for ours, theirs in (("1_layer1", "1"), (r"([23])_layer(\d)", "{1}.{2-1}"), ("4_layer1", "4.1"))
    ),
    (r"aux(\d)_head/layer1", "aux{1}.conv"),
)
NAMES = (
    *conv_bn(*LAYERS),
    Names(r"aux(\d)_head/dense", "aux{1}.fc1"),
    Names(r"aux(\d)_head/head", "aux{1}.fc2"),
    Names("head", "fc"),
)

REFERENCES = {
    "googlenet_bn": (
        Reference(
            "torchvision",
            "googlenet",
            NAMES,
            preprocessing=SYMMETRIC,
            ignored=AUXILIARY,
            first="stage1_layer1/conv",
        ),
        Reference(
            "torchvision_aux",
            "googlenet",
            NAMES,
            fields=(("aux_heads", True),),
            preprocessing=SYMMETRIC,
            flattened=tuple((f"aux{number}_head/dense", (128, 4, 4)) for number in (1, 2)),
            first="stage1_layer1/conv",
        ),
    )
}
