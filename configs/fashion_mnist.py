"""Fashion-MNIST: 60,000 + 10,000 grey photographs of clothes, 28x28 (Xiao 2017, arXiv:1708.07747).

    python launch.py train fashion_mnist:resnet20 --workdir runs/fashion_resnet20        # seed 0
    python launch.py train fashion_mnist:lenet5 --workdir runs/fashion_lenet5            # seed 0

Cost and results on two CPU cores:
    lenet5    5 epochs in 40 s; 0.8976 test accuracy.
    resnet20  10 epochs in 33 s on one H100; 0.9330 test accuracy (64e9a5c). On two cores, by a commit long before
              (c2352c2), 41 min beside other work.
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

VARIANTS = ("resnet20", "lenet5", "plain20")


def get_config(variant: str = "resnet20") -> Config:
    """ResNet-20 (or its plain twin) for 10 epochs, or LeNet-5 on images padded to 32x32 for 5."""
    if variant == "lenet5":
        return Config(
            model=ModelConfig("lenet5"),
            data=DataConfig("fashion_mnist", batch_size=128, resolution=32, fit="pad"),
            optimizer=OptimizerConfig("nesterov", learning_rate=0.05, weight_decay=5e-4),
            schedule=ScheduleConfig("cosine", warmup=Duration(100, "steps")),
            budget=BudgetConfig(train=Duration(5, "epochs")),
        )
    return Config(
        model=ModelConfig(variant),
        data=DataConfig("fashion_mnist", batch_size=128),
        augmentation=AugmentationConfig(flip=True, pad_and_crop=2),
        optimizer=OptimizerConfig("nesterov", learning_rate=0.1, weight_decay=5e-3),
        schedule=ScheduleConfig("cosine", warmup=Duration(200, "steps")),
        budget=BudgetConfig(train=Duration(10, "epochs")),
    )
