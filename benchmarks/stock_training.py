"""LeNet-5 on digits or Fashion-MNIST as anyone would train it with Flax and optax: one process, one run, one file.

    python -m benchmarks.stock_training --dataset digits --steps 449 --batch-size 64 --learning-rate 0.02 \\
        --weight-decay 1e-3 --warmup 22 --eval-every 112 --seed 0

The other side of `benchmarks/sweep.py`, which says what these are: a jitted step, batches cut from arrays on the host,
evaluation now and then. Nothing of ours is imported. Prints its test accuracy as JSON.
"""

import argparse
import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from PIL import Image

FASHION = Path("/usr/share/datasets/fashion-mnist")
Arrays = tuple[np.ndarray, np.ndarray]


class LeNet5(nn.Module):
    """LeNet-5 as read today: average pooling, tanh, dense output."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits `"b 10"` of images `"b 32 32 1"`."""
        for width in (6, 16):
            x = nn.avg_pool(nn.tanh(nn.Conv(width, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for width in (120, 84):
            x = nn.tanh(nn.Dense(width)(x))
        return nn.Dense(10)(x)


def digits() -> tuple[Arrays, Arrays]:
    """1,438 and 359 of scikit-learn's digits, enlarged to 32x32."""
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",", dtype=np.int32)
    small = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    images = np.stack([Image.fromarray(one).resize((32, 32), Image.Resampling.BILINEAR) for one in small])
    test = np.arange(len(table)) % 5 == 4
    return (images[~test], table[~test, 64]), (images[test], table[test, 64])


def fashion_mnist() -> tuple[Arrays, Arrays]:
    """60,000 and 10,000 photographs, padded to 32x32."""

    def part(name: str) -> Arrays:
        pixels = gzip.decompress((FASHION / f"{name}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((FASHION / f"{name}-labels-idx1-ubyte.gz").read_bytes())
        images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28)
        return np.pad(images, ((0, 0), (2, 2), (2, 2))), np.frombuffer(labels, np.uint8, offset=8).astype(np.int32)

    return part("train"), part("t10k")


DATASETS = {"digits": digits, "fashion_mnist": fashion_mnist}


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(DATASETS), required=True)
    for name in ("steps", "batch-size", "warmup", "eval-every", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("learning-rate", "weight-decay"):
        parser.add_argument(f"--{name}", type=float, required=True)
    words = parser.parse_args()
    (images, labels), test = DATASETS[words.dataset]()
    mean, std = images.mean(), images.std()
    model = LeNet5()
    schedule = optax.warmup_cosine_decay_schedule(0.0, words.learning_rate, words.warmup, words.steps)
    rule = optax.chain(
        optax.trace(0.9, nesterov=True),
        optax.add_decayed_weights(words.weight_decay, lambda params: jax.tree.map(lambda p: p.ndim >= 2, params)),
        optax.scale_by_learning_rate(schedule),
    )

    def logits_of(params: Any, images: jax.Array) -> jax.Array:
        return model.apply(params, ((images - mean) / std)[..., None])

    @jax.jit
    def train_step(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> Any:
        def loss_of(params: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(logits_of(params, images), labels).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = rule.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    @jax.jit
    def count_correct(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        return (logits_of(params, images).argmax(-1) == labels).sum()

    def accuracy() -> float:
        parts = next(n for n in range(-(-len(test[0]) // 512), len(test[0]) + 1) if len(test[0]) % n == 0)
        batches = zip(*(np.split(array, parts) for array in test), strict=True)
        return sum(int(count_correct(params, *batch)) for batch in batches) / len(test[0])

    params = model.init(jax.random.key(words.seed), jnp.zeros((1, 32, 32, 1)))
    state, draws = rule.init(params), np.random.default_rng(words.seed)
    epochs = -(-words.steps * words.batch_size // len(images))
    order = np.concatenate([draws.permutation(len(images)) for _ in range(epochs)])
    losses = []
    for step in range(words.steps):
        chosen = order[step * words.batch_size : (step + 1) * words.batch_size]
        params, state, loss = train_step(params, state, images[chosen], labels[chosen])
        if (step + 1) % 50 == 0:
            losses.append(float(loss))
        if (step + 1) % words.eval_every == 0 and step + 1 < words.steps:
            accuracy()
    print(json.dumps({"accuracy": accuracy(), "losses": losses}))


if __name__ == "__main__":
    main()
