"""Grad-CAM of a trained run on one image file, as a picture: what `launch.py explain` writes."""

import io
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from PIL import Image

from research import paths, storage
from research.analysis import features, grad_cam
from research.data import transforms
from research.errors import UserError, unknown
from research.training import record
from research.training.trained import Trained

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}  # by the ending of a file


@dataclass(frozen=True)
class Explanation:
    """What was looked at: the overlay's file, the layer, the class, and its probability."""

    path: str
    layer: str
    class_name: str
    probability: float


def explain(
    trained: Trained, file: str, out: epath.PathLike, *, layer: str | None = None, class_name: str | None = None
) -> Explanation:
    """Write the Grad-CAM of `class_name` (default: the likeliest) at `layer` (default: the last stage) over an image.

    `out` is a .png or .jpg. Raises `UserError`: no such image, layer or class (nearest shown), or nowhere to write.
    """
    target = storage.reach(out)
    if target.suffix.lower() not in FORMATS:
        raise UserError(f"--out is {str(out)!r}; expected a .png or .jpg file")
    record.check_workdir(target.parent)
    if storage.is_remote(target):
        pass
    elif paths.answer(target.parent.is_dir):
        paths.check_file(target, "--out")
    elif why := paths.impossible(target):
        raise UserError(f"--out is {str(out)!r}, which cannot be a file: {why}")
    if class_name is not None and class_name not in trained.class_names:
        raise unknown("class", class_name, trained.class_names)
    image = trained.fitted(file)
    images = trained.normalised(jnp.asarray(image[None]))
    probabilities = np.asarray(trained.probabilities(jnp.asarray(image[None])))[0]
    chosen = int(probabilities.argmax()) if class_name is None else trained.class_names.index(class_name)
    known = features.layers(trained.model, trained.variables, images)
    layer = grad_cam.last_stage(known) if layer is None else layer

    def heat_of(images: jax.Array) -> jax.Array:
        classes = jnp.array([chosen], jnp.int32)
        return grad_cam.normalised(grad_cam.grad_cam(trained.model, trained.variables, images, classes, layer=layer))

    heat = np.asarray(jax.jit(heat_of)(images))[0]
    picture = io.BytesIO()
    Image.fromarray(grad_cam.overlay(image[..., :3], heat, _resized)).save(picture, FORMATS[target.suffix.lower()])
    storage.write(target, picture.getvalue())
    return Explanation(str(target), layer, trained.class_names[chosen], float(probabilities[chosen]))


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return transforms.resample(transforms.pictured(image), height, width)
