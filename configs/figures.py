"""Landmark detection: five points of drawn and warped faces on photographs, 48x48 RGB.

python launch.py train figures --workdir runs/figures                           # seed 0

Cost and result on two CPU cores (90c7e63): 8 epochs in 17 min beside other work; normalised mean error 0.093 of the box
around the points (0.05 asked), 0.618 of points within a tenth of it.
"""

from research.config import BudgetConfig, Config, DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TaskConfig
from research.values import Duration

VARIANTS = ("resnet8", "resnet20")


def get_config(variant: str = "resnet8") -> Config:
    """ResNet-8 with a head that sees places, whose outputs are x1 y1 .. x5 y5.

    Places are shares of the picture, all within the wing's width: each error counts nearly as it is and not squared.
    """
    return Config(
        model=ModelConfig(variant),
        task=TaskConfig("landmarks", "wing", pool="places"),
        data=DataConfig("figures", batch_size=64),
        optimizer=OptimizerConfig("adamw", learning_rate=4e-3, weight_decay=1e-4),
        schedule=ScheduleConfig("cosine", warmup=Duration(200, "steps")),
        budget=BudgetConfig(train=Duration(12, "epochs")),
    )
