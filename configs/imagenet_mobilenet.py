"""ImageNet with the recipes of MobileNet, its second and its third version, as their papers print them.

    python launch.py train imagenet_mobilenet:v2 --data.path DIR --workdir runs/mobilenet_v2

Not run here: no package holds ImageNet, so there is no cost and no result to report. DIR as for `imagenet`. 224x224
pixels; other widths by `--model.name`, as `mobilenet_v2_x1.4`. Published top-1 accuracy (%):
    v1        70.6    Howard et al. 2017 (arXiv:1704.04861), table 6
    v2        72.0    Sandler et al. 2018 (arXiv:1801.04381), table 4
    v3_large  75.2    Howard et al. 2019 (arXiv:1905.02244), table 3
    v3_small  67.4    the same

All: `rmsprop_tf`, TensorFlow's form (epsilon inside the root, mean squares that start at 1), decay and momentum 0.9;
images from -1 to 1, as in the release (tensorflow/models, slim).
    v1  section 3.2: RMSProp as Inception-v3 has it (arXiv:1512.00567, section 8: epsilon 1, batch 32, 100 epochs, the
        rate times 0.94 every 2, averaged weights; 0.9999 and momentum 0.9 are of its release), no label smoothing, less
        augmentation, little or no decay on depthwise filters (the release: none, 4e-5 on others). Rate 0.045: as the
        paper of v2 says of v1.
    v2  section 6.1: rate 0.045, times 0.98 each epoch, batch 96, decay 4e-5. Of the release alone: epsilon 1, label
        smoothing 0.1, averaged weights (0.9999); it takes 2.5 epochs for each 0.98 and 412 in all. The paper prints no
        length: 300 epochs, as torchvision trains it.
    v3  section 6.1.1: rate 0.1, down by 0.01 (read as: times 0.99) every 3 epochs, batch 4,096, decay 1e-5, averaged
        weights (0.9999), dropout that keeps 0.8. Neither length nor epsilon is printed, and slim has no command:
        600 epochs, as torchvision, and epsilon 1e-3, as the release of EfficientNet.
The averaged weights are those to read: `eval_ema/top1`.

Weight decay: the papers' is an L2 term of the loss, which RMSProp divides by the root r of the mean square (with
epsilon in it), and which momentum 0.9 adds up tenfold. Decoupled, that is decay / (r x 0.1), another number for each
weight and step. With epsilon 1 r is close to 1, and 4e-4 here acts as their 4e-5. With 1e-3 (v3) r is at least 0.032,
and close to it where gradients are much smaller: 1e-5 becomes at most 3.2e-3, which is the decay here. It spares
depthwise filters in all, as slim does, and norms and biases.

Other deviations: v1 and v2 were trained by many asynchronous workers (v2: 16, each with its batch of 96), here by one;
v1's "small crops" that it limits have no number (8% and more here, 5% in v2 and v3, as slim); of the colours of slim's
Inception preprocessing (v2, v3) brightness is a factor here and a sum there; evaluation sees the centre of 256 pixels;
bfloat16.
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

VARIANTS = ("v2", "v1", "v3_large", "v3_small")
HALF = 127.5  # levels from 0 to 255 less this, and over this: from -1 to 1


def get_config(variant: str = "v2") -> Config:
    """A MobileNet of full width, trained as its own paper says."""
    if variant == "v1":
        batch, rate, decay, epsilon = 32, 0.045, 4e-4, 1.0
        factor, every, length, smoothing = 0.94, 2, 100, 0.0
    elif variant == "v2":
        batch, rate, decay, epsilon = 96, 0.045, 4e-4, 1.0
        factor, every, length, smoothing = 0.98, 1, 300, 0.1
    else:
        batch, rate, decay, epsilon = 4096, 0.1, 3.2e-3, 1e-3
        factor, every, length, smoothing = 0.99, 3, 600, 0.0
    augmentation = AugmentationConfig(random_resized_crop=True, flip=True)
    if variant != "v1":
        augmentation = dataclasses.replace(augmentation, crop_area=(0.05, 1.0), brightness=32 / 255, saturation=0.5)
    return Config(
        model=ModelConfig(f"mobilenet_{variant}"),
        data=dataclasses.replace(imagenet.DATA, batch_size=batch, mean=(HALF,) * 3, std=(HALF,) * 3),
        augmentation=augmentation,
        task=TaskConfig(label_smoothing=smoothing),
        optimizer=OptimizerConfig(
            "rmsprop_tf",
            learning_rate=rate,
            epsilon=epsilon,
            weight_decay=decay,
            decay_on="not_depthwise",
            ema_decay=0.9999,
        ),
        schedule=ScheduleConfig("exponential", factor=factor, every=Duration(every, "epochs")),
        budget=BudgetConfig(train=Duration(length, "epochs")),
        precision=PrecisionConfig("bfloat16"),
    )
