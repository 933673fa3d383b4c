"""ResNets and a train step as anyone writes them with Flax's own layers, which share nothing with `research.nn`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

PyTree = Any


class ResNet20(nn.Module):
    """He et al. 2015, CIFAR form with option A."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Logits `"b num_classes"` of images `"b h w c"`."""
        conv = functools.partial(nn.Conv, kernel_size=(3, 3), padding=1, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
        x = nn.relu(norm()(conv(16)(x)))
        for width in (16, 32, 64):
            for block in range(3):
                stride = 2 if block == 0 and width > 16 else 1
                y = nn.relu(norm()(conv(width, strides=stride)(x)))
                y = norm()(conv(width)(y))
                if stride == 2:
                    x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, width // 2)))
                x = nn.relu(x + y)
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


class ResNet50(nn.Module):
    """He et al. 2015, table 1, stride on the 3x3 of a bottleneck (v1.5)."""

    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Logits `"b num_classes"` of images `"b h w c"`."""
        conv = functools.partial(nn.Conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
        x = nn.relu(norm()(conv(64, (7, 7), strides=2, padding=3)(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate((3, 4, 6, 3)):
            width = 64 * 2**stage
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 0 else 1
                y = nn.relu(norm()(conv(width, (1, 1))(x)))
                y = nn.relu(norm()(conv(width, (3, 3), strides=stride, padding=1)(y)))
                y = norm()(conv(4 * width, (1, 1))(y))
                if block == 0:
                    x = norm()(conv(4 * width, (1, 1), strides=stride)(x))
                x = nn.relu(x + y)
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


NETWORKS: dict[str, Callable[..., nn.Module]] = {"resnet20": ResNet20, "resnet50": ResNet50}


def train_step(model: nn.Module, rule: optax.GradientTransformation) -> Callable[..., Any]:
    """(variables, optimizer state, images, labels) -> (variables, optimizer state, loss), not compiled."""

    def step(variables: PyTree, opt_state: PyTree, images: jax.Array, labels: jax.Array) -> Any:
        def loss_of(params: PyTree) -> Any:
            logits, updated = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated

        (loss, updated), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        updates, opt_state = rule.update(gradients, opt_state)
        return {"params": optax.apply_updates(variables["params"], updates), **updated}, opt_state, loss

    return step
