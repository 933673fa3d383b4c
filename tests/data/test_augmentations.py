"""Laws of every augmentation, found by walking the folder; the operations against Pillow; mixing; draws and batches."""

import dataclasses
import functools
import inspect
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from research import catalogue, data
from research.config import AugmentationConfig, DataConfig
from research.data import augmentations, transforms
from research.data.augmentations import boxes, colour, erasing, geometric, mixing, operations, policies
from research.errors import UserError
from tests.data.conftest import random_image

# Every public function of the package that takes a key first is an augmentation; its third argument is its strength.
AUGMENTATIONS = {
    name: function
    for name, function in catalogue.public_functions("research.data.augmentations").items()
    if next(iter(inspect.signature(function).parameters)) == "key"
}
STRENGTHS = {  # (no effect, an effect), by what the argument is called
    "probability": (0.0, 0.5),
    "pixels": (0, 3),
    "area": ((1.0, 1.0), (0.1, 0.5)),
    "strength": (0.0, 0.5),
    "policy": ((), policies.IMAGENET),
    "layers": (0, 2),
}
NOISY = {"random_erasing"}  # of normalised images: its noise is no level
every_augmentation = pytest.mark.parametrize("name", AUGMENTATIONS)
every_channel_count = pytest.mark.parametrize("channels", [1, 3, 4])
ZERO, ONE = jnp.zeros(3), jnp.ones(3)  # mean and deviation that change nothing


def strengths(name):
    return STRENGTHS[list(inspect.signature(AUGMENTATIONS[name]).parameters)[2]]


def picture(seed, channels=3, height=7, width=9):
    return jnp.asarray(random_image(seed, height, width, channels), jnp.float32)


def compiled(name, strength):
    return jax.jit(lambda key, image: AUGMENTATIONS[name](key, image, strength))


def by_key(function):
    """The function of a key, for many keys at once."""
    return jax.jit(jax.vmap(function))


def test_there_are_augmentations_to_hold_to_the_laws():
    assert len(AUGMENTATIONS) >= 11
    assert all(function.__doc__ for function in AUGMENTATIONS.values())


@every_augmentation
@every_channel_count
def test_the_identity_at_zero_strength(name, channels):
    augment, image = compiled(name, strengths(name)[0]), picture(0, channels)
    for key in jax.random.split(jax.random.key(0), 4):
        np.testing.assert_array_equal(augment(key, image), image)


@every_augmentation
@every_channel_count
def test_shape_type_and_range_are_kept_and_the_key_decides(name, channels):
    image, keys = picture(1, channels), jax.random.split(jax.random.key(1), 16)
    augment = jax.jit(jax.vmap(compiled(name, strengths(name)[1]), (0, None)))
    changed = np.asarray(augment(keys, image))
    assert changed.shape == (16, *image.shape)
    assert changed.dtype == image.dtype
    assert np.isfinite(changed).all()
    if name not in NOISY:
        assert changed.min() >= 0
        assert changed.max() <= 255
        np.testing.assert_array_equal(changed, np.round(changed))
    np.testing.assert_array_equal(augment(keys, image), changed)
    needs_colour = name in ("hue", "saturation") and channels == 1
    assert (len({c.tobytes() for c in changed}) > 1) == (not needs_colour and (name, channels) != ("hue", 4))


@every_augmentation
def test_the_same_alone_as_in_a_batch(name):
    images = jnp.stack([picture(seed) for seed in range(4)])
    keys, augment = jax.random.split(jax.random.key(2), 4), compiled(name, strengths(name)[1])
    batch = jax.jit(jax.vmap(augment))(keys, images)
    alone = jnp.stack([augment(*one) for one in zip(keys, images, strict=True)])
    # A fused multiplication and addition rounds once, not twice: noise differs in the last place, and what is cut to
    # whole levels by one level, where it stood at the border between two.
    off = np.abs(np.asarray(batch) - np.asarray(alone))
    assert off.max() <= (1e-5 if name in NOISY else 1)
    assert (off > 1e-5).mean() <= 0.01


def test_flip_and_crop_worked_examples():
    image = jnp.arange(1.0, 7).reshape(2, 3, 1)
    flip, crop = geometric.random_flip, geometric.pad_and_crop
    np.testing.assert_array_equal(flip(jax.random.key(0), image, 1.0)[..., 0], [[3, 2, 1], [6, 5, 4]])
    keys = jax.random.split(jax.random.key(1), 400)
    drawn = by_key(lambda key: crop(key, image, 1, jnp.array([9.0])))(keys[:100])
    padded = np.pad(np.asarray(image)[..., 0], 1, constant_values=9)
    expected = {padded[i : i + 2, j : j + 3].tobytes() for i in range(3) for j in range(3)}
    # 9 crops; 100 draws miss one with probability 7e-5, and the keys are fixed.
    assert {np.asarray(c)[..., 0].tobytes() for c in drawn} == expected
    flipped = by_key(lambda key: flip(key, image))(keys)[:, 0, 0, 0] == 3
    assert abs(float(flipped.mean()) - 0.5) < 0.1  # 4 standard deviations of 400 fair coins


