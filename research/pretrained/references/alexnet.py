"""Where torchvision's AlexNet keeps its weights (github.com/pytorch/vision, models/alexnet.py)."""

from research.pretrained.reference import Names, Reference

TORCHVISION = (
    *(Names(f"conv{number}", f"features.{place}") for number, place in enumerate((0, 3, 6, 8, 10), 1)),
    Names(r"dense1", "classifier.1"),
    Names(r"dense2", "classifier.4"),
    Names(r"head", "classifier.6"),
)

REFERENCES = {
    "alexnet_owt": (
        Reference("torchvision", "alexnet", TORCHVISION, flattened=(("dense1", (256, 6, 6)),), first="conv1"),
    )
}
