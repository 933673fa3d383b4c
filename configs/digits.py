"""Digits: 1,797 scans of 8x8 pixels inside scikit-learn. The recipe that needs nothing but an installation.

    python launch.py train digits --workdir runs/digits                       # LeNet-5, seed 0

Cost and result on two CPU cores: 20 epochs in 4 s; 0.9777 test accuracy on the 359 held-out digits.
"""

from research.config import (
    AugmentationConfig,
    BudgetConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from research.values import Duration

VARIANTS = ("lenet5", "resnet8", "resnet20")


def get_config(variant: str = "lenet5") -> Config:
    """LeNet-5 on scans enlarged to 32x32, or a small CIFAR-style ResNet on 8x8 as they are."""
    if variant == "lenet5":
        model, data, augmentation = (
            ModelConfig("lenet5"),
            DataConfig("digits", batch_size=64, resolution=32),
            AugmentationConfig(),
        )
        optimizer = OptimizerConfig("nesterov", learning_rate=0.02, weight_decay=1e-3)
    else:
        model, data, augmentation = (
            ModelConfig(variant),
            DataConfig("digits", batch_size=64),
            AugmentationConfig(pad_and_crop=1),
        )
        optimizer = OptimizerConfig("nesterov", learning_rate=0.1, weight_decay=1e-3)
    return Config(
        model=model,
        data=data,
        augmentation=augmentation,
        optimizer=optimizer,
        schedule=ScheduleConfig("cosine", warmup=Duration(1, "epochs")),
        budget=BudgetConfig(train=Duration(20, "epochs"), eval_every=Duration(5, "epochs")),
        checkpointing=CheckpointConfig(every=Duration(5, "epochs")),  # an epoch is a tenth of a second
    )
