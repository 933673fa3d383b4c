"""Memory of the compiled train step against the same step in stock Flax: ResNet-20, Fashion-MNIST, batch 128.

    python benchmarks/step_memory.py [--batch-size 128]

Both sides: `memory_analysis()` arguments + temporaries + outputs - aliases, momentum, donated state. Stock: nn.Conv,
nn.BatchNorm, optax.sgd, and a normalised float batch as argument. Ours: the recipe as `launch.py train` compiles it,
with the augmentation inside; its resident data set is an argument too and is printed apart, since the stock step
keeps the same set on the host.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).parent.parent))

import configs
from benchmarks import stock as stock_networks
from research import backend, data
from research.analysis import memory
from research.config import replace
from research.training import programs, resolve


def parts(compiled: Any) -> dict[str, float]:
    """The step's memory in MB."""
    found = memory.of(compiled)
    return {name: value / 1e6 for name, value in {**vars(found), "total": found.total}.items()}


def stock(batch: int) -> Any:
    """The compiled stock step."""
    model, rule = stock_networks.ResNet20(), optax.sgd(0.1, momentum=0.9, nesterov=True)
    images, labels = jnp.zeros((batch, 28, 28, 1)), jnp.zeros((batch,), jnp.int32)
    variables = jax.eval_shape(lambda key: model.init(key, images, train=False), jax.random.PRNGKey(0))
    opt_state = jax.eval_shape(rule.init, variables["params"])
    step = jax.jit(stock_networks.train_step(model, rule), donate_argnums=(0, 1))
    return step.lower(variables, opt_state, images, labels).compile()


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
    theirs, (compiled, resident) = parts(stock(batch)), ours(batch)
    mine = parts(compiled)
    for name, row in (("stock Flax", theirs), ("ours", mine)):
        print(f"{name:>10}: " + ", ".join(f"{key} {value:.1f} MB" for key, value in row.items()))
    print(f"ours / stock, resident data ({resident:.1f} MB) included: {mine['total'] / theirs['total']:.3f}")
    print(f"ours / stock, without it: {(mine['total'] - resident) / theirs['total']:.3f}")


if __name__ == "__main__":
    main()
