"""Memory of the compiled train step against the same step in stock Flax: ResNet-20, Fashion-MNIST, batch 128.

    python benchmarks/step_memory.py [--batch-size 128]

Both sides: `memory_analysis()` arguments + temporaries + outputs - aliases, momentum, donated state. Stock: nn.Conv,
nn.BatchNorm, optax.sgd, and a normalised float batch as argument. Ours: the recipe as `launch.py train` compiles it,
with the augmentation inside; its resident data set is an argument too and is printed apart, since the stock step
keeps the same set on the host.
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import configs
from research import backend, data
from research.config import replace
from research.training import programs, resolve


class StockResNet20(nn.Module):
    """He et al. 2015, CIFAR form with option A, written with Flax's own layers."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Logits `"b 10"` of images `"b h w c"`."""
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
        return nn.Dense(10)(x.mean((1, 2)))


def total(compiled: Any) -> dict[str, float]:
    """Parts of the step's memory in MB."""
    m = compiled.memory_analysis()
    parts = {
        "arguments": m.argument_size_in_bytes,
        "temporaries": m.temp_size_in_bytes,
        "outputs": m.output_size_in_bytes,
        "aliases": m.alias_size_in_bytes,
    }
    parts["total"] = parts["arguments"] + parts["temporaries"] + parts["outputs"] - parts["aliases"]
    return {name: value / 1e6 for name, value in parts.items()}


def stock(batch: int) -> Any:
    """The compiled stock step."""
    model, rule = StockResNet20(), optax.sgd(0.1, momentum=0.9, nesterov=True)
    images, labels = jnp.zeros((batch, 28, 28, 1)), jnp.zeros((batch,), jnp.int32)

    def train_step(variables: Any, opt_state: Any, images: jax.Array, labels: jax.Array) -> Any:
        def loss_of(params: Any) -> Any:
            logits, updated = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated

        (loss, updated), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        updates, opt_state = rule.update(gradients, opt_state)
        return {"params": optax.apply_updates(variables["params"], updates), **updated}, opt_state, loss

    variables = jax.eval_shape(lambda key: model.init(key, images, train=False), jax.random.PRNGKey(0))
    opt_state = jax.eval_shape(rule.init, variables["params"])
    return jax.jit(train_step, donate_argnums=(0, 1)).lower(variables, opt_state, images, labels).compile()


def ours(batch: int) -> tuple[Any, float]:
    """The compiled step of the recipe, and its resident data in MB."""
    cfg = replace(configs.load("fashion_mnist:resnet20"), **{"data.batch_size": batch})
    resolved = resolve.resolve(cfg)
    pipeline = data.pipeline(cfg.data, cfg.augmentation, seed=0)
    compiled = programs.compile_train(resolved, pipeline, programs.state_shapes(resolved, pipeline), pipeline.resident)
    used = {**pipeline.resident, "eval": {}}  # the step takes the training split; the compiler drops the other
    return compiled, sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(used)) / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128)
    batch = parser.parse_args().batch_size
    backend.set_up()
    theirs, (mine, resident) = total(stock(batch)), ours(batch)
    parts = total(mine)
    for name, row in (("stock Flax", theirs), ("ours", parts)):
        print(f"{name:>10}: " + ", ".join(f"{key} {value:.1f} MB" for key, value in row.items()))
    print(f"ours / stock, resident data ({resident:.1f} MB) included: {parts['total'] / theirs['total']:.3f}")
    print(f"ours / stock, without it: {(parts['total'] - resident) / theirs['total']:.3f}")


if __name__ == "__main__":
    main()
