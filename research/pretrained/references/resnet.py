"""Where torchvision's ResNets keep their weights (github.com/pytorch/vision, models/resnet.py)."""

from research.pretrained.reference import Names, Reference, retrained

TORCHVISION = (
    Names(r"stem/conv", "conv1"),
    Names(r"stem/norm", "bn1"),
    Names(r"stage(\d)_block(\d+)/conv(\d)", "layer{1}.{2-1}.conv{3}"),
    Names(r"stage(\d)_block(\d+)/norm(\d)", "layer{1}.{2-1}.bn{3}"),
    Names(r"stage(\d)_block(\d+)/shortcut_conv", "layer{1}.{2-1}.downsample.0"),
    Names(r"stage(\d)_block(\d+)/shortcut_norm", "layer{1}.{2-1}.downsample.1"),
    Names(r"head", "fc"),
)

RETRAINED = (
    *("resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
)
KNOWN = {name: Reference("torchvision", name, TORCHVISION) for name in ("resnet18", "resnet34", *RETRAINED)}
REFERENCES = {name: (first, *((retrained(first),) if name in RETRAINED else ())) for name, first in KNOWN.items()}
