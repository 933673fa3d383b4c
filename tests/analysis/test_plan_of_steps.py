"""What a plan says of a train step: its memory adds up, its times are arithmetic, and what does not fit is a result."""

import dataclasses
import json
import math

import jax
import pytest

import configs
import launch
from research import data, overrides
from research.analysis import footprint, plan_report, roofline, topologies
from research.analysis.collectives import Collective
from research.analysis.footprint import Footprint
from research.analysis.plan import Plan, Way, plan
from research.analysis.roofline import Peaks, Times
from research.scaling import complexity
from research.training import parallel, programs, resolve

GIB = 2**30


def config(*flags, name="digits"):
    return overrides.apply(configs.load(name), [*flags, "--data.batch-size", "32"])


@pytest.fixture(scope="module")
def planned():
    return plan(config())


def compiled(cfg):
    """Argument shapes and the compiled step, all from shapes."""
    resolved = resolve.resolve(cfg)
    pipeline = data.shapes(resolved.data, cfg.augmentation)
    placed = programs.train_arguments(resolved, pipeline)
    return placed, programs.compile_train(resolved, pipeline, *placed[:2])


@pytest.mark.parametrize(
    ("flags", "read"),
    [
        ("", 4 + 4),  # bytes of each image's feed: its mask and index
        ("--parallelism.sharding fsdp", 4 + 4),
        ("--parallelism.mode pmap", 4 + 4),
        ("--parallelism.accumulate 2 --optimizer.ema-decay 0.9", 4 + 4 + 4),  # a loop is given the epoch as well
        ("--data.input streaming", 4 + 4 + 32 * 32),  # mask, label and image
    ],
)
def test_the_arguments_are_what_the_compiler_says_they_are(flags, read):
    placed, program = compiled(config(*flags.split()))
    account = footprint.of(placed, program)
    found = program.memory_analysis()
    assert account.arguments == found.argument_size_in_bytes
    assert account.parameters == parallel.per_device_bytes_of(placed[0].params)
    assert account.optimizer_state > account.parameters * 0.99  # momentum, each number once
    assert bool(account.averaged_weights) == ("--optimizer.ema-decay" in flags)
    assert account.feed == 8 * read  # a quarter of the batch
    kept = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(placed[1].get("eval")))
    ahead = 2 * parallel.per_device_bytes_of(placed[2])
    assert kept + ahead <= account.beside < kept + ahead + 100  # and a few numbers that the step does not read


def test_the_shapes_of_data_are_those_of_the_data():
    for flags in ((), ("--data.input", "streaming"), ("--data.validation", "0.1", "--data.name", "synthetic")):
        cfg = config(*flags)
        shapes, real = data.shapes(cfg.data, cfg.augmentation), data.pipeline(cfg.data, cfg.augmentation, seed=0)
        as_shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), real.resident)
        assert shapes.resident == as_shapes
        assert shapes.feed_shapes == real.feed_shapes
        assert shapes.info == real.info


@pytest.mark.parametrize("flags", [(), ("--parallelism.mode", "pmap"), ("--parallelism.accumulate", "4")], ids=" ".join)
def test_shapes_are_placed_as_arrays_are(flags):
    cfg = config(*flags, "--data.input", "streaming")
    layout, pipeline = parallel.layout(cfg), data.pipeline(cfg.data, cfg.augmentation, seed=0)
    feed = programs.example_feed(pipeline)
    for shapes, arrays in (
        (layout.fed(pipeline.feed_shapes, parts=layout.parts), layout.split(feed, parts=layout.parts)),
        (layout.replicated(pipeline.feed_shapes), layout.replicate(feed)),
    ):
        for shape, array in zip(jax.tree.leaves(shapes), jax.tree.leaves(arrays), strict=True):
            assert (shape.shape, shape.dtype, shape.sharding) == (array.shape, array.dtype, array.sharding)
        assert parallel.per_device_bytes_of(shapes) == parallel.per_device_bytes(arrays)


