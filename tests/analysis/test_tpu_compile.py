"""Train steps compiled for TPUs that are not here, and what must hold of them: `make test-tpu-compile`."""

import dataclasses
import re

import jax
import pytest

import configs
import launch
from research import data, overrides
from research.analysis import footprint, topologies
from research.analysis.plan import plan
from research.training import parallel, programs, resolve

pytestmark = pytest.mark.tpu_compile

NETWORKS = ("resnet50", "mobilenet_v2", "efficientnet_b0")


def imagenet(model, *flags):
    return overrides.apply(configs.load("imagenet:resnet50"), ["--model.name", model, *flags])


def gradient_bytes(way):
    """Of the gradients of a config, one for each parameter: computed in bfloat16, they are summed in it as well."""
    stored, _ = data.described(way.config.data)
    resolved = resolve.resolve(way.config, stored=stored, devices=jax.devices()[:1])
    pipeline = data.shapes(resolved.data, way.config.augmentation, stored=stored)
    whole = parallel.per_device_bytes_of(programs.state_shapes(resolved, pipeline).params)
    return whole // 2 if way.config.precision.compute == "bfloat16" else whole


def kinds(way):
    return {one.kind: one for one in way.collectives}


@pytest.mark.parametrize("name", topologies.NAMES)
def test_libtpu_knows_every_slice(name):
    wanted = topologies.parse(name)
    devices = topologies.devices(wanted)
    assert len(devices) == wanted.chips
    assert len({device.process_index for device in devices}) == wanted.hosts
    assert {device.platform for device in devices} == {"tpu"}


@pytest.mark.parametrize("model", NETWORKS)
def test_networks_compile_for_a_host_of_eight_and_for_one_chip(model):
    """Batches of 32 images on each of eight chips, and on one of another kind."""
    copies, shared = plan(imagenet(model), topologies.parse("v5e:2x4")).ways
    (alone,) = plan(imagenet(model, "--data.batch-size", "32"), topologies.parse("v6e:1x1")).ways
    for way in (copies, shared, alone):
        assert way.fits
        assert way.memory.resident_data < 10_000  # streamed: mean, deviation and seed
        assert way.memory.feed >= 32 * (224 * 224 * 3 + 4 + 4)  # image, label and mask
    assert shared.memory.parameters < 0.3 * copies.memory.parameters  # an eighth, and what is too small to be split
    assert shared.memory.optimizer_state < 0.3 * copies.memory.optimizer_state
    assert copies.memory.parameters == alone.memory.parameters
    assert kinds(copies)["all-reduce"].bytes >= gradient_bytes(copies)
    assert "all-gather" in kinds(shared)
    assert kinds(shared).keys() <= {"all-gather", "all-reduce", "reduce-scatter"}  # no device sends its images
    assert alone.collectives == ()
    assert alone.flops == pytest.approx(copies.flops, rel=0.1)  # the update, and what compilers make of the padding


@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x2", "v6e:2x4"])
@pytest.mark.parametrize(
    "flags",
    ["", "--parallelism.mode pmap", "--parallelism.batch-norm per_replica", "--parallelism.accumulate 2"],
)
def test_the_arguments_are_what_the_compiler_says_they_are(topology, flags):
    """Parameters, optimizer, batch and data, each from its shape, its sharding and its tiles: to the byte."""
    wanted = topologies.parse(topology)
    cfg = overrides.apply(configs.load("digits:resnet8"), flags.split())
    shardings = ("replicated",) if "pmap" in flags or "per_replica" in flags else ("replicated", "fsdp")
    for sharding in shardings:
        cfg = dataclasses.replace(cfg, parallelism=dataclasses.replace(cfg.parallelism, sharding=sharding))
        resolved = resolve.resolve(cfg, devices=topologies.devices(wanted))
        pipeline = data.shapes(resolved.data, cfg.augmentation)
        placed = programs.train_arguments(resolved, pipeline)
        program = programs.compile_train(resolved, pipeline, *placed[:2])
        account = footprint.of(placed, program)
        assert account.arguments == program.memory_analysis().argument_size_in_bytes
        assert account.parameters >= parallel.per_device_bytes_of(placed[0].params)


def test_temporaries_grow_with_the_batch():
    cfg = overrides.apply(configs.load("cifar10:resnet20"), ["--model.name", "resnet8", "--data.input", "streaming"])
    small, large = (
        plan(overrides.apply(cfg, ["--data.batch-size", size]), topologies.parse("v5e:1x1")).ways[0].memory
        for size in ("256", "2048")
    )
    assert large.temporaries > 2 * small.temporaries


def test_a_loop_over_parts_counts_as_often_as_it_runs():
    cfg = configs.load("digits:resnet8")
    parts = [overrides.apply(cfg, ["--parallelism.accumulate", number]) for number in ("1", "4")]
    one, four = (plan(cfg, topologies.parse("v5e:2x2")).ways[0] for cfg in parts)
    assert four.flops == pytest.approx(one.flops, rel=0.1)  # padding of smaller parts, and sums of gradients
    assert kinds(four)["all-reduce"].bytes >= gradient_bytes(four)


def test_a_batch_that_does_not_fit_is_said_with_the_figures(capsys):
    """So far beyond that the compiler gives up at once: near the limit it tries for minutes."""
    words = ["plan", "imagenet:resnet18", "--model.name", "lenet5", "--data.batch-size", "65536"]
    assert launch.main([*words, "--topology", "v5e:1x1"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"one device does not fit: \d+\.\d\d GiB needed, 15\.75 GiB available", shown)
    assert "--data.batch-size 32768" in shown
    assert max(map(len, shown.splitlines())) <= 80
