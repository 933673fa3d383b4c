"""Names, fields and inputs: what the catalogue offers, and what it says to those it refuses."""

import re

import jax
import jax.numpy as jnp
import pytest

from research import models
from research.errors import UserError
from research.values import decode

OWN_FILE = '''
"""A user's models."""
import flax.linen as nn
import jax.numpy as jnp

class MyNet(nn.Module):
    """A dense layer."""
    num_classes: int = 7
    depth: int = 1
    rate: int | float = 0.5
    dtype: type = jnp.float32
    minimum = 8

    @nn.compact
    def __call__(self, images, *, train: bool):
        return nn.Dense(self.num_classes, name="head")(images.reshape(len(images), -1))

def wide_net(*, num_classes: int = 3):
    return MyNet(num_classes=num_classes, depth=9)
'''


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "my_models.py"
    path.write_text(OWN_FILE)
    return str(path)


@pytest.mark.parametrize("name", models.names())
def test_every_variant_is_described_and_equal_to_itself(name):
    variant = models.variant(name)
    assert variant.summary
    assert "\n" not in variant.summary
    assert min(variant.input_shape[:-1]) >= variant.minimum >= 1
    # Equal and hashable, so that a second run of the same network needs no second compilation.
    assert models.create(name) == models.create(name)
    assert hash(models.create(name)) == hash(models.create(name))


@pytest.mark.parametrize("name", models.names())
def test_every_option_can_be_set_to_its_default(name):
    for key, (annotation, default) in models.options(name).items():
        assert decode(annotation, default, key) == default
        assert models.create(name, **{key: default}) == models.create(name)


@pytest.mark.parametrize("name", models.names())
def test_too_small_an_input_is_refused_by_name_and_minimum(name):
    found = models.variant(name)
    rank, small = len(found.input_shape) - 1, found.minimum - 1
    models.check_input(name, (*(found.minimum,) * rank, 3))
    with pytest.raises(UserError, match=f"{name} .*at least {found.minimum} pixels.*got {small}(x|$)"):
        models.check_input(name, (*(small,) * rank, 3))
    with pytest.raises(UserError, match="axes"):
        models.check_input(name, (64,))
    images = jax.ShapeDtypeStruct((1, *(small,) * rank, 3), jnp.float32)
    with pytest.raises(UserError, match=f"at least {found.minimum} pixels"):
        jax.eval_shape(lambda x: models.create(name).init(jax.random.key(0), x, train=False), images)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("resnt20", {}, "unknown model 'resnt20'; nearest: resnet20"),
        ("resnet21", {}, "6n \\+ 2.*resnet20, resnet26"),
        ("plain7", {}, "6n \\+ 2.*plain8"),
        ("resnet51", {}, "nearest: resnet56, resnet44"),  # resnet50 is another family's
        ("resnet020", {}, "unknown model"),
        ("resnet20", {"widht": 8}, "unknown field of model resnet20 'widht'; nearest: width"),
        ("resnet20", {"shortcut": "D"}, "model.shortcut 'D'; expected one of: A, B, C, none"),
        ("resnet20", {"width": 0}, "model.width is 0; expected a number at least 1"),
        ("resnet20", {"width": 2.5}, "model.width is 2.5; expected a whole number"),
        ("resnet20", {"depth": 32}, "unknown field"),  # a variant's name says its depth
        ("plain20", {"shortcut": "A"}, "unknown field"),  # and that it is plain
        ("lenet5", {"num_classes": -1}, "at least 0"),
        ("none_such.py:Net", {}, "does not exist"),
    ],
)
def test_wrong_words_are_refused_in_one_line(name, fields, message):
    with pytest.raises(UserError, match=message) as refusal:
        models.create(name, **fields)
    assert "\n" not in str(refusal.value)


def test_patterns_give_any_depth_and_exact_names_win():
    assert models.create("resnet26").stages[0].blocks == 4
    assert models.variant("resnet50").input_shape == (224, 224, 3)
    assert models.variant("resnet62").input_shape == (32, 32, 3)
    assert "resnet62" not in models.names()


def test_options_are_the_plain_fields():
    scaling = {"width_multiplier": 1.0, "depth_multiplier": 1.0, "channel_divisor": 8}
    own = {
        "width": 16,
        **scaling,
        "shortcut": "A",
        "bottleneck_ratio": 0,
        "batch_norm": True,
        "stochastic_depth": 0.0,
    }
    assert {key: default for key, (_, default) in models.options("resnet20").items()} == own
    assert {key: default for key, (_, default) in models.options("plain50").items()} == {
        "width": 64,
        **scaling,
        "stem": "imagenet",
    }


def test_a_file_of_ones_own(own_file):
    name = f"{own_file}:MyNet"
    assert models.variant(name).summary == "A dense layer."
    assert models.variant(name).num_classes == 7
    assert models.create(name, depth=2, rate=1).depth == 2
    assert set(models.options(name)) == {"depth", "rate"}
    assert models.create(f"{own_file}:wide_net", num_classes=4).depth == 9
    with pytest.raises(UserError, match="at least 8 pixels"):
        models.check_input(name, (4, 4, 3))
    with pytest.raises(UserError, match="1 channel or more; got 0"):
        models.check_input(name, (32, 32, 0))
    with pytest.raises(UserError, match=re.escape("nearest: MyNet")):
        models.create(f"{own_file}:MyNett")
    with pytest.raises(UserError, match="depth is 'two'; expected a whole number"):
        models.create(name, depth="two")


def test_own_file_with_a_table_of_variants(tmp_path):
    path = tmp_path / "table.py"
    path.write_text(
        OWN_FILE + "\nfrom research.models import Variant\n"
        "VARIANTS = {'mine': Variant(MyNet, (16, 16, 1), 5, 16, 'mine')}\nCONSTANT = 3\n"
    )
    assert models.variant(f"{path}:mine").input_shape == (16, 16, 1)
    assert models.create(f"{path}:mine").num_classes == 5  # the table's, not the class's default
    assert models.create(f"{path}:mine", num_classes=4).num_classes == 4
    with pytest.raises(UserError, match="expected a module class"):
        models.create(f"{path}:CONSTANT")


@pytest.mark.parametrize(
    ("table", "said"),
    [("3", "is a int; expected a table from names"), ("{'mine': 3}", "a int for 'mine'; expected a Variant")],
)
def test_a_table_that_is_none_is_refused(tmp_path, table, said):
    (tmp_path / "table.py").write_text(f"VARIANTS = {table}\n")
    with pytest.raises(UserError, match=said):
        models.create(f"{tmp_path / 'table.py'}:mine")