def test_boxes_are_of_the_area_and_ratio_asked_for():
    draw = functools.partial(boxes.draw, (200, 200), area=(0.1, 0.4), ratio=(0.5, 2.0), attempts=10)
    box, found = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 2000))
    box = boxes.Box(*map(np.asarray, box))
    assert np.asarray(found).all()  # 16,000 pixels of 2 to 1 are 179 by 89: every box fits
    shares, ratios = box.height * box.width / 40000, box.width / box.height
    assert shares.min() >= 0.1 * 0.98  # sides of 45 pixels and more are rounded by half a pixel
    assert shares.max() <= 0.4 * 1.02
    assert ratios.min() >= 0.5 * 0.98
    assert ratios.max() <= 2 * 1.02
    # Uniform in area and in the logarithm of the ratio; 4 standard errors of 2000 draws of a uniform are 2.6% of it.
    assert abs(shares.mean() - 0.25) < 0.026 * 0.3
    assert abs(np.log(ratios).mean()) < 0.026 * math.log(4)
    assert (box.top >= 0).all()
    assert (box.left >= 0).all()
    assert (box.top + box.height <= 200).all()
    assert (box.left + box.width <= 200).all()
    assert (box.top == 0).any()
    assert (box.top + box.height == 200).any()


def test_random_resized_crop_enlarges_one_box_bilinearly():
    # On a plane of levels a bilinear enlargement of a box is again a plane, up to the border and the rounding.
    plane = (jnp.arange(40.0)[:, None] + 3 * jnp.arange(60.0)[None])[..., None]
    crops = by_key(lambda key: geometric.random_resized_crop(key, plane, (0.2, 0.8)))(
        jax.random.split(jax.random.key(3), 32)
    )
    inner = np.asarray(crops)[:, 4:-4, 4:-4, 0]
    down, right = np.diff(inner, axis=1).mean((1, 2)), np.diff(inner, axis=2).mean((1, 2))
    # Slopes are the box's height over 40 and three times its width over 60; rounding moves a mean slope by 1/32.
    shares = down * right / 3
    assert (shares > 0.2 - 0.05).all()
    assert (shares < 0.8 + 0.05).all()
    assert np.ptp(down) > 0.3
    ratios = (right / 3 * 60) / (down * 40)
    assert (ratios > 0.75 * 0.9).all()
    assert (ratios < 4 / 3 * 1.1).all()


def test_random_resized_crop_takes_the_centre_where_no_box_fits():
    image = picture(0, 1, 4, 16)
    crop = functools.partial(geometric.random_resized_crop, image=image, area=(1.0, 1.0))
    square = jax.jit(functools.partial(crop, ratio=(1.0, 1.0)))(jax.random.key(0))  # 8 by 8 does not fit
    centre = jax.image.resize(image[:, 6:10], (4, 16, 1), "linear")
    # Beside the box its neighbours count too: two columns on each side are not those of the box alone.
    np.testing.assert_array_equal(square[:, 2:-2], jnp.round(centre)[:, 2:-2])
    np.testing.assert_array_equal(crop(jax.random.key(0), ratio=(1, 5)), image)


def test_colour_jitter_draws_its_factor_evenly():
    keys = jax.random.split(jax.random.key(4), 1000)
    flat = jnp.full((2, 2, 3), 100.0)
    levels = np.asarray(by_key(lambda key: colour.brightness(key, flat, 0.4)[0, 0, 0])(keys))
    assert 60 <= levels.min() <= 62
    assert 138 <= levels.max() <= 139  # rounded down
    assert abs(levels.mean() - 99.5) < 3  # 4 standard errors of 1000 draws of a uniform over 80
    np.testing.assert_array_equal(colour.contrast(keys[0], flat, 0.4), flat)
    np.testing.assert_array_equal(colour.saturation(keys[0], flat, 0.4), flat)


def test_hue_turns_the_colour_circle():
    red, grey = jnp.array([[[200.0, 50, 50]]]), jnp.full((1, 1, 3), 77.0)
    keys = jax.random.split(jax.random.key(5), 500)
    turned = np.asarray(by_key(lambda key: colour.hue(key, red, 0.5)[0, 0])(keys))
    assert (turned.max(axis=1) == 200).all()
    assert (turned.min(axis=1) == 50).all()
    assert {(turned.argmax(axis=1) == channel).any() for channel in range(3)} == {True}
    little = np.asarray(by_key(lambda key: colour.hue(key, red, 1 / 12)[0, 0])(keys))
    assert (little[:, 0] == 200).all()
    # A twelfth of a circle is half of the way from red to yellow or to magenta: 50 + 150 / 2.
    assert little[:, 1].max() == little[:, 2].max() == 125
    np.testing.assert_array_equal(colour.hue(keys[0], grey, 0.5), grey)


