"""Where torchvision's DenseNets keep their weights (github.com/pytorch/vision, models/densenet.py).

Its published files are older than its modules: the layers of a dense layer have a dot in their names there.
"""

from research.pretrained.reference import Names, Reference


def torchvision(dot: str) -> tuple[Names, ...]:
    """The names, with `dot` between the kind and the number of a layer of a dense layer."""
    return (
        Names(r"stem/(conv|norm)", "features.{1}0"),
        Names(r"stage(\d)_block1/transition/(conv|norm)", "features.transition{1-1}.{2}"),
        Names(r"stage(\d)_block(\d+)/(conv|norm)(\d)", f"features.denseblock{{1}}.denselayer{{2}}.{{3}}{dot}{{4}}"),
        Names(r"final/norm", "features.norm5"),
        Names(r"head", "classifier"),
    )


FILES = {
    "densenet121": "densenet121-a639ec97",
    "densenet161": "densenet161-8d451a50",
    "densenet169": "densenet169-b2777c0a",
    "densenet201": "densenet201-c1103571",
}

REFERENCES = {
    name: (Reference("torchvision", name, torchvision("")), Reference("torchvision", file, torchvision(".")))
    for name, file in FILES.items()
}
