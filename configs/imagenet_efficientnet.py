"""ImageNet with the recipe of EfficientNet (Tan and Le 2019, arXiv:1905.11946): B0 to B7, each at its own resolution.

    python launch.py train imagenet_efficientnet:b0 --data.path DIR --workdir runs/efficientnet_b0

Not run here: no package holds ImageNet, so there is no cost and no result to report. DIR as for `imagenet`. Published
top-1 accuracy (%; table 2 of version 5, one crop): b0 77.1, b1 79.1, b2 80.1, b3 81.6, b4 82.9, b5 83.6, b6 84.0,
b7 84.3.

Of the paper (section 5.2): RMSProp with decay 0.9 and momentum 0.9, batch norm that keeps 0.99, rate 0.256 falling by
0.97 every 2.4 epochs, AutoAugment, stochastic depth that keeps 0.8, dropout from 0.2 (b0) to 0.5 (b7), decay 1e-5. Of
the released code (tensorflow/tpu) alone: rate 0.016 for each 256 images, whence 0.256 means a batch of 4,096 (its own
default is 2,048); 350 epochs; a warmup of 5; label smoothing 0.1; averaged weights (0.9999), which are those to read:
`eval_ema/top1`; bicubic images, the centre of `resolution + 32` pixels in evaluation; crops of 8% and more. The paper
stops early by 25,000 images held out of training; the release and this recipe do not.

The optimizer is `rmsprop_tf`, TensorFlow's form: epsilon (1e-3 in the release) inside the root, mean squares that start
at 1, the rate inside the momentum.

Weight decay: the paper's 1e-5 is an L2 term of the loss, which RMSProp divides by the root r of the mean square (with
epsilon in it), and which momentum 0.9 adds up tenfold. Decoupled, that is 1e-5 / (r x 0.1), another number for each
weight and step; no constant is the same. r is at least the root of epsilon, 0.032, and close to it where gradients are
much smaller. So the decay here is 1e-5 / (0.032 x 0.1) = 3.2e-3, the most that the L2 term can come to. 1e-5 itself,
decoupled, would take 6% off a weight in the whole run: as good as none.

Other deviations: norms and biases are spared (the release spares norms alone); batch statistics are of the whole batch
(the release: of groups of TPU cores); bfloat16, the release's default.
"""

import dataclasses

from configs import imagenet
from research.config import (
    AugmentationConfig,
    BudgetConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    PrecisionConfig,
    ScheduleConfig,
    TaskConfig,
)
from research.values import Duration

# Pixels: the released code's `efficientnet_params`.
RESOLUTIONS = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "b4": 380, "b5": 456, "b6": 528, "b7": 600}
VARIANTS = tuple(RESOLUTIONS)


def get_config(variant: str = "b0") -> Config:
    """One EfficientNet at its own resolution; its dropout and stochastic depth are the network's own."""
    resolution = RESOLUTIONS[variant]
    return Config(
        model=ModelConfig(f"efficientnet_{variant}"),
        data=dataclasses.replace(
            imagenet.DATA,
            batch_size=4096,
            resolution=resolution,
            crop_fraction=resolution / (resolution + 32),
            interpolation="bicubic",
        ),
        augmentation=AugmentationConfig(random_resized_crop=True, flip=True, policy="autoaugment_imagenet"),
        task=TaskConfig(label_smoothing=0.1),
        optimizer=OptimizerConfig(
            "rmsprop_tf", learning_rate=0.016, batch_scaling="linear", weight_decay=3.2e-3, ema_decay=0.9999
        ),
        schedule=ScheduleConfig(
            "exponential", warmup=Duration(5, "epochs"), factor=0.97, every=Duration(2.4, "epochs")
        ),
        budget=BudgetConfig(train=Duration(350, "epochs")),
        precision=PrecisionConfig("bfloat16"),
    )