def test_both_ways_are_planned_and_fsdp_keeps_less(planned):
    copies, shared = planned.ways
    assert [way.name for way in planned.ways] == ["data-parallel", "fsdp"]
    assert copies.config == planned.config
    assert shared.memory.parameters < 0.3 * copies.memory.parameters  # a quarter, and what is too small to be split
    assert all(way.fits and way.needed == way.memory.total for way in planned.ways)
    assert (planned.devices, planned.hosts, planned.steps) == (4, 1, 899)  # 20 epochs of 1,438 digits
    (reduced,) = [one for one in copies.collectives if one.kind == "all-reduce"]
    assert reduced.bytes >= copies.memory.parameters  # the gradients
    assert {one.kind for one in shared.collectives} > {"all-gather"}


def test_flops_and_times_are_those_of_the_batch(planned):
    way = planned.ways[0]
    model = resolve.build_model(planned.config, num_classes=10)
    forward = complexity.count(model, (1, 32, 32, 1)).conventions["flops_xla"]
    assert way.flops >= 3 * forward * 8  # images on each device
    assert way.times.step == max(way.times.compute, way.times.memory)
    assert planned.images_per_second(way) == 32 / way.times.step
    assert planned.hours(way) == pytest.approx(899 * way.times.step / 3600)  # rounding


def test_temporaries_grow_with_the_batch(planned):
    larger = plan(overrides.apply(planned.config, ["--data.batch-size", "256", "--parallelism.devices", "1"]))
    (way,) = larger.ways
    assert way.name == "one device"
    assert way.memory.temporaries > planned.ways[0].memory.temporaries
    assert way.collectives == ()
    assert larger.devices == 1


def test_a_roofline_by_hand():
    """A chip of 100 FLOP/s, 10 bytes/s of memory and 5 of links; four of them reduce 20 bytes: 30 leave each."""
    peaks = Peaks(100.0, 10.0, 5.0, ())
    found = roofline.times(400.0, 30.0, [Collective("all-reduce", 2, 20)], devices=4, peaks=peaks)
    assert found == Times(compute=4.0, memory=3.0, interconnect=6.0)
    assert (found.step, found.apart, found.binds) == (6.0, 10.0, "interconnect")
    alone = roofline.times(400.0, 30.0, [], devices=1, peaks=dataclasses.replace(peaks, interconnect=None))
    assert (alone.step, alone.apart, alone.binds) == (4.0, 4.0, "compute")


def test_float32_takes_as_many_passes_as_its_precision():
    peaks = {
        (compute, matmul): roofline.published(topologies.parse("v5e:2x4"), compute=compute, matmul=matmul)
        for compute in ("float32", "bfloat16")
        for matmul in ("default", "high", "highest")
    }
    assert [peaks["float32", matmul].flops for matmul in ("default", "high", "highest")] == [
        197e12,
        197e12 / 3,
        197e12 / 6,
    ]
    assert {peaks["bfloat16", matmul].flops for matmul in ("default", "high", "highest")} == {197e12}
    assert peaks["float32", "default"].interconnect == 100e9  # two links
    single = roofline.published(topologies.parse("v5e:1x1"), compute="float32", matmul="default")
    assert single.interconnect is None


@pytest.mark.parametrize(
    ("message", "needed", "available", "temporaries"),
    [
        ("the total memory required for HLO temporaries (61.25G) exceeds available HBM (15.75G).", 61.25, 15.75, True),
        ("RESOURCE_EXHAUSTED: 61.25G exceeds available HBM (15.75G)", 61.25, 15.75, False),
        ("Ran out of memory in memory space hbm. Used 28.38G of 15.75G hbm. Exceeded", 28.38, 15.75, False),
        ("Used 0.5T of 512M hbm", 512, 0.5, False),
    ],
)
def test_the_figures_of_what_does_not_fit(message, needed, available, temporaries):
    expected = footprint.Exhausted(int(needed * GIB), int(available * GIB), temporaries)
    assert footprint.exhausted(message) == expected
    assert footprint.exhausted("no figures") is None


def tiled(shape, tile, order=None):
    """An array of float32 in tiles, on one device."""

    class Layout:
        tiling = (tile,) if tile else ()
        major_to_minor = tuple(range(len(shape))) if order is None else order

    whole = parallel.Layout("jit", False, (jax.devices()[0],)).replicated(jax.ShapeDtypeStruct(shape, "float32"))
    return footprint.padded(whole, Layout())


