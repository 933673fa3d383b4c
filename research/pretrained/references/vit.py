"""Where timm's Vision Transformers keep their weights (github.com/huggingface/pytorch-image-models).

models/vision_transformer.py; the blocks are numbered through there, and three stages of equal length here.
"""

from research.pretrained.reference import Names, Preprocessing, Reference

LAYERS = {
    "norm1": "norm1",
    "attention/qkv": "attn.qkv",
    "attention/out": "attn.proj",
    "norm2": "norm2",
    "mlp1": "mlp.fc1",
    "mlp2": "mlp.fc2",
}


def timm(blocks: int) -> tuple[Names, ...]:
    """The names of a network of `blocks` blocks."""
    return (
        Names(r"patches", "patch_embed.proj"),
        Names(r"class_token", "cls_token"),
        Names(r"positions", "pos_embed"),
        *(
            Names(rf"stage{stage}_block(\d+)/{ours}", f"blocks.{{1+{(stage - 1) * blocks // 3 - 1}}}.{theirs}")
            for stage in (2, 3)
            for ours, theirs in LAYERS.items()
        ),
        *(Names(rf"stage1_block(\d+)/{ours}", f"blocks.{{1-1}}.{theirs}") for ours, theirs in LAYERS.items()),
        Names(r"norm", "norm"),
        Names(r"head", "head"),
    )


HALVES = (127.5, 127.5, 127.5)
AUGMENTED = Preprocessing(224, crop_fraction=0.9, mean=HALVES, std=HALVES, interpolation="bicubic")
SIZES = {"ti": ("tiny", 12), "s": ("small", 12), "b": ("base", 12), "l": ("large", 24)}

REFERENCES = {
    f"vit_{size}16": (
        Reference("timm", f"vit_{name}_patch16_224", timm(blocks), preprocessing=AUGMENTED, first="patches"),
    )
    for size, (name, blocks) in SIZES.items()
}