def test_cutout_takes_a_square_around_any_pixel():
    keys = jax.random.split(jax.random.key(6), 600)
    cut = np.asarray(by_key(lambda key: erasing.cutout(key, jnp.ones((6, 8, 2)), 3))(keys)) == 0
    assert (cut.all(axis=-1) == cut.any(axis=-1)).all()
    squares = {c[..., 0].tobytes() for c in cut}
    expected = set()
    for row, column in itertools.product(range(6), range(8)):
        mask = np.zeros((6, 8), bool)
        mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
        expected.add(mask.tobytes())
    assert squares == expected  # 48 squares; 600 draws miss one with probability 2e-4, and the keys are fixed


def test_random_erasing_fills_a_rectangle_with_normal_noise():
    keys = jax.random.split(jax.random.key(7), 500)
    image = jnp.full((32, 32, 3), 99.0)
    erased = np.asarray(by_key(lambda key: erasing.random_erasing(key, image, 0.5))(keys))
    touched = (erased != 99).all(axis=-1)
    assert ((erased != 99).any(axis=-1) == touched).all()
    assert abs(touched.any(axis=(1, 2)).mean() - 0.5) < 0.09  # 4 standard deviations of 500 fair coins
    some = touched[touched.any(axis=(1, 2))]
    heights, widths = some.any(axis=2).sum(axis=1), some.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(some.sum(axis=(1, 2)), heights * widths)  # rectangles
    shares = heights * widths / 32**2
    assert shares.min() >= 0.02 * 0.75  # 20 pixels of ratio 3.3 are 8.2 by 2.5, rounded to 8 by 2
    assert shares.max() <= 0.33 * 1.05
    noise = erased[erased != 99]
    assert abs(noise.mean()) < 0.02  # over 10^5 draws: 6 standard errors
    assert abs(noise.std() - 1) < 0.02


# The operations, against Pillow.


@functools.cache
def applied(channels):
    """One compiled function: image, place, value -> image, able to do every operation."""
    return jax.jit(lambda image, place, value: operations.apply(image, place, value, operations.PLACES))


def ours(image, name, value):
    place = jnp.asarray(operations.PLACES[name])
    array = jnp.asarray(image.reshape(*image.shape[:2], -1), jnp.float32)
    return np.asarray(applied(array.shape[-1])(array, place, jnp.float32(value))).reshape(image.shape)


def pillow(image, name, value):
    made = Image.fromarray(image)
    height, width = image.shape[:2]
    fill = (128,) * (image.shape[2] if image.ndim == 3 else 1)
    matrices = {
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, value * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, value * height),
    }
    if name in matrices:
        made = made.transform(made.size, Image.Transform.AFFINE, matrices[name], fillcolor=fill)
    elif name == "rotate":
        made = made.rotate(value, fillcolor=fill)
    elif name == "posterize":
        made = ImageOps.posterize(made, value)
    elif name == "solarize":
        made = ImageOps.solarize(made, value)
    elif name in ("autocontrast", "invert", "equalize"):
        made = getattr(ImageOps, name)(made)
    elif name != "identity":
        made = getattr(ImageEnhance, name.capitalize())(made).enhance(value)
    return np.asarray(made).astype(np.float32)


