"""What losses and metrics take, typed by meaning: the annotation tells a reader the shape and the laws what to draw.

Numbers may be of any float type; losses compute in float32. "*s" stands for any number of axes of space: "h w" for
pictures, "d h w" for volumes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

AnyArray = Array | np.ndarray
# An option of a loss that is a value to the compiled step: 0 is known to be off only where it is a Python number.
Number = float | Float[AnyArray, ""]

# Classification. Scores before softmax or sigmoid, any float type.
Logits = Annotated[Float[AnyArray, "b k"], "logits"]
# One class per example, as its index, or as probabilities that sum to 1 over the classes.
ClassLabels = Annotated[Integer[AnyArray, "b"] | Float[AnyArray, "b k"], "class labels"]
# Each class present or not, independently; or one class as its index; or, with one output, 0 or 1.
BinaryLabels = Annotated[Integer[AnyArray, "b"] | Float[AnyArray, "b k"], "binary labels"]
# One decision per example, more than 0 for yes.
Scores = Annotated[Float[AnyArray, "b"], "scores"]
# -1 for no, 1 for yes.
Signs = Annotated[Integer[AnyArray, "b"] | Float[AnyArray, "b"], "signs"]
# 0 for no, 1 for yes: two of one kind, for instance.
YesOrNo = Annotated[Integer[AnyArray, "b"] | Bool[AnyArray, "b"] | Float[AnyArray, "b"], "yes or no"]
# Cosines of angles, of an embedding to each class.
Cosines = Annotated[Float[AnyArray, "b k"], "cosines"]

# How likely each class is: rows that sum to 1.
Probabilities = Annotated[Float[AnyArray, "b k"], "probabilities"]

# Regression. Any numbers, of any shape after the batch.
Values = Annotated[Float[AnyArray, "b ..."], "values"]

# Places in pictures. [x_min, y_min, x_max, y_max] each.
Boxes = Annotated[Float[AnyArray, "b 4"], "boxes"]
# A box as numbers relative to an anchor (`research.boxes.encode`).
Offsets = Annotated[Float[AnyArray, "b 4"], "offsets"]
# [pc, bx, by, bh, bw, c1 .. cn] of one object a picture, and predictions of it (c as logits).
Objects = Annotated[Float[AnyArray, "b n"], "objects"]
ObjectScores = Annotated[Float[AnyArray, "b n"], "object scores"]
# The same for each cell of a grid (pc of predictions too is a logit).
ObjectGrid = Annotated[Float[AnyArray, "b rows columns n"], "object grid"]
ObjectGridScores = Annotated[Float[AnyArray, "b rows columns n"], "object grid scores"]
# Points (x, y), or all of an example in one row x1 y1 x2 y2 ..
Landmarks = Annotated[Float[AnyArray, "b n 2"] | Float[AnyArray, "b m"], "landmarks"]
# How much each pixel looks like each point.
Heatmaps = Annotated[Float[AnyArray, "b h w n"], "heatmaps"]
# Points (x, y) in pixels of a heatmap.
HeatmapPoints = Annotated[Float[AnyArray, "b n 2"], "heatmap points"]

# Vectors that stand for examples, near where they are alike.
Embeddings = Annotated[Float[AnyArray, "b d"], "embeddings"]
# Which examples are of one kind.
Identities = Annotated[Integer[AnyArray, "b"], "identities"]

# Pixels. Scores of each class, probabilities of each class, and the class.
PixelLogits = Annotated[Float[AnyArray, "b *s k"], "pixel logits"]
PixelProbabilities = Annotated[Float[AnyArray, "b *s k"], "pixel probabilities"]
PixelTruth = Annotated[Float[AnyArray, "b *s k"], "pixel truth"]
PixelLabels = Annotated[Integer[AnyArray, "b *s"], "pixel labels"]
# Which object each pixel belongs to: 1, 2, .. and 0 for none.
Instances = Annotated[Integer[AnyArray, "b h w"], "instances"]
# [class, instance] of each pixel: equal ones are a segment; a class of less than 0 is none (in truth: not known).
Segments = Annotated[Integer[AnyArray, "b h w 2"], "segments"]
TrueSegments = Annotated[Integer[AnyArray, "b h w 2"], "true segments"]
# Pictures with values from 0 to 1 (or to `data_range`), and scores whose sigmoid is one.
Images = Annotated[Float[AnyArray, "b h w c"], "images"]
ImageLogits = Annotated[Float[AnyArray, "b h w c"], "image logits"]
# Distances to what pixels show, in one unit, more than 0; and what is proportional to their inverse.
Depths = Annotated[Float[AnyArray, "b h w"], "depths"]
Disparities = Annotated[Float[AnyArray, "b h w"], "disparities"]
# What layers of a network give for a picture, by the name of the layer.
Features = Annotated[Mapping[str, Float[AnyArray, "b _ _ _"]], "features"]

# Latent spaces. Of a Gaussian with independent components: mean, and log of the variance.
LatentMeans = Annotated[Float[AnyArray, "b ..."], "latent means"]
LogVariances = Annotated[Float[AnyArray, "b ..."], "log variances"]
# What an encoder gives, and the entries of a codebook nearest to it.
Encodings = Annotated[Float[AnyArray, "b ... d"], "encodings"]
Codes = Annotated[Float[AnyArray, "b ... d"], "codes"]

# Sequences. Scores of each symbol at each time, and the symbols.
SequenceLogits = Annotated[Float[AnyArray, "b t k"], "sequence logits"]
Symbols = Annotated[Integer[AnyArray, "b n"], "symbols"]
# Scores of each anchor trajectory; by how much the trajectory differs from it; log of the standard deviations; truth.
AnchorLogits = Annotated[Float[AnyArray, "b k"], "anchor logits"]
AnchorOffsets = Annotated[Float[AnyArray, "b k t 2"], "anchor offsets"]
AnchorLogScales = Annotated[Float[AnyArray, "b k t 2"], "anchor log scales"]
Trajectories = Annotated[Float[AnyArray, "b t 2"], "trajectories"]

# Strings, one for each example; and one or several that it should be.
Texts = Annotated[Sequence[str], "texts"]
References = Annotated[Sequence[str] | Sequence[Sequence[str]], "references"]

# What a critic says of examples that are real, and that are made.
RealScores = Annotated[Float[AnyArray, "b"], "scores of real"]
FakeScores = Annotated[Float[AnyArray, "b"], "scores of fake"]
# A function from examples to one score each, and examples for it.
Critic = Annotated[Callable[[jax.Array], jax.Array], "critic"]
RealExamples = Annotated[Float[AnyArray, "b ..."], "real examples"]
FakeExamples = Annotated[Float[AnyArray, "b ..."], "fake examples"]
# What random draws are made by.
Key = Annotated[AnyArray, "key"]
# A tree of arrays.
Parameters = Annotated[Any, "parameters"]

# 1 where the example is real, 0 where it is padding.
Mask = Annotated[Float[AnyArray, "b"], "mask"]
# What a loss gives: one value per example of the batch, not reduced and not masked;
PerExample = Annotated[Float[AnyArray, "b"], "per example"]
# the same of a loss whose values may be less than 0;
Signed = Annotated[Float[AnyArray, "b"], "per example", "signed"]
# or one value of the whole batch, whose examples it compares with one another;
OfBatch = Annotated[Float[Array, ""], "batch"]
# or one of what is no batch: a tree of parameters, a critic.
Penalty = Annotated[Float[Array, ""], "penalty"]