def test_padding_to_whole_tiles():
    """Tiles of 8 x 128, as XLA's documentation has them."""
    assert tiled((3, 5), (2, 2)) == 4 * 6 * 4  # the documentation's own example
    assert tiled((), (128,)) == tiled((100,), (128,)) == 128 * 4
    assert tiled((3, 3, 64, 64), (8, 128)) == 9 * 64 * 128 * 4
    assert tiled((64, 10), (8, 128), order=(1, 0)) == 16 * 128 * 4
    assert tiled((3, 5), ()) == 60


def large(needed, *, fits, state=1, resident=0, feed=0):
    """A way that needs so many GiB of 16."""
    memory = Footprint(state * GIB, 0, 0, 0, 0, resident * GIB, feed * GIB, 0, None, None, None, None, 0)
    times = Times(1.0, 0.0, 0.0) if fits else None
    return lambda name, cfg: Way(name, cfg, memory, needed * GIB, 16 * GIB, None, None, None, times, 1.0)


def advised(copies, shared, *flags):
    cfg = config("--model.name", "resnet18", *flags)
    fsdp = dataclasses.replace(cfg, parallelism=dataclasses.replace(cfg.parallelism, sharding="fsdp"))
    ways = (copies("data-parallel", cfg), shared("fsdp", fsdp))
    made = Plan(cfg, "v5e:2x2", "TPU v5e", 4, 1, 100, ways, (), ())
    return plan_report.advice(made), plan_report.table(made, "digits")


def test_what_may_help_is_what_the_plan_shows():
    lines, shown = advised(large(61, fits=False), large(12, fits=True))
    assert "fsdp fits: --parallelism.sharding fsdp" in lines
    assert "data-parallel does not fit: 61.00 GiB needed, 16.00 GiB available" in shown
    assert max(map(len, shown.splitlines())) <= 80
    lines, _ = advised(large(61, fits=False), large(60, fits=False))
    *flags, smaller = lines
    assert "--data.batch-size 16" in smaller
    assert [line.split(": ")[1] for line in flags] == [
        "--parallelism.remat true",
        "--parallelism.accumulate 2",
        "--precision.compute bfloat16",
    ]
    lines, _ = advised(large(61, fits=False), large(60, fits=False), "--parallelism.accumulate", "8")
    assert not [line for line in lines if "accumulate" in line]  # 32 images in 16 parts on 4 devices: none
    lines, _ = advised(large(61, fits=False, feed=20), large(60, fits=False))
    assert lines == [smaller]  # the images alone are too many
    lines, _ = advised(large(61, fits=False, resident=40), large(60, fits=False))
    assert lines == ["the data take 40.00 GiB of each device: --data.input streaming"]
    lines, _ = advised(large(61, fits=False, state=50), large(60, fits=False, state=50))
    assert len(lines) == 1
    assert "more memory" in lines[0]
    assert advised(large(12, fits=True), large(12, fits=True))[0] == []


def test_what_is_not_here_is_planned_from_what_is_published(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    cfg = configs.load("imagenet:resnet18")
    stored, note = data.described(cfg.data)
    assert "imagenet2012 is not here" in note
    resolved = resolve.resolve(cfg, stored=stored)
    assert resolved.info.shape == (224, 224, 3)
    assert (resolved.info.num_classes, resolved.steps) == (1000, 450_410)  # 90 epochs of 1,281,167 in batches of 256
    assert data.input_of(cfg.data, cfg.augmentation, stored) == "streaming"
    pipeline = data.shapes(cfg.data, cfg.augmentation, stored=stored)
    assert pipeline.feed_shapes["image"].shape == (256, 224, 224, 3)
    assert not pipeline.augmentation.random_resized_crop  # cut on the host
    assert data.described(configs.load("digits").data)[1] == ""


def test_the_command_prints_a_table_and_json(capsys):
    words = ["plan", "digits", "--data.batch-size", "32", "--parallelism.devices", "2"]
    assert launch.main(words) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for word in ("parameters", "temporaries", "fits", "all-reduce", "data-parallel *", "fsdp", "assumed: measured"):
        assert word in shown
    assert launch.main([*words, "--json", "--parallelism.batch-norm", "per_replica"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["topology"], found["chips"], found["batch_size"]) == (None, 2, 32)
    (way,) = found["ways"]
    assert way["fits"]
    assert way["memory"]["total"] == way["needed_bytes"] <= way["available_bytes"]
    assert way["roofline"]["binds"] in ("compute", "memory")
    assert "no fsdp" in found["notes"][0]
