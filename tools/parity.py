"""What reference implementations compute from weights and images that are made from names: the other side of parity.

    python tools/parity.py torchvision/resnet18 --variant resnet18 --resolution 64
    python tools/parity.py timm/resnetv2_50 --variant resnetv2_50 --resolution 64 --train
    python tools/parity.py --again FOLDER
    python tools/parity.py --files

Runs where PyTorch, torchvision and timm are installed (`make parity` sets that up), and needs nothing of ours but
`research/testing/named_weights.py`. Writes one small file per network into tests/pretrained/parity/, which
tests/pretrained/test_parity.py compares with our variant; `--again` computes every file there anew into FOLDER.
With `--train` also one training step's loss, gradient and batch statistics. `--files` writes the small files that
tests/pretrained/test_files.py reads, in both of PyTorch's formats.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from research.testing import named_weights  # noqa: E402

FIXTURES = ROOT / "tests" / "pretrained" / "parity"
BATCH = 2
SHOWN = 8  # numbers kept of each array


def build(source: str, name: str, options: dict) -> torch.nn.Module:
    """The reference network, with its own fresh weights."""
    if source == "torchvision":
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options)
    import timm

    return timm.create_model(name, pretrained=False, **options)


def fill(model: torch.nn.Module, gain: float) -> dict[str, int]:
    """Give the network the weights of its names; returns name -> number of elements, counters left out."""
    sizes = {}
    for key, tensor in model.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            sizes[key] = tensor.numel()
            tensor.copy_(torch.from_numpy(named_weights.array(key, tuple(tensor.shape), gain)))
    return sizes


def shown(array: np.ndarray) -> dict:
    """A few of an array's numbers and the norm of all."""
    flat = np.asarray(array, np.float64).ravel()
    return {"first": [float(f"{x:.8g}") for x in flat[:SHOWN]], "norm": float(f"{np.linalg.norm(flat):.8g}")}


def train(model: torch.nn.Module, inputs: torch.Tensor) -> dict:
    """Loss, gradient norm and running statistics of one step; variances as if they were biased, as JAX keeps them."""
    counts: dict[str, int] = {}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, given, __, name=name: counts.update({name: given[0].numel() // given[0].shape[1]})
            )
    model.train()
    outputs = model(inputs)
    loss = torch.nn.functional.cross_entropy(outputs, torch.arange(len(inputs)))
    loss.backward()
    squares = sum(float((p.grad.double() ** 2).sum()) for p in model.parameters() if p.grad is not None)
    means, variances = [], []
    for name, count in sorted(counts.items()):
        state = model.state_dict()
        means.append(state[f"{name}.running_mean"].numpy())
        old, new = before[f"{name}.running_var"].numpy(), state[f"{name}.running_var"].numpy()
        momentum = model.get_submodule(name).momentum
        kept = (1 - momentum) * old
        variances.append(kept + (new - kept) * (count - 1) / count)
    return {
        "loss": loss.item(),
        "gradient_norm": math.sqrt(squares),
        "momentum": 1 - momentum,
        "mean": shown(np.concatenate(means)),
        "var": shown(np.concatenate(variances)),
    }


def multiply_adds(model: torch.nn.Module, inputs: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Multiply-adds of the convolutions and dense layers for one image, and the outputs for all."""
    counted = 0

    def add(module: torch.nn.Module, _: tuple, output: torch.Tensor) -> None:
        nonlocal counted
        counted += output.numel() // len(inputs) * module.weight[0].numel()

    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    hooks = [module.register_forward_hook(add) for module in model.modules() if isinstance(module, kinds)]
    outputs = model(inputs)
    for hook in hooks:
        hook.remove()
    return counted, outputs


def preprocessing(source: str, name: str) -> list[dict]:
    """How each of the published weights of a network wants its images: pixels, pixels resized to, filter, colours."""
    if source == "torchvision":
        import torchvision

        found = [weights.transforms() for weights in torchvision.models.get_model_weights(name)]
        rows = [(t.crop_size[0], t.resize_size[0], t.interpolation.value, t.mean, t.std) for t in found]
    else:
        import timm

        t = timm.get_pretrained_cfg(name)
        rows = [(t.input_size[1], math.floor(t.input_size[1] / t.crop_pct), t.interpolation, t.mean, t.std)]
    keys = ("size", "resized", "interpolation", "mean", "std")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def run(case: dict) -> dict:
    """The case with what the reference computes."""
    torch.manual_seed(0)
    model = build(case["source"], case["name"], case["options"])
    with torch.no_grad():
        sizes = fill(model, case.get("gain", 2.0))
    inputs = torch.from_numpy(named_weights.images(BATCH, case["resolution"]).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        macs, logits = multiply_adds(model.eval(), inputs)
    made = {key: case[key] for key in ("source", "name", "variant", "options", "resolution")}
    made |= {
        **({"gain": case["gain"]} if "gain" in case else {}),
        "preprocessing": preprocessing(case["source"], case["name"]),
        "macs": macs,
        "signature": named_weights.signature(sizes),
        "logits": [shown(row.numpy()) for row in logits],
    }
    if case["train"]:
        made["trained"] = train(model, inputs)
    return made


def write_files(folder: Path) -> None:
    """A small state dict as PyTorch writes it: now, before 1.6, in bfloat16, and wrapped by a training script."""
    folder.mkdir(exist_ok=True)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Linear(3, 2))
    with torch.no_grad():
        fill(model, 2.0)
    state = model.state_dict()
    state["view"] = state["0.weight"].permute(2, 3, 1, 0)[1:]  # shares its numbers, and not contiguous
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    half = {f"module.{key}": value.bfloat16() for key, value in state.items()}
    torch.save({"epoch": 3, "state_dict": half, "arguments": {"rate": 0.1}}, folder / "wrapped.pth")
    torch.save(model, folder / "module.pth")


def main() -> None:
    """Write the cases named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reference", nargs="?", help="torchvision/NAME or timm/NAME")
    parser.add_argument("--variant", help="our variant")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--option", action="append", default=[], help="KEY=JSON of the reference's constructor")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--gain", type=float, help="of the kernels: variance x fan-in, where 2 makes outputs explode")
    parser.add_argument("--again", metavar="FOLDER")
    parser.add_argument("--files", action="store_true")
    words = parser.parse_args()
    if words.files:
        return write_files(FIXTURES.parent / "files")
    if words.again:
        cases = [json.loads(file.read_text()) for file in sorted(FIXTURES.glob("*.json"))]
        cases = [case | {"train": "trained" in case} for case in cases]
    else:
        source, name = words.reference.split("/")
        options = {key: json.loads(value) for key, value in (option.split("=") for option in words.option)}
        keys = {"source": source, "name": name, "variant": words.variant or name}
        cases = [keys | {"options": options, "resolution": words.resolution, "train": words.train}]
        cases[0] |= {} if words.gain is None else {"gain": words.gain}
    folder = Path(words.again or FIXTURES)
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        file = folder / f"{case['variant']}-{case['source']}-{case['name']}.json"
        file.write_text(json.dumps(run(case), indent=1) + "\n")
        print(file)


if __name__ == "__main__":
    main()
