"""What splitting, accumulating and rematerialising save: bytes of the compiled train step, as ratios in one run.

    python benchmarks/step_strategies.py [--batch-size 128]

- FSDP over 4 virtual devices: bytes of parameters and optimizer state that one device keeps, against replicated ones
  (ResNet-20 and LeNet-5 with momentum).
- Accumulation of 4: memory (arguments, temporaries and outputs less aliases) of the ResNet-20 step, against the large
  batch's.
- Rematerialisation: temporaries of the ResNet-110 step, against those without.
"""

import argparse

import jax

import configs
from research import backend, data
from research.analysis import memory
from research.config import Config, replace
from research.training import parallel, programs, resolve


def compiled(cfg: Config) -> jax.stages.Compiled:
    """The compiled train step of `cfg`, from shapes."""
    resolved = resolve.resolve(cfg)
    pipeline = data.pipeline(cfg.data, cfg.augmentation, seed=0)
    return programs.compile_train(resolved, pipeline, programs.state_shapes(resolved, pipeline), pipeline.resident)


def temporaries(cfg: Config) -> float:
    """MB of temporaries."""
    return memory.of(compiled(cfg)).temporaries / 1e6


def total(cfg: Config) -> float:
    """MB of everything the step needs."""
    return memory.of(compiled(cfg)).total / 1e6


def kept(cfg: Config) -> float:
    """MB of parameters and optimizer state that one device keeps."""
    resolved = resolve.resolve(cfg)
    state = programs.new_state(resolved, data.pipeline(cfg.data, cfg.augmentation, seed=0))
    return parallel.per_device_bytes((state.params, state.opt_state)) / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128)
    batch = parser.parse_args().batch_size
    jax.config.update("jax_num_cpu_devices", 4)
    backend.set_up()
    base = replace(configs.load("digits:resnet20"), **{"data.batch_size": batch, "data.resolution": 32})
    alone = replace(base, **{"parallelism.devices": 1})
    for model in ("resnet20", "lenet5"):
        cfg = replace(base, **{"model.name": model})
        split, whole = kept(replace(cfg, **{"parallelism.sharding": "fsdp"})), kept(cfg)
        print(
            f"fsdp over 4 devices, {model}: {split:.3f} of {whole:.3f} MB a device, ratio {split / whole:.3f}",
            flush=True,
        )
    parts, large = total(replace(alone, **{"parallelism.accumulate": 4})), total(alone)
    print(f"accumulation of 4, resnet20: {parts:.1f} of {large:.1f} MB, ratio {parts / large:.3f}", flush=True)
    deep = replace(alone, **{"model.name": "resnet110"})
    again, stored = temporaries(replace(deep, **{"parallelism.remat": True})), temporaries(deep)
    print(f"rematerialisation, resnet110: {again:.1f} of {stored:.1f} MB of temporaries, ratio {again / stored:.3f}")


if __name__ == "__main__":
    main()
