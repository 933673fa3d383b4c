"""A trained network as one file that needs none of this code: StableHLO with its weights and normalisation inside.

    from jax import export
    run = export.deserialize(open("network.stablehlo", "rb").read())
    probabilities = run.call(images)                            # uint8 "b h w c" -> float32 "b classes", any b

What must happen to an image before (size, crop, channels) and the names of the classes stand in FILE.json beside it.
The probabilities are those of `launch.py predict`, to the bit on as many cores and with the `XLA_FLAGS` of FILE.json.
"""

import json
import os
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jax import export as jax_export

from research import paths, storage
from research.errors import UserError
from research.training.trained import Trained

PLATFORMS = ("cpu", "cuda", "tpu")


def check_target(out: epath.PathLike) -> epath.Path:
    """The file to write. Raises `UserError` where its folder does not exist, or it cannot be written."""
    file = storage.reach(out)
    if not storage.is_remote(out):  # a store has no folders that must be there
        paths.check_file(out, "--out")
        paths.check_file(f"{out}.json", "--out")
    elif file.is_dir():
        raise UserError(f"--out is {str(out)!r}; expected a file")
    return file


def export(trained: Trained, out: epath.PathLike) -> dict[str, Any]:
    """Write `trained` to the file `out` and what images it takes to `out`.json; returns the latter.

    Raises `UserError` where the folder does not exist.
    """
    file = check_target(out)
    (batch,) = jax_export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *trained.shape), jnp.uint8)
    made = jax_export.export(jax.jit(trained.probabilities), platforms=PLATFORMS)(images)
    described = {
        "input": {
            "shape": ["b", *trained.shape],
            "dtype": "uint8",
            "channels": {1: "grey", 3: "red, green, blue", 4: "red, green, blue, alpha"}[trained.shape[2]],
            "fit": trained.config.data.fit,
            "crop_fraction": trained.crop_fraction,
            "resize": "short side to size / crop_fraction pixels, antialiased, then the centre",
            "interpolation": trained.interpolation,
            "normalisation": "inside the program",
        },
        "output": {
            "shape": ["b", len(trained.class_names)],
            "dtype": "float32",
            "meaning": "probability of each class" + (", each by itself" if trained.multi_label else ""),
            "class_names": list(trained.class_names),
        },
        "model": trained.config.model.name,
        "step": trained.step,
        "platforms": list(PLATFORMS),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "load": "jax.export.deserialize(open(FILE, 'rb').read()).call(images)",
    }
    storage.write(file, bytes(made.serialize()))
    storage.write(file.with_name(f"{file.name}.json"), json.dumps(described, indent=2) + "\n")
    return described
