"""Where timm's legacy SENets, the authors' weights ported, keep them (github.com/huggingface/pytorch-image-models).

`legacy_seresnet18` and `34` are left out: they have one more activation in each block than ours.
"""

from research.pretrained.reference import Names, Reference

TIMM = (
    Names(r"stem/conv(\d)", "layer0.conv{1}"),
    Names(r"stem/norm(\d)", "layer0.bn{1}"),
    Names(r"stage(\d)_block(\d+)/conv(\d)", "layer{1}.{2-1}.conv{3}"),
    Names(r"stage(\d)_block(\d+)/norm(\d)", "layer{1}.{2-1}.bn{3}"),
    Names(r"stage(\d)_block(\d+)/excite/reduce", "layer{1}.{2-1}.se_module.fc1"),
    Names(r"stage(\d)_block(\d+)/excite/expand", "layer{1}.{2-1}.se_module.fc2"),
    Names(r"stage(\d)_block(\d+)/shortcut_conv", "layer{1}.{2-1}.downsample.0"),
    Names(r"stage(\d)_block(\d+)/shortcut_norm", "layer{1}.{2-1}.downsample.1"),
    Names(r"head", "last_linear"),
)
NAMES = {
    "se_resnet50": "legacy_seresnet50",
    "se_resnet101": "legacy_seresnet101",
    "se_resnet152": "legacy_seresnet152",
    "senet154": "legacy_senet154",
}

REFERENCES = {variant: (Reference("timm", name, TIMM, first="stem/conv1"),) for variant, name in NAMES.items()}
