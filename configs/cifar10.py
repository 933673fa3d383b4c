"""CIFAR-10 with the recipes of the papers whose networks were made for it.

    python launch.py train cifar10:resnet20 --workdir runs/cifar_resnet20
    python launch.py train cifar10:wrn28_10 --workdir runs/cifar_wrn28_10

Not run here: no package holds CIFAR-10, so there is no cost and no result to report. Needs the prepared set once:
`python -m research.data prepare cifar10` (network and the extra `tfds-prepare`). Published test error (%):
    resnet20, 32, 44, 56, 110     8.75, 7.51, 7.17, 6.97, 6.43    He et al. 2015 (arXiv:1512.03385), table 6
    plain20, 32, 44, 56           curves only (there, figure 6)
    preresnet110                  6.37, median of 5 runs          He et al. 2016 (arXiv:1603.05027), table 2
    wrn28_10                      4.00                            Zagoruyko 2016 (arXiv:1605.07146), table 5
    densenet_bc_100_12            4.51                            Huang et al. 2016 (arXiv:1608.06993), table 2

All: flips, 4 pixels of padding and a random crop; momentum 0.9.
    ResNets (section 4.2)         64,000 steps of 128 images; rate 0.1, divided by 10 at 32,000 and 48,000; decay 1e-4.
                                  ResNet-110 warms up for 400 steps, and so do those of 2016 (their appendix)
    wrn28_10 (section 3)          200 epochs, batch 128; Nesterov; rate 0.1, times 0.2 at 60, 120 and 160; decay 5e-4
    densenet_bc_100_12 (4.2)      300 epochs, batch 64; Nesterov; rate 0.1, divided by 10 at 1/2 and 3/4; decay 1e-4
Of other depths and widths: `--model.name`, as `wrn40_4` or `densenet_40_12`; dropout in the blocks: `--model.dropout`.

Deviations: weight decay is decoupled and spares norms and biases, 1e-3 here acts as the papers' 1e-4 inside momentum
0.9, and 5e-3 as 5e-4; all 50,000 training images are used (He et al. hold 5,000 out to choose the schedule); the warmup
rises in a line (theirs stays at 0.01); padding is the mean colour (of wide ResNets: a reflection). The bottleneck
network of 164 layers (He et al. 2016) is not in the catalogue.
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

PLAIN_AND_RESIDUAL = (
    *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    *("plain20", "plain32", "plain44", "plain56", "preresnet110"),
)
VARIANTS = (*PLAIN_AND_RESIDUAL, "wrn28_10", "densenet_bc_100_12")


def get_config(variant: str = "resnet20") -> Config:
    """A network of one of the papers, trained as there."""
    if variant == "wrn28_10":
        batch, length, decay = 128, Duration(200, "epochs"), 5e-3
        schedule = ScheduleConfig("step", boundaries=(60 / 200, 120 / 200, 160 / 200), factor=0.2)
    elif variant == "densenet_bc_100_12":
        batch, length, decay = 64, Duration(300, "epochs"), 1e-3
        schedule = ScheduleConfig("step")
    else:
        batch, length, decay = 128, Duration(64_000, "steps"), 1e-3
        warmup = 400 if variant in ("resnet110", "preresnet110") else 0
        schedule = ScheduleConfig("step", warmup=Duration(warmup, "steps"))
    return Config(
        model=ModelConfig(variant),
        data=DataConfig("cifar10", batch_size=batch),
        augmentation=AugmentationConfig(flip=True, pad_and_crop=4),
        optimizer=OptimizerConfig(
            "momentum" if variant in PLAIN_AND_RESIDUAL else "nesterov", learning_rate=0.1, weight_decay=decay
        ),
        schedule=schedule,
        budget=BudgetConfig(train=length, eval_every=Duration(10, "epochs")),
    )
