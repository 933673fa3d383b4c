"""The residual network of 18 layers for sequences and for video: the one definition, at other spatial ranks.

Kensho Hara, Hirokatsu Kataoka, Yutaka Satoh: "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?",
2017, arXiv:1711.09577, table 1: `resnet18_3d` sees 16 frames of 112 pixels (the 400 classes of Kinetics); its first
convolution strides in space only, the max pool and the later stages in time too; shortcuts are of option A.

`resnet18_1d` is the table of He et al. 2015 (arXiv:1512.03385) with every kernel along one axis; no paper of its own.
"""

import functools

from research.models import Variant
from research.models.resnet import RESIDUAL, TOTAL_STRIDE, resnet

RESNET18 = functools.partial(resnet, block=RESIDUAL["resnet18"].block, blocks=RESIDUAL["resnet18"].blocks)

VARIANTS = {
    "resnet18_1d": Variant(
        build=RESNET18,
        input_shape=(1024, 1),
        num_classes=10,
        minimum=TOTAL_STRIDE["imagenet"],
        summary="residual network of 18 layers for sequences, 2-2-2-2 blocks (He et al. 2015, table 1, in 1-D)",
        paper="arXiv:1512.03385",
    ),
    "resnet18_3d": Variant(
        build=functools.partial(RESNET18, stem="video", shortcut="A"),
        input_shape=(16, 112, 112, 3),
        num_classes=400,
        minimum=TOTAL_STRIDE["video"],
        summary="residual network of 18 layers for video, 2-2-2-2 blocks (Hara et al. 2017, table 1)",
        paper="arXiv:1711.09577",
    ),
}