VALUES = {
    **dict.fromkeys(("shear_x", "shear_y"), (-0.9, -0.3, -0.123, 0.0, 0.033, 0.25)),
    **dict.fromkeys(("translate_x", "translate_y"), (-1.4, -0.3, -0.07, 0.0, 0.1, 0.45)),
    "rotate": (-90, -30.0, -3.3, 0.0, 7.0, 26.6),
    "posterize": (1, 2, 4, 5, 6, 8),
    "solarize": (-10, 0, 28, 113.5, 255, 256),
    **dict.fromkeys(("contrast", "color", "brightness", "sharpness"), (0.0, 0.1, 0.77, 1.0, 1.3, 1.9, 5.5)),
}
WARPS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def pictures():
    """Noise, noise of few and of close levels, a constant image and a smooth one; RGB and grey; one size."""
    noise = random_image(0, 24, 37, 3)
    smooth = np.add.outer(np.arange(24) * 3, np.arange(37) * 4).astype(np.uint8)[..., None].repeat(3, axis=-1)
    smooth[..., 1] //= 2
    colours = [noise, noise // 64 * 64, noise // 8 + 100, np.full_like(noise, 93), smooth]
    return [*colours, *(image[..., 0] for image in colours)]


@pytest.mark.parametrize("name", operations.PLACES)
def test_an_operation_is_pillows(name):
    for image, value in itertools.product(pictures(), VALUES.get(name, (0,))):
        made, expected = ours(image, name, value), pillow(image, name, value)
        off = made - expected
        if name in WARPS:
            # The matrix is in float32 here and in doubles there, so a place on a pixel's border may fall either side.
            assert (off != 0).mean() <= 0.002, value
        elif name == "autocontrast":
            # Pillow's doubles fall below a whole number here and there, and it rounds down.
            low, high = (bound(image, axis=(0, 1), keepdims=True).astype(int) for bound in (np.min, np.max))
            whole = (image.astype(int) - low) * 255 % np.maximum(high - low, 1) == 0
            assert set(np.unique(off)) <= {0, 1}
            assert whole[off == 1].all()
        elif name in ("contrast", "color", "brightness", "sharpness"):
            # A fused multiplication and addition rounds once, and what is then cut may be a level more or less.
            assert np.abs(off).max() <= 1, value
            assert (off != 0).mean() <= 0.01, value
        else:
            np.testing.assert_array_equal(made, expected)


def test_an_operation_that_is_not_among_the_possible_ones_costs_nothing():
    traced = jax.make_jaxpr(lambda image: operations.apply(image, jnp.int32(0), jnp.float32(1), ("identity",)))
    assert not traced(picture(0)).eqns


def test_values_at_a_magnitude():
    # Cubuk et al. 2018, table 6: the ends of the ranges; RandAugment's magnitude 30 is three times as far.
    at = operations.value_at
    assert [at("rotate", 1), at("shear_x", 1), at("posterize", 1), at("solarize", 1)] == [30, 0.3, 4, 0]
    assert [at("color", 0), at("color", 0.5), at("color", 1)] == pytest.approx([0.1, 1.0, 1.9])
    assert [at("rotate", 3), at("solarize", 3), at("brightness", 3)] == pytest.approx([90, -512, 5.5])
    assert at("translate_x", 1) * 331 == pytest.approx(150)


# Policies.


def test_the_tables_are_the_papers():
    # arXiv:1805.09501, appendix: rows 0, 10 and 24 of ImageNet's table, 1, 11 and 24 of CIFAR-10's.
    step = policies.Step
    assert policies.IMAGENET[0] == (step("posterize", 0.4, 8), step("rotate", 0.6, 9))
    assert policies.IMAGENET[10] == (step("rotate", 0.8, 8), step("color", 0.4, 0))
    assert policies.IMAGENET[24] == (step("equalize", 0.8, 8), step("equalize", 0.6, 3))
    assert policies.CIFAR[1] == (step("rotate", 0.7, 2), step("translate_x", 0.3, 9))
    assert policies.CIFAR[11] == (step("equalize", 0.3, 7), step("autocontrast", 0.4, 8))
    assert policies.CIFAR[24] == (step("translate_y", 0.7, 9), step("autocontrast", 0.9, 1))
    for policy in policies.POLICIES.values():
        assert len(policy) == 25
        for each in itertools.chain(*policy):
            assert each.operation in operations.PLACES
            assert each.probability in [i / 10 for i in range(11)]
            assert each.level in range(10)
    assert len(set(policies.RANDAUGMENT)) == 14


def either(name, value):
    """What a step may be, drawn sign and all."""
    signed = operations.OPERATIONS[operations.PLACES[name]].signed
    return [(name, value), (name, -value)] if signed else [(name, value)]


def outcomes(image, choices):
    """The image after one of the choices."""
    return {ours(image, *choice).tobytes(): ours(image, *choice) for choice in choices}


@pytest.mark.parametrize("name", policies.POLICIES)
def test_autoaugment_does_what_its_table_says_and_nothing_else(name):
    policy, image = policies.POLICIES[name], np.asarray(picture(3, height=16, width=16), np.uint8)
    possible = set()
    for pair in policy:
        images = {image.tobytes(): image.astype(np.float32)}
        for step in pair:
            choices = either(step.operation, operations.value_at(step.operation, step.level / 9))
            skipped = [] if step.probability == 1 else [("identity", 0)]
            choices = [] if step.probability == 0 else choices
            images = {k: v for i in images.values() for k, v in outcomes(i, [*choices, *skipped]).items()}
        possible |= images.keys()
    augment = by_key(lambda key: policies.autoaugment(key, jnp.asarray(image, jnp.float32), policy))
    drawn = [np.asarray(i).tobytes() for i in augment(jax.random.split(jax.random.key(8), 600))]
    # The compiled draw and the compiled operation may round an enhancement apart, by one level (see above).
    assert np.mean([d in possible for d in drawn]) > 0.97
    assert len(set(drawn)) > 40
    seen = image.astype(np.float32).tobytes() in drawn
    assert seen  # no pair has both steps certain


def test_randaugment_draws_each_of_its_operations_as_often():
    image, keys = np.asarray(picture(4, height=16, width=16), np.uint8), jax.random.split(jax.random.key(9), 1400)
    augment = by_key(lambda key: policies.randaugment(key, jnp.asarray(image, jnp.float32), 1, 7.0))
    drawn = [np.asarray(i).tobytes() for i in augment(keys)]
    counts = {}
    for name in policies.RANDAUGMENT:
        expected = outcomes(image, either(name, operations.value_at(name, 0.7)))
        counts[name] = sum(d in expected for d in drawn)
    assert sum(counts.values()) >= 0.97 * 1400  # as above
    # 100 each, with standard deviation 9.6; the enhancements may miss some (as above).
    assert all(60 < count < 140 for count in counts.values()), counts


@pytest.mark.parametrize("magnitude", [0.0, 30.0])
def test_randaugment_stays_in_range_at_every_magnitude(magnitude):
    augment = by_key(lambda key: policies.randaugment(key, picture(5), 3, magnitude))
    drawn = np.asarray(augment(jax.random.split(jax.random.key(10), 64)))
    assert np.isfinite(drawn).all()
    assert drawn.min() >= 0
    assert drawn.max() <= 255
    np.testing.assert_array_equal(drawn, np.round(drawn))


# One example, all in all.

EVERYTHING = AugmentationConfig(
    random_resized_crop=True,
    pad_and_crop=2,
    flip=True,
    policy="randaugment",
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    cutout=3,
    random_erasing=0.5,
)


def test_an_example_is_augmented_in_the_order_of_the_config():
    key, image, mean, std = jax.random.key(11), picture(6), jnp.array([100.0, 110, 120]), jnp.array([50.0, 60, 70])

    def by_hand(key, image):
        fold = [jax.random.fold_in(key, i) for i in range(10)]
        image = geometric.random_resized_crop(fold[2], image, (0.08, 1.0))
        image = geometric.pad_and_crop(fold[1], geometric.random_flip(fold[0], image), 2, mean)
        image = policies.randaugment(fold[3], image, 2, 9.0)
        image = colour.contrast(fold[5], colour.brightness(fold[4], image, 0.4), 0.4)
        image = colour.hue(fold[7], colour.saturation(fold[6], image, 0.4), 0.1)
        image = erasing.cutout(fold[8], transforms.normalise(image, mean, std), 3)
        return erasing.random_erasing(fold[9], image, 0.5)

    made = jax.jit(functools.partial(augmentations.example, EVERYTHING))(key, image, mean, std)
    off = np.abs(np.asarray(made) - np.asarray(jax.jit(by_hand)(key, image)))
    assert off.max() <= 1e-5  # the same operations in the same order: at most a fused rounding of the normalisation


def test_what_is_off_is_not_computed():
    traced = jax.make_jaxpr(functools.partial(augmentations.example, AugmentationConfig()))
    operations_of = {e.primitive.name for e in traced(jax.random.key(0), picture(0), ZERO, ONE).eqns}
    assert operations_of <= {"sub", "div", "reshape", "broadcast_in_dim"}  # normalisation


@pytest.mark.parametrize("field", ["random_resized_crop", "policy", "brightness", "hue", "cutout", "random_erasing"])
def test_what_else_is_on_changes_no_draw(field):
    flat = jnp.broadcast_to(jnp.array([0.0, 200.0]).repeat(4)[None, :, None], (8, 8, 3))  # dark left, light right
    keys = jax.random.split(jax.random.key(12), 32)
    on = {field: getattr(dataclasses.replace(EVERYTHING, random_erasing=1.0), field), "flip": True}
    if field == "policy":
        on |= {"policy": "autoaugment_cifar"}

    def flipped(fields):
        cfg = AugmentationConfig(**fields)
        made = by_key(lambda key: augmentations.example(cfg, key, flat, ZERO, ONE))(keys)
        return np.asarray(made)

    plain, more = flipped({"flip": True}), flipped(on)
    same = np.array([(m == p).mean() for m, p in zip(more, plain, strict=True)])
    other = np.array([(m == p[:, ::-1]).mean() for m, p in zip(more, plain, strict=True)])
    # What is left of the picture lies as the flip alone laid it, where anything of it is left.
    untouched = same != other
    assert untouched.any()
    assert (same > other)[untouched].mean() > 0.75


def test_padding_is_zero_once_normalised_and_a_whole_level_where_it_is_recoloured():
    mean, image = jnp.array([100.3, 110.6, 120.1]), jnp.full((4, 4, 3), 255.0)
    keys = jax.random.split(jax.random.key(13), 64)

    def values(**fields):
        cfg = AugmentationConfig(pad_and_crop=3, **fields)
        made = by_key(lambda key: augmentations.example(cfg, key, image, mean, ONE))(keys)
        return np.asarray(made)[..., 0]

    assert set(np.unique(values())) == {np.float32(0), np.float32(255) - np.float32(100.3)}
    levels = np.unique(values(policy="randaugment") + np.float32(100.3))
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)  # the mean taken away and added again
    assert (np.abs(levels - 100) < 1e-4).any()


