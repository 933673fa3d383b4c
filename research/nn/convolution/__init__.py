"""How a convolution is computed: one operation (`primitive`), and how the CPU lowers it (`cpu`)."""

from research.nn.convolution.primitive import Geometry, convolution, transposed

__all__ = ["Geometry", "convolution", "transposed"]
