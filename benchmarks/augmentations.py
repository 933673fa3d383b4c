"""What augmentation costs: microseconds an image, inside one compiled function, by setting and image size.

    python benchmarks/augmentations.py [--sides 32 224] [--rounds 7] [--only policy]

Each setting is timed on a batch as a step would have it, the settings of a round one after the other, and the least
of the rounds is printed beside the time of normalising alone.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from research import backend
from research.config import AugmentationConfig
from research.data import augmentations

PIXELS = 2**19  # of a batch: 512 images of 32 pixels, 10 of 224
SETTINGS: dict[str, dict[str, Any]] = {
    "normalise only": {},
    "flip, pad_and_crop": {"flip": True, "pad_and_crop": 4},
    "random_resized_crop": {"random_resized_crop": True},
    "policy autoaugment_imagenet": {"policy": "autoaugment_imagenet"},
    "policy autoaugment_cifar": {"policy": "autoaugment_cifar"},
    "policy randaugment, 2 layers": {"policy": "randaugment"},
    "brightness, contrast, saturation": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
    "hue": {"hue": 0.1},
    "cutout": {"cutout": 16},
    "random_erasing": {"random_erasing": 0.25},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "mixup or cutmix": {"mixup": 0.2, "cutmix": 1.0},
}


def compiled(cfg: AugmentationConfig) -> Callable[..., Any]:
    """Batch to augmented, normalised and mixed batch."""

    def batch(keys: jax.Array, images: jax.Array, labels: jax.Array) -> Any:
        mean, std = jnp.full(3, 125.3), jnp.full(3, 60.1)
        made = jax.vmap(lambda key, image: augmentations.example(cfg, key, image, mean, std))(
            keys, images.astype(jnp.float32)
        )
        return augmentations.mix(cfg, keys, made, labels, jnp.ones(len(labels)), 10)

    return jax.jit(batch)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 224])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="settings whose name has this in it")
    words = parser.parse_args()
    backend.set_up()
    chosen = {name: AugmentationConfig(**s) for name, s in SETTINGS.items() if words.only in name}
    for side in words.sides:
        count = max(PIXELS // side**2 // 2 * 2, 2)
        keys = jax.random.split(jax.random.key(0), count)
        images = jax.random.randint(jax.random.key(1), (count, side, side, 3), 0, 256, jnp.uint8)
        arguments = (keys, images, jnp.arange(count) % 10)
        functions = {name: compiled(cfg).lower(*arguments).compile() for name, cfg in chosen.items()}
        least = dict.fromkeys(chosen, float("inf"))
        for _ in range(words.rounds):
            for name, function in functions.items():
                began = time.perf_counter()
                jax.block_until_ready(function(*arguments))
                least[name] = min(least[name], time.perf_counter() - began)
        for name, seconds in least.items():
            print(f"{side:4d} px, batch {count:4d}: {name:32s} {seconds / count * 1e6:9.1f} us/image", flush=True)


if __name__ == "__main__":
    main()