# Mixing.


def drawn_batch(count, seed=0, classes=5):
    keys = jax.random.split(jax.random.key(seed), count)
    images = jax.random.normal(jax.random.key(seed + 1), (count, 6, 8, 3))
    labels = jax.random.randint(jax.random.key(seed + 2), (count,), 0, classes)
    return keys, images, jax.nn.one_hot(labels, classes), jnp.ones(count)


MIXERS = {"mixup": jax.jit(mixing.mixup, static_argnums=4), "cutmix": jax.jit(mixing.cutmix, static_argnums=4)}
every_mixer = pytest.mark.parametrize("mixer", MIXERS.values(), ids=MIXERS)


@every_mixer
def test_mixing_keeps_the_mass_of_labels_and_stays_between_the_two(mixer):
    keys, images, labels, mask = drawn_batch(8)
    mixed, shares = mixer(keys, images, labels, mask, 1.0)
    assert mixed.shape == images.shape
    assert shares.dtype == jnp.float32
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)  # one rounding of each of two shares
    assert (shares >= 0).all()
    other = images.reshape(4, 2, 6, 8, 3)[:, ::-1].reshape(images.shape)
    slack = 1e-6 * jnp.abs(images).max()  # two products and their sum, rounded
    assert (mixed >= jnp.minimum(images, other) - slack).all()
    assert (mixed <= jnp.maximum(images, other) + slack).all()
    assert not np.array_equal(mixed, images)


