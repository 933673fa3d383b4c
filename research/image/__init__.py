"""Image operations on batches "b h w c", as pure functions."""

from research.image.distance import distance_transform
from research.image.similarity import multi_scale_structural_similarity, peak_signal_to_noise, structural_similarity

__all__ = [
    "distance_transform",
    "multi_scale_structural_similarity",
    "peak_signal_to_noise",
    "structural_similarity",
]
