"""Where timm's pre-activation ResNets keep their weights (github.com/huggingface/pytorch-image-models, resnetv2.py)."""

from research.pretrained.reference import Names, Preprocessing, Reference

TIMM = (
    Names(r"stem/conv", "stem.conv"),
    Names(r"stage(\d)_block(\d+)/(conv\d|norm\d)", "stages.{1-1}.blocks.{2-1}.{3}"),
    Names(r"stage(\d)_block(\d+)/shortcut_conv", "stages.{1-1}.blocks.{2-1}.downsample.conv"),
    Names(r"final/norm", "norm"),
    Names(r"head", "head.fc"),
)
HALVES = (127.5, 127.5, 127.5)
A1H = Preprocessing(224, crop_fraction=0.95, mean=HALVES, std=HALVES, interpolation="bicubic")

REFERENCES = {name: (Reference("timm", name, TIMM, preprocessing=A1H),) for name in ("resnetv2_50", "resnetv2_101")}
