"""ImageNet (ILSVRC 2012: 1,281,167 photographs, 1,000 classes) with recipes for ResNets.

    python launch.py train imagenet:resnet50 --data.path DIR --workdir runs/imagenet_resnet50
    python launch.py train imagenet:resnet18 --data.name photos --data.path DIR --workdir runs/photos_resnet18

The second line trains on any other set of photographs; how many classes there are comes from the data. DIR holds a
prepared set, as array_record or TFRecord: `python -m research.data prepare imagenet2012 --data-dir DIR --manual-dir
DOWNLOADS`, or `python -m research.data convert FOLDER --name photos --data-dir DIR` for train-* and validation-* files
of TFRecords. For an image folder: `--data.name image_folder`.

Not run here: no package holds ImageNet, so there is no cost and no result to report. Published top-1 accuracy (%):
    resnet50              76.4   90 epochs, steps for the cosine, no label smoothing (Goyal et al. 2017,
                                 arXiv:1706.02677, table 1). The cosine and label smoothing then add 0.8 and 0.4 to
                                 ResNet-50-D (He et al. 2018, arXiv:1812.01187, table 6)
    resnet18              69.8   the same without warmup (torchvision, IMAGENET1K_V1)
    resnet50_mixup        77.9   200 epochs, alpha 0.2, steps for the cosine (Zhang et al. 2017, arXiv:1710.09412,
                                 table 1)
    resnet50_randaugment  77.6   180 epochs, N 2, M 9, steps for the cosine (Cubuk et al. 2019, arXiv:1909.13719,
                                 table 5)
    resnet50_goyal        76.40  90 epochs, 256 images; 8,192 images: 76.26 (Goyal et al. 2017, table 1)
    resnet101_goyal       77.92  the same; 8,192 images: 77.64 (there, table 2)

224x224 pixels: random-resized crops and flips in training (Szegedy et al. 2014, arXiv:1409.4842), the centre of 256
pixels in evaluation. Nesterov momentum 0.9; rate 0.1 at 256 images and in proportion for other batches, after a warmup
of 5 epochs (Goyal et al.), then down a half cosine (Loshchilov and Hutter 2016, arXiv:1608.03983); label smoothing 0.1
(Szegedy et al. 2015, arXiv:1512.00567), except with mixup, which makes soft labels of its own.
EfficientNet and MobileNet have files of their own: `imagenet_efficientnet`, `imagenet_mobilenet`.

`*_goyal` is what Goyal et al. print (section 5.1): the rate divided by 10 at epochs 30, 60 and 80, no label smoothing,
the last norm of each block starting at 0 (`--data.batch-size 8192` has rate 3.2, as there). Nesterov as in the code
they start from (fb.resnet.torch). Deviations of these: batch statistics are those of the whole batch, not of 32 images
a worker (that is `--parallelism.mode pmap --parallelism.batch-norm per_replica` with 32 images a device), the head
starts as LeCun's and not with deviation 0.01, and the warmup begins near 0 (theirs at 0.1: 256 images have none).

Deviations of all: weight decay is decoupled and spares norms and biases, 1e-3 here acts as the papers' 1e-4 inside
momentum 0.9; every other variant has the cosine; bfloat16 (`--precision.compute float32` where that is slow, as on
CPUs).
"""

import dataclasses

from research.config import (
    AugmentationConfig,
    BudgetConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PrecisionConfig,
    ScheduleConfig,
    TaskConfig,
)
from research.values import Duration, Options

VARIANTS = ("resnet50", "resnet18", "resnet50_mixup", "resnet50_randaugment", "resnet50_goyal", "resnet101_goyal")
_EPOCHS = {"resnet50_mixup": 200, "resnet50_randaugment": 180}  # else 90
DATA = DataConfig(
    "imagenet2012",
    batch_size=256,
    eval_batch_size=500,
    resolution=224,
    crop_fraction=0.875,
    mean=(123.675, 116.28, 103.53),  # of ImageNet, as everyone rounds them since torchvision
    std=(58.395, 57.12, 57.375),
)


def get_config(variant: str = "resnet50") -> Config:
    """A ResNet for 90 epochs, or ResNet-50 for longer with stronger augmentation."""
    model, _, setting = variant.partition("_")
    config = Config(
        model=ModelConfig(model),
        data=DATA,
        augmentation=AugmentationConfig(
            random_resized_crop=True,
            flip=True,
            policy="randaugment" if setting == "randaugment" else "none",
            layers=2,
            magnitude=9.0,
            mixup=0.2 if setting == "mixup" else 0.0,
        ),
        task=TaskConfig(label_smoothing=0.0 if setting in ("mixup", "goyal") else 0.1),
        optimizer=OptimizerConfig("nesterov", learning_rate=0.1, batch_scaling="linear", weight_decay=1e-3),
        schedule=ScheduleConfig("cosine", warmup=Duration(5, "epochs")),
        budget=BudgetConfig(train=Duration(_EPOCHS.get(variant, 90), "epochs")),
        precision=PrecisionConfig("bfloat16"),
    )
    if setting != "goyal":
        return config
    return dataclasses.replace(
        config,
        model=ModelConfig(model, options=Options(zero_init_residual=True)),
        schedule=dataclasses.replace(config.schedule, name="step", boundaries=(30 / 90, 60 / 90, 80 / 90)),
    )
