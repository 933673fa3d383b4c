"""CIFAR-10 with the recipe of He et al. 2015 (arXiv:1512.03385), section 4.2.

    python launch.py train cifar10:resnet20 --workdir runs/cifar_resnet20

Not run yet: no package holds CIFAR-10, so there is no cost and no result to report here. Published test error (%):
ResNet-20 8.75, ResNet-56 6.97, ResNet-110 6.43.

Needs the prepared set once: `python -m research.data prepare cifar10` (network and the extra `tfds-prepare`).
64,000 steps of 128 images; rate 0.1, divided by 10 at 32,000 and 48,000; flips and 4-pixel pad-and-crop. Deviations:
all 50,000 training images are used (the paper holds 5,000 out to choose the schedule), and weight decay is decoupled:
1e-3 here acts as the paper's 1e-4 inside momentum 0.9.
"""

from research.config import (
    AugmentationConfig,
    BudgetConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from research.values import Duration

VARIANTS = ("resnet20", "resnet56", "resnet110", "plain20", "plain56")


def get_config(variant: str = "resnet20") -> Config:
    """One network of the paper's CIFAR table; ResNet-110 warms up for 400 steps, as there."""
    warmup = 400 if variant == "resnet110" else 0
    return Config(
        model=ModelConfig(variant),
        data=DataConfig("cifar10", batch_size=128),
        augmentation=AugmentationConfig(flip=True, pad_and_crop=4),
        optimizer=OptimizerConfig("momentum", learning_rate=0.1, weight_decay=1e-3),
        schedule=ScheduleConfig("step", warmup=Duration(warmup, "steps"), boundaries=(0.5, 0.75), factor=0.1),
        budget=BudgetConfig(train=Duration(64_000, "steps"), eval_every=Duration(10, "epochs")),
    )
