"""ZFNet: AlexNet with a finer first layer.

Matthew Zeiler, Rob Fergus: "Visualizing and Understanding Convolutional Networks", 2013, arXiv:1311.2901, figure 3 and
section 3.1: layer 1 is 7x7 with stride 2 (AlexNet's 11x11 with stride 4 left out middle frequencies and aliased), layer
2 strides by 2, one tower, contrast normalisation across maps after the pool instead of before it; weights from a normal
of standard deviation 0.01, biases 0, dropout 0.5 on both hidden layers.

Deviations: the paper leaves out paddings and the rule at the border; padding 1 in layer 1 and pools whose last window
hangs over the end give its maps of 110, 55, 26, 13 and 6 pixels. Its contrast normalisation is AlexNet's with the same
constants. The paper scales down, while it trains, filters whose root mean square exceeds 0.1: not so in the network.
"""

import functools

from research.models import Published, Variant
from research.models.alexnet import AlexNet, ConvRow

MINIMUM = 63

# Zeiler and Fergus 2013, figure 3.
CONVS = (
    ConvRow(96, 7, 2, 1, after=("pool", "norm")),
    ConvRow(256, 5, 2, 0, after=("pool", "norm")),
    ConvRow(384, 3, padding=1),
    ConvRow(384, 3, padding=1),
    ConvRow(256, 3, padding=1, after=("pool",)),
)

VARIANTS = {
    "zfnet": Variant(
        build=functools.partial(AlexNet, convs=CONVS, minimum=MINIMUM, ceil_pool=True),
        input_shape=(224, 224, 3),
        num_classes=1000,
        minimum=MINIMUM,
        summary="AlexNet with a finer first layer (Zeiler and Fergus 2013, figure 3)",
        paper="arXiv:1311.2901",
        published=Published(61.6, "Zeiler and Fergus 2013, table 2: one network of figure 3, mean of ten crops"),
    )
}