@every_mixer
def test_mixing_is_the_identity_at_zero_and_leaves_the_neighbours_of_what_is_no_example(mixer):
    keys, images, labels, mask = drawn_batch(8)
    for made, given in zip(mixer(keys, images, labels, mask, 0.0), (images, labels), strict=True):
        np.testing.assert_array_equal(made, given)
    mixed, shares = mixer(keys, images, labels, mask.at[3].set(0), 1.0)
    np.testing.assert_array_equal(mixed[2], images[2])
    np.testing.assert_array_equal(shares[2], labels[2])
    whole, _ = mixer(keys, images, labels, mask, 1.0)
    np.testing.assert_array_equal(mixed[4:], whole[4:])
    assert not np.array_equal(whole[2], images[2])


@every_mixer
def test_a_pair_is_mixed_without_regard_to_the_others(mixer):
    batch = drawn_batch(8)
    whole = mixer(*batch, 1.0)
    part = mixer(*(array[4:6] for array in batch), 1.0)
    for one, other in zip(whole, part, strict=True):
        # A fused multiplication and addition may round differently in another program.
        np.testing.assert_allclose(one[4:6], other, rtol=1e-6, atol=1e-6)


def weights(mixer, alpha, count=4000):
    """How much of itself each pixel of an example keeps, "count h w", and the same by its label."""
    keys = jax.random.split(jax.random.key(14), count)
    own = jnp.tile(jnp.array([1.0, 0.0]), count // 2)
    images = jnp.broadcast_to(own.reshape(-1, 1, 1, 1), (count, 10, 20, 1))
    mixed, labels = mixer(keys, images, jnp.stack([1 - own, own], axis=1), jnp.ones(count), alpha)
    first = np.asarray(mixed)[::2, ..., 0]
    return first, np.asarray(labels)[::2, 1]


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_weighs_by_a_beta_distribution(alpha):
    pixels, label = weights(MIXERS["mixup"], alpha)
    np.testing.assert_allclose(pixels, np.broadcast_to(label[:, None, None], pixels.shape), rtol=1e-5, atol=1e-7)
    # Beta(a, a) has mean 1/2 and variance 1/(4(2a + 1)); 2000 draws, 4 standard errors of both at the widest.
    assert abs(label.mean() - 0.5) < 4 * 0.5 / math.sqrt(2000)
    assert abs(label.var() - 1 / (4 * (2 * alpha + 1))) < 0.02


def test_cutmix_pastes_a_rectangle_whose_area_is_in_the_label():
    pixels, label = weights(MIXERS["cutmix"], 1.0)
    assert set(np.unique(pixels)) == {0, 1}
    np.testing.assert_allclose(label, pixels.mean(axis=(1, 2)), rtol=1e-6, atol=1e-7)
    pasted = pixels == 0
    heights, widths = pasted.any(axis=2).sum(axis=1), pasted.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(pasted.sum(axis=(1, 2)), heights * widths)
    whole = ~(pasted[:, [0, -1]].any(axis=(1, 2)) | pasted[:, :, [0, -1]].any(axis=(1, 2))) & (heights > 0)
    # Both sides are the same share of 10 and 20 pixels, each rounded down.
    assert (np.abs(widths[whole] - 2 * heights[whole] - 0.5) <= 0.5).all()
    assert whole.sum() > 100
    # Centred anywhere in 10 by 20 pixels, as it is drawn in the paper: all corners are reached.
    assert all(pasted[:, y, x].any() for y in (0, -1) for x in (0, -1))


def test_hand_computed_mixture():
    keys, images, labels, mask = drawn_batch(8)
    mixed, shares = MIXERS["mixup"](keys, images, labels, mask, 1.0)
    own = by_key(lambda key: jax.random.beta(key, 1.0, 1.0))(keys)
    for i, j in ((0, 1), (1, 0), (7, 6)):
        np.testing.assert_allclose(mixed[i], own[i] * images[i] + (1 - own[i]) * images[j], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(shares[i], own[i] * labels[i] + (1 - own[i]) * labels[j], rtol=1e-5)


def mixed_by(labels=None, count=64, **fields):
    keys, images, one_hot, mask = drawn_batch(count)
    given = one_hot.argmax(axis=1) if labels is None else labels
    mix = jax.jit(functools.partial(augmentations.mix, AugmentationConfig(**fields)), static_argnums=4)
    return mix(keys, images, given, mask, 5)


def test_a_pair_draws_mixup_or_cutmix_together():
    both, up, cut = mixed_by(mixup=0.5, cutmix=1.0), mixed_by(mixup=0.5), mixed_by(cutmix=1.0)
    # A fused multiplication and addition may round differently in another program.
    is_up, is_cut = (
        np.array([np.allclose(b, o, rtol=1e-5, atol=1e-6) for b, o in zip(both[0], other[0], strict=True)])
        for other in (up, cut)
    )
    assert (is_up | is_cut).all()
    assert (is_up.reshape(-1, 2).all(axis=1) | is_cut.reshape(-1, 2).all(axis=1)).all()
    assert 6 <= is_up[::2].sum() <= 26  # 32 fair coins; 3.5 standard deviations
    labels = np.where(is_up[:, None], np.asarray(up[1]), np.asarray(cut[1]))
    np.testing.assert_allclose(both[1], labels, rtol=1e-5, atol=1e-6)


def test_labels_of_several_classes_mix_as_they_are_and_unmixed_labels_stay():
    several = (jax.random.uniform(jax.random.key(1), (64, 5)) < 0.5).astype(jnp.float32)
    _, labels = mixed_by(several, mixup=1.0)
    other = several.reshape(32, 2, 5)[:, ::-1].reshape(64, 5)
    assert (labels >= jnp.minimum(several, other) - 1e-6).all()  # two products and their sum, rounded
    assert (labels <= jnp.maximum(several, other) + 1e-6).all()
    plain = jnp.arange(64) % 5
    images, labels = mixed_by(plain)
    np.testing.assert_array_equal(labels, plain)
    np.testing.assert_array_equal(images, drawn_batch(64)[1])


def test_an_odd_number_has_no_pairs():
    with pytest.raises(UserError, match=r"a batch part of 3 examples has no pairs.*even data.batch_size"):
        MIXERS["cutmix"](*drawn_batch(3), 1.0)


# What is refused.


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"crop_area": (0.5, 0.1)}, (8, 8, 3), r"augmentation.crop_area is \(0.5, 0.1\); expected the lower"),
        ({"crop_ratio": (2.0, 1.0)}, (8, 8, 3), r"augmentation.crop_ratio is \(2.0, 1.0\); expected the lower"),
        ({"cutout": 17}, (8, 9, 3), "augmentation.cutout is 17, .* 8x9 images; expected at most 16"),
        ({"pad_and_crop": 8}, (8, 9, 3), "augmentation.pad_and_crop is 8, .* expected at most 7"),
        ({"saturation": 0.1}, (8, 8, 4), "augmentation.saturation is 0.1; expected images of 1 or 3 channels, not 4"),
        ({"hue": 0.1}, (8, 8, 2), "augmentation.hue is 0.1; expected images of 1 or 3 channels, not 2"),
        ({"policy": "randaugment"}, (8, 8, 4), "augmentation.policy is randaugment; expected images of 1 or 3"),
    ],
)
def test_refusals_name_the_field(fields, shape, message):
    with pytest.raises(UserError, match=message):
        augmentations.check(AugmentationConfig(**fields), shape)


