"""Where timm's MobileNet keeps its weights (github.com/huggingface/pytorch-image-models, models/efficientnet.py)."""

from research.pretrained.reference import Names, Preprocessing, Reference

HALVES = (127.5, 127.5, 127.5)
TIMM = (
    Names(r"stem/conv", "conv_stem"),
    Names(r"stem/norm", "bn1"),
    Names(r"stage(\d)_block(\d+)/depthwise/conv", "blocks.{1-1}.{2-1}.conv_dw"),
    Names(r"stage(\d)_block(\d+)/depthwise/norm", "blocks.{1-1}.{2-1}.bn1"),
    Names(r"stage(\d)_block(\d+)/pointwise/conv", "blocks.{1-1}.{2-1}.conv_pw"),
    Names(r"stage(\d)_block(\d+)/pointwise/norm", "blocks.{1-1}.{2-1}.bn2"),
    Names(r"head", "classifier"),
)

REFERENCES = {
    "mobilenet_v1": (
        Reference(
            "timm",
            "mobilenetv1_100",
            TIMM,
            fields=(("padding", "symmetric"), ("norm_epsilon", 1e-5)),
            preprocessing=Preprocessing(224, mean=HALVES, std=HALVES, interpolation="bicubic"),
        ),
    )
}
