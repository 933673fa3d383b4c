"""What losses and metrics take, typed by meaning: the annotation tells a reader the shape and the laws what to draw."""

from typing import Annotated

import numpy as np
from jaxtyping import Array, Float, Integer

AnyArray = Array | np.ndarray
# An option of a loss that is a value to the compiled step: 0 is known to be off only where it is a Python number.
Number = float | Float[AnyArray, ""]

# Scores before softmax or sigmoid, any float type.
Logits = Annotated[Float[AnyArray, "b k"], "logits"]
# One class per example, as its index, or as probabilities that sum to 1 over the classes.
ClassLabels = Annotated[Integer[AnyArray, "b"] | Float[AnyArray, "b k"], "class labels"]
# Each class present or not, independently; or one class as its index; or, with one output, 0 or 1.
BinaryLabels = Annotated[Integer[AnyArray, "b"] | Float[AnyArray, "b k"], "binary labels"]
# 1 where the example is real, 0 where it is padding.
Mask = Annotated[Float[AnyArray, "b"], "mask"]
# One value per example of the batch, not reduced and not masked.
PerExample = Annotated[Float[AnyArray, "b"], "per example"]