@every_channel_count
def test_what_is_not_refused_runs(channels):
    cfg = EVERYTHING if channels != 4 else dataclasses.replace(EVERYTHING, policy="none", saturation=0.0, hue=0.0)
    augmentations.check(cfg, (7, 9, channels))
    zero, one = jnp.zeros(channels), jnp.ones(channels)
    made = jax.jit(functools.partial(augmentations.example, cfg))(jax.random.key(0), picture(0, channels), zero, one)
    assert made.shape == (7, 9, channels)
    assert np.isfinite(made).all()


# Batches.


@pytest.fixture(scope="module")
def augmented():
    return data.pipeline(
        DataConfig(name="synthetic", batch_size=16), AugmentationConfig(flip=True, pad_and_crop=4), seed=5
    )


def fetch(pipeline, index, epoch, augment=True, split="train", seed=None):
    feed = {"index": np.array(index, np.int32), "epoch": np.full(len(index), epoch, np.int32)}
    feed["mask"] = np.ones(len(index), np.float32)
    resident = pipeline.resident if seed is None else pipeline.resident | {"seed": np.array([0, seed], np.uint32)}
    return jax.jit(pipeline.fetch, static_argnames=("split", "augment"))(resident, feed, split=split, augment=augment)


def test_batch_has_the_documented_arrays(augmented):
    batch = fetch(augmented, [3, 1, 4, 1], 0)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "image": ((4, 32, 32, 3), jnp.float32),
        "label": ((4,), jnp.int32),
        "mask": ((4,), jnp.float32),
        "index": ((4,), jnp.int32),
    }
    np.testing.assert_array_equal(batch["label"], augmented.resident["train"]["label"][[3, 1, 4, 1]])
    mixing_too = dataclasses.replace(augmented, augmentation=AugmentationConfig(mixup=0.2, cutmix=1.0))
    mixed = fetch(mixing_too, [3, 1, 4, 1], 0)
    assert (mixed["label"].shape, mixed["label"].dtype) == ((4, augmented.info.num_classes), jnp.float32)
    assert mixed["image"].shape == (4, 32, 32, 3)


@pytest.mark.parametrize(
    ("augmentation", "chosen"),
    [
        (None, [5, 5, 0, 15, 9]),
        (AugmentationConfig(flip=True, pad_and_crop=4), [5, 5, 0, 15, 9]),
        (AugmentationConfig(flip=True, pad_and_crop=4), [7]),
        (EVERYTHING, [5, 5, 0, 15, 9]),
    ],
    ids=["unaugmented", "some", "one", "everything"],
)
def test_an_example_does_not_depend_on_its_batch(augmented, augmentation, chosen):
    pipeline = augmented if augmentation is None else dataclasses.replace(augmented, augmentation=augmentation)
    whole = fetch(pipeline, list(range(16)), 2, augmentation is not None)["image"]
    part = fetch(pipeline, chosen, 2, augmentation is not None)["image"]
    np.testing.assert_array_equal(part, whole[np.array(chosen)])


def test_augmentation_differs_by_seed_epoch_and_index_and_evaluation_has_none(augmented):
    same_pixels = augmented.resident["train"]["image"].copy()
    same_pixels[:] = same_pixels[0]
    twins = dataclasses.replace(
        augmented, resident=augmented.resident | {"train": augmented.resident["train"] | {"image": same_pixels}}
    )
    by_index = fetch(twins, list(range(16)), 0)["image"]
    assert len({np.asarray(i).tobytes() for i in by_index}) > 10  # 162 outcomes of flip and crop; 16 draws
    indices = list(range(16))
    assert not np.array_equal(fetch(augmented, indices, 0)["image"], fetch(augmented, indices, 1)["image"])
    assert not np.array_equal(fetch(augmented, indices, 0)["image"], fetch(augmented, indices, 0, seed=6)["image"])
    plain = fetch(augmented, indices, 0, augment=False)["image"]
    np.testing.assert_array_equal(plain, fetch(augmented, indices, 7, augment=False)["image"])
    raw = augmented.resident["train"]["image"][:16].astype(np.float32)
    expected = (raw - augmented.resident["mean"]) / augmented.resident["std"]
    # One rounding each of the difference and the quotient, which the compiler may fuse.
    np.testing.assert_allclose(plain, expected, rtol=1e-6, atol=1e-6)


def test_another_seed_compiles_nothing(augmented):
    traces = []

    @jax.jit
    def step(resident, feed):
        traces.append(1)
        return augmented.fetch(resident, feed, split="train", augment=True)["image"].sum()

    for seed in (1, 2):
        other = data.pipeline(augmented.config, augmented.augmentation, seed=seed)
        step(other.resident, next(other.train(0)))
    assert len(traces) == 1


def test_the_key_is_that_of_the_seed(augmented):
    index, epoch = 11, 4
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), epoch), index)
    image = jnp.asarray(augmented.resident["train"]["image"][index], jnp.float32)
    mean, std = (jnp.asarray(augmented.resident[name]) for name in ("mean", "std"))
    image = geometric.pad_and_crop(jax.random.fold_in(key, 1), image, 4, mean)
    image = transforms.normalise(geometric.random_flip(jax.random.fold_in(key, 0), image), mean, std)
    # One rounding each of the difference and the quotient, which the compiler may fuse.
    np.testing.assert_allclose(fetch(augmented, [index], epoch)["image"][0], image, rtol=1e-6, atol=1e-6)
