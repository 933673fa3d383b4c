"""Losses by hand: worked numbers, what options mean, and agreement with the libraries that have the same function."""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from research import losses
from research.errors import UserError


def _one(function: Any, *inputs: Any, **options: Any) -> float:
    """The loss of one example."""
    values = function(*(jnp.asarray(a, jnp.float32)[None] for a in inputs), **options)
    assert values.shape == (1,)
    return float(values[0])


def test_errors_of_vectors_are_sums_over_their_components() -> None:
    assert _one(losses.squared_error, [1.0, 2.0, 3.0], [1.0, 0.0, 0.0]) == 13
    assert _one(losses.absolute_error, [1.0, 2.0, 3.0], [1.0, 0.0, 0.0]) == 5
    # Quadratic up to delta, then straight on: 0.5 x 1^2, and 1 x (3 - 0.5).
    assert _one(losses.huber, [1.0, 3.0], [0.0, 0.0]) == 3
    assert _one(losses.huber, [3.0], [0.0], delta=2.0) == 4


def test_focal_counts_what_is_right_for_less() -> None:
    # p = 0.9 of the truth costs 100 times less than by cross-entropy at gamma 2 (Lin et al., section 3.2).
    logit = math.log(0.9 / 0.1)
    plain = _one(losses.sigmoid_binary_cross_entropy, [logit], [1.0])
    assert _one(losses.focal, [logit], [1.0], alpha=None) == pytest.approx(plain / 100, rel=1e-5)
    assert _one(losses.focal, [logit], [1.0]) == pytest.approx(0.25 * plain / 100, rel=1e-5)
    assert _one(losses.focal, [-logit], [0.0]) == pytest.approx(0.75 * plain / 100, rel=1e-5)
    assert _one(losses.focal, [logit], [1.0], alpha=None, gamma=0.0) == pytest.approx(plain, rel=1e-6)


def test_hinges() -> None:
    np.testing.assert_array_equal(losses.hinge(jnp.asarray([2.0, 0.5, -1.0]), jnp.asarray([1, 1, 1])), [0, 0.5, 2])
    # Scores of cat, car and frog, the cat being right: 5.1 - 3.2 + 1 = 2.9 for the car, none for the frog.
    scores, cat = jnp.asarray([[3.2, 5.1, -1.7]]), jnp.asarray([0])
    np.testing.assert_allclose(losses.multiclass_hinge(scores, cat), [2.9], rtol=1e-6)
    np.testing.assert_allclose(losses.multiclass_hinge(scores, cat, form="weston_watkins"), [2.9], rtol=1e-6)
    np.testing.assert_allclose(losses.multiclass_hinge(scores, cat, form="one_vs_rest"), [0 + 6.1 + 0], rtol=1e-6)
    drawn = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    labels = np.arange(20) % 5
    np.testing.assert_allclose(
        losses.multiclass_hinge(drawn, labels), optax.losses.multiclass_hinge_loss(drawn, labels), rtol=1e-5, atol=1e-6
    )


def test_a_form_that_there_is_not_is_refused_by_name() -> None:
    # Unwrapped: the tests' own check of annotations would refuse it before.
    one = jnp.ones((2, 3))
    with pytest.raises(UserError, match="unknown form of multiclass_hinge 'crammersinger'; nearest: crammer_singer"):
        inspect.unwrap(losses.multiclass_hinge)(one, jnp.asarray([0, 1]), form="crammersinger")
    with pytest.raises(UserError, match="unknown distance 'euclid'; nearest: euclidean"):
        inspect.unwrap(losses.triplet)(one, one, one, distance="euclid")
    with pytest.raises(UserError, match="unknown mining of mined_triplet 'semihard'; nearest: semi_hard"):
        inspect.unwrap(losses.mined_triplet)(one, jnp.asarray([0, 1]), mining="semihard")
    with pytest.raises(
        UserError, match="unknown form of siamese_logistic 'chi'; expected one of: absolute, chi_square"
    ):
        inspect.unwrap(losses.siamese_logistic)(one, one, jnp.asarray([0, 1]), weight=jnp.ones(3), form="chi")


def test_distillation_has_the_gradient_of_soft_cross_entropy() -> None:
    student, teacher = np.random.default_rng(1).normal(size=(2, 4, 5)).astype(np.float32)

    def soft(logits: jax.Array) -> jax.Array:
        targets = jax.nn.softmax(jnp.asarray(teacher) / 3.0)
        return 9.0 * optax.losses.softmax_cross_entropy(logits / 3.0, targets).sum()

    own = jax.grad(lambda x: losses.distillation(x, jnp.asarray(teacher), temperature=3.0).sum())(student)
    np.testing.assert_allclose(own, jax.grad(soft)(jnp.asarray(student)), rtol=1e-5, atol=1e-6)


def test_localization_counts_a_box_only_where_an_object_is() -> None:
    target = [1.0, 0.3, 0.5, 0.4, 0.6, 0.0, 1.0, 0.0]
    prediction = [0.8, 0.4, 0.5, 0.4, 0.4, 0.0, 0.0, 0.0]
    # (1 - 0.8)^2, 0.1^2 + 0.2^2, and log 3 of an undecided classifier.
    assert _one(losses.localization_loss, prediction, target) == pytest.approx(0.04 + 0.05 + math.log(3), rel=1e-6)
    weights = {"lambda_coord": 5.0, "lambda_obj": 2.0, "lambda_cls": 0.5}
    expected = 2 * 0.04 + 5 * 0.05 + 0.5 * math.log(3)
    assert _one(losses.localization_loss, prediction, target, **weights) == pytest.approx(expected, rel=1e-6)
    nothing = [0.0, *[math.nan] * 7]
    assert _one(losses.localization_loss, prediction, nothing) == pytest.approx(0.64, rel=1e-6)


def test_the_loss_of_cells_is_the_sum_over_them() -> None:
    target = np.zeros((1, 2, 2, 7), np.float32)
    target[0, 1, 0] = [1, 0.3, 0.5, 0.4, 0.6, 0, 1]
    prediction = np.zeros_like(target)
    prediction[0, 1, 0, 1:5] = [0.4, 0.5, 0.4, 0.4]
    prediction[0, 0, 1] = 100  # of a cell without an object only the first number counts
    expected = 3 * math.log(2) + 100 + 0.05 + math.log(2)
    np.testing.assert_allclose(losses.cell_loss(prediction, target), [expected], rtol=1e-6)


def test_losses_of_boxes() -> None:
    # Overlap 1 x 1 of 2 x 2 each: IoU 1/7, around 3 x 3, centres sqrt(2) apart on a diagonal of sqrt(18).
    one, other = [0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]
    assert _one(losses.iou_loss, one, other) == pytest.approx(6 / 7)
    assert _one(losses.giou, one, other) == pytest.approx(1 - (1 / 7 - 2 / 9))
    assert _one(losses.diou, one, other) == pytest.approx(1 - 1 / 7 + 2 / 18)
    assert _one(losses.ciou, one, other) == pytest.approx(1 - 1 / 7 + 2 / 18)  # alike in proportion
    # Boxes 4 x 1 in 1 x 4 around one centre: IoU 1/7, v = 4/pi^2 (atan 4 - atan 1/4)^2.
    wide, high = [0.0, 1.5, 4.0, 2.5], [1.5, 0.0, 2.5, 4.0]
    v = 4 / math.pi**2 * (math.atan(4) - math.atan(1 / 4)) ** 2
    assert _one(losses.ciou, wide, high) == pytest.approx(1 - 1 / 7 + v * v / (1 - 1 / 7 + v), rel=1e-6)
    assert _one(losses.smooth_l1, [0.5, 2.0, 0.0, 0.0], [0.0] * 4) == pytest.approx(0.125 + 1.5)
    assert _one(losses.smooth_l1, [0.5, 0.0, 0.0, 0.0], [0.0] * 4, beta=1 / 9) == pytest.approx(0.5 - 1 / 18)


def test_landmarks() -> None:
    true, predicted = [0.30, 0.40, 0.70, 0.40, 0.50, 0.60], [0.32, 0.39, 0.68, 0.41, 0.52, 0.58]
    # Squares sum to 0.0018; by the three points 0.0006.
    assert _one(losses.landmark_mse, predicted, true) == pytest.approx(0.0006, rel=1e-4)
    points = np.reshape(predicted, (3, 2)), np.reshape(true, (3, 2))
    assert _one(losses.landmark_mse, *points) == pytest.approx(0.0006, rel=1e-4)
    hidden = np.asarray([[1.0, 1.0, 0.0]])
    damaged = np.asarray(points[1], np.float32)
    damaged[2] = np.nan
    assert _one(losses.landmark_mse, points[0], damaged, visible=hidden) == pytest.approx(0.0005, rel=1e-4)
    assert _one(losses.landmark_mse, *points, visible=np.zeros((1, 3))) == 0
    # w log(1 + 2 / 2) inside, and |e| - w + w log(1 + w / 2) outside.
    assert _one(losses.wing, [[2.0, 30.0]], [[0.0, 0.0]]) == pytest.approx(
        10 * math.log(2) + 30 - 10 + 10 * math.log(6), rel=1e-6
    )


def test_triplets_of_the_notes() -> None:
    assert _one(losses.triplet, [0.0], [0.5], [0.51]) == pytest.approx(0.19, rel=1e-5)
    assert _one(losses.triplet, [0.0], [0.5], [0.9]) == 0
    assert _one(losses.triplet, [0.0], [0.5], [0.51], distance="squared") == pytest.approx(
        0.25 - 0.2601 + 0.2, rel=1e-5
    )
    cosine = _one(losses.triplet, [1.0, 0.0], [0.0, 2.0], [3.0, 0.0], distance="cosine")
    assert cosine == pytest.approx(1 - 0 + 0.2, rel=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_triplets_do_not_see_a_rotation(seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(3, 4, 6)).astype(np.float32)
    rotation = scipy.stats.ortho_group.rvs(6, random_state=random).astype(np.float32)
    for distance in ("euclidean", "squared", "cosine"):
        plain = losses.triplet(*vectors, margin=1.0, distance=distance)
        # Six products of float32 numbers of size 1 to 3.
        np.testing.assert_allclose(
            losses.triplet(*(vectors @ rotation), margin=1.0, distance=distance), plain, atol=3e-5
        )


@pytest.mark.parametrize("mining", ["all", "hard", "semi_hard"])
def test_mining_is_what_loops_find(mining: str) -> None:
    random = np.random.default_rng(3)
    vectors, labels = random.normal(size=(8, 3)).astype(np.float32), np.asarray([0, 0, 0, 1, 1, 2, 2, 3], np.int32)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    found = []
    for a in range(8):
        positives = [i for i in range(8) if labels[i] == labels[a] and i != a]
        negatives = [i for i in range(8) if labels[i] != labels[a]]
        if mining == "all":
            found += [(apart[a, p], apart[a, n]) for p in positives for n in negatives]
        elif mining == "hard" and positives:
            found.append((apart[a, positives].max(), apart[a, negatives].min()))
        elif mining == "semi_hard":
            for p in positives:
                farther = [apart[a, n] for n in negatives if apart[a, n] > apart[a, p]]
                found.append((apart[a, p], min(farther) if farther else apart[a, negatives].max()))
    expected = np.mean([max(p - n + 0.5, 0) for p, n in found])
    own = losses.mined_triplet(vectors, labels, margin=0.5, mining=mining)  # type: ignore[arg-type]
    assert float(own) == pytest.approx(expected, rel=1e-5)


def test_identical_embeddings_cost_the_margin() -> None:
    same = jnp.ones((6, 3))
    for mining in ("all", "hard", "semi_hard"):
        value, slope = jax.value_and_grad(lambda x, m=mining: losses.mined_triplet(x, jnp.arange(6) % 2, mining=m))(
            same
        )
        assert float(value) == pytest.approx(0.2)
        assert bool(jnp.isfinite(slope).all())
    assert float(losses.mined_triplet(same, jnp.zeros(6, jnp.int32))) == 0  # no other kind, no triplet


def test_pairs() -> None:
    near, far = [0.0, 0.0], [0.3, 0.4]
    assert _one(losses.contrastive, near, far, 1.0) == pytest.approx(0.125)
    assert _one(losses.contrastive, near, far, 0.0) == pytest.approx(0.125)
    score = 2 * 0.3 + 1 * 0.4 - 0.5
    weight = np.asarray([2.0, 1.0], np.float32)
    same = _one(losses.siamese_logistic, near, far, 1.0, weight=weight, bias=-0.5)
    assert same == pytest.approx(-math.log(scipy.special.expit(score)), rel=1e-6)
    # (0.1 - 0.3)^2 / 0.4 = 0.1
    chi = _one(losses.siamese_logistic, [0.1, 0.0], [0.3, 0.0], 0.0, weight=weight, form="chi_square")
    assert chi == pytest.approx(-math.log(1 - scipy.special.expit(0.2)), rel=1e-6)


def test_margins_on_the_angle_and_on_its_cosine() -> None:
    angle = 1.0
    cosines = [math.cos(angle), 0.1]
    moved = 64 * math.cos(angle + 0.5)
    assert _one(losses.arcface, cosines, [1.0, 0.0]) == pytest.approx(math.log1p(math.exp(6.4 - moved)), rel=1e-4)
    moved = 64 * (math.cos(angle) - 0.35)
    assert _one(losses.cosface, cosines, [1.0, 0.0]) == pytest.approx(math.log1p(math.exp(6.4 - moved)), rel=1e-4)
    # The larger the angle the larger the loss, past pi - margin too.
    steps = jnp.cos(jnp.linspace(0.01, 3.13, 200))
    values = losses.arcface(jnp.stack([steps, jnp.zeros(200)], axis=-1), jnp.zeros(200, jnp.int32), scale=4.0)
    assert bool((jnp.diff(values) > 0).all())


def test_overlaps_of_masks() -> None:
    # Two of three predicted pixels are right, of four: tp 2, fp 1, fn 2.
    truth = np.asarray([1, 1, 1, 1, 0, 0], np.float32).reshape(2, 3, 1)
    seen = np.asarray([1, 1, 0, 0, 1, 0], np.float32).reshape(2, 3, 1)
    assert _one(losses.soft_dice, seen, truth) == pytest.approx(1 - 4 / 7)
    assert _one(losses.generalised_dice, seen, truth) == pytest.approx(1 - 4 / 7)
    assert _one(losses.jaccard, seen, truth) == pytest.approx(1 - 2 / 5)
    assert _one(losses.tversky, seen, truth, alpha=0.3, beta=0.7) == pytest.approx(1 - 2 / (2 + 0.3 + 1.4))
    # Milletari's squares: of a prediction of 1/2 everywhere, 2 x 2 / (1.5 + 4).
    assert _one(losses.soft_dice, np.full_like(truth, 0.5), truth) == pytest.approx(1 - 4 / 5.5)
    # Sudre's weights: classes of 4 and 2 pixels count 1/16 and 1/4.
    both = np.concatenate([truth, 1 - truth], axis=-1), np.concatenate([seen, 1 - seen], axis=-1)
    expected = 1 - 2 * (2 / 16 + 1 / 4) / (7 / 16 + 5 / 4)
    assert _one(losses.generalised_dice, both[1], both[0]) == pytest.approx(expected)
    for loss in (losses.soft_dice, losses.generalised_dice, losses.jaccard, losses.tversky):
        assert _one(loss, np.zeros_like(truth), np.zeros_like(truth)) == 0  # an empty mask, found empty
        assert _one(loss, np.ones_like(truth), np.zeros_like(truth)) == 1


def test_pixels_count_as_they_are_told() -> None:
    logits, labels = np.zeros((1, 2, 2, 2), np.float32), np.asarray([[[0, 1], [1, 255]]], np.int32)
    logits[0, 0, 0] = [math.log(3), 0]
    plain = losses.pixel_cross_entropy(logits, labels, ignore_index=255)
    np.testing.assert_allclose(plain, [(math.log(4 / 3) + 2 * math.log(2)) / 3], rtol=1e-6)
    weights = np.asarray([4.0, 1.0], np.float32)
    weighed = losses.pixel_cross_entropy(logits, labels, ignore_index=255, class_weights=weights)
    np.testing.assert_allclose(weighed, [(4 * math.log(4 / 3) + 2 * math.log(2)) / 6], rtol=1e-6)
    np.testing.assert_array_equal(losses.pixel_cross_entropy(logits, np.full_like(labels, 255), ignore_index=255), [0])
    assert bool(jnp.isnan(losses.pixel_cross_entropy(logits, labels))[0])  # 255 is no class


def test_the_space_between_two_objects_counts_most() -> None:
    random = np.random.default_rng(5)
    instances = np.zeros((2, 9, 11), np.int32)
    instances[0, 1:4, 1:4], instances[0, 5:8, 6:10], instances[1, 2:5, 3:6] = 1, 2, 1
    logits, labels = random.normal(size=(2, 9, 11, 2)).astype(np.float32), (instances > 0).astype(np.int32)
    distances = [scipy.ndimage.distance_transform_edt(instances[0] != i) for i in (1, 2)]
    weight = np.stack([1 + 10 * np.exp(-(sum(distances) ** 2) / 50), np.ones((9, 11))])
    ours = losses.boundary_cross_entropy(logits, labels, instances, max_instances=3)
    cross = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(ours, (weight * cross).sum(axis=(1, 2)), rtol=1e-5)


def test_content_style_and_perceptual_distance() -> None:
    random = np.random.default_rng(6)
    one, other = ({"conv1": random.normal(size=(2, 3, 4, 5)).astype(np.float32)} for _ in range(2))
    f, g = one["conv1"].astype(np.float64), other["conv1"].astype(np.float64)
    np.testing.assert_allclose(losses.content(one, other), ((f - g) ** 2).sum(axis=(1, 2, 3)) / 2, rtol=1e-5)
    np.testing.assert_allclose(losses.perceptual(one, other), ((f - g) ** 2).mean(axis=(1, 2, 3)), rtol=1e-5)
    grams = [np.einsum("bhwi,bhwj->bij", x, x) for x in (f, g)]
    np.testing.assert_allclose(losses.gram_matrix(one["conv1"]), grams[0], rtol=1e-5, atol=1e-5)
    assert np.linalg.eigvalsh(losses.gram_matrix(one["conv1"])).min() >= -1e-4  # of entries near 12: float32's rounding
    expected = 0.5 * ((grams[0] - grams[1]) ** 2).sum(axis=(1, 2)) / (4 * 5**2 * 12**2)
    np.testing.assert_allclose(losses.style(one, other, layer_weights={"conv1": 0.5}), expected, rtol=1e-4)
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (f, g)]
    weight = np.arange(5, dtype=np.float32)
    lpips = ((unit[0] - unit[1]) ** 2 @ weight.astype(np.float64)).mean(axis=(1, 2))
    np.testing.assert_allclose(losses.lpips(one, other, channel_weights={"conv1": weight}), lpips, rtol=1e-5)
    with pytest.raises(UserError, match="unknown layer 'conv2'; nearest: conv1"):
        losses.style(one, {"conv2": other["conv1"]})
    with pytest.raises(UserError, match="there are no layers"):
        losses.content({}, {})


def test_total_variation_and_l2() -> None:
    picture = np.asarray([[0.0, 1.0], [3.0, 3.0]], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(losses.total_variation(picture), [1 + 0 + 3 + 2])
    params = {"conv": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.ones(2)}}
    assert float(losses.l2(params)) == 8
    assert float(losses.l2(params, where=lambda path, leaf: path.endswith("bias"))) == 1
    assert float(losses.l2({})) == 0
    np.testing.assert_array_equal(jax.grad(losses.l2)(params)["conv"]["kernel"], params["conv"]["kernel"])


def test_ctc_is_the_sum_over_all_spellings() -> None:
    logits = np.random.default_rng(7).normal(size=(1, 3, 3)).astype(np.float32)
    chance = scipy.special.softmax(logits[0].astype(np.float64), axis=-1)
    ways = [(1, 2, 0), (1, 0, 2), (0, 1, 2), (1, 1, 2), (1, 2, 2)]
    expected = -math.log(sum(chance[0, a] * chance[1, b] * chance[2, c] for a, b, c in ways))
    np.testing.assert_allclose(losses.ctc(logits, np.asarray([[1, 2]])), [expected], rtol=1e-5)
    padded = np.pad(logits, ((0, 0), (0, 2), (0, 0))), np.asarray([[1, 2, 2]])
    masks = {"logit_mask": np.asarray([[1, 1, 1, 0, 0]]), "label_mask": np.asarray([[1, 1, 0]])}
    np.testing.assert_allclose(losses.ctc(*padded, **masks), [expected], rtol=1e-5)


def test_critics() -> None:
    real, fake = jnp.asarray([0.0, 2.0]), jnp.asarray([0.0, -3.0])
    np.testing.assert_allclose(losses.non_saturating_discriminator(real, fake)[0], 2 * math.log(2), rtol=1e-6)
    np.testing.assert_array_equal(losses.hinge_discriminator(real, fake), [2, 0])
    np.testing.assert_array_equal(losses.hinge_generator(fake), [0, 3])
    np.testing.assert_array_equal(losses.least_squares_discriminator(real, fake), [0.5, 0.5 + 4.5])
    np.testing.assert_array_equal(losses.least_squares_generator(fake), [0.5, 8])
    np.testing.assert_array_equal(losses.wasserstein_critic(real, fake), [0, -5])
    slope = jnp.asarray([3.0, 4.0])
    key, examples = jax.random.key_data(jax.random.key(0)), jnp.ones((5, 2))
    # A linear critic has the gradient (3, 4) everywhere: (5 - 1)^2, and 25 / 2.
    penalty = losses.gradient_penalty(lambda x: x @ slope, examples, -examples, key)
    assert float(penalty) == pytest.approx(16, rel=1e-6)
    assert float(losses.r1(lambda x: x @ slope, examples)) == pytest.approx(12.5)


def test_latent_spaces() -> None:
    mean, log = np.asarray([0.5, -1.0]), np.asarray([0.3, -2.0])
    expected = 0.5 * (mean**2 + np.exp(log) - 1 - log).sum()
    assert _one(losses.gaussian_kl, mean, log) == pytest.approx(expected, rel=1e-6)
    # Near the prior float32 keeps log^2 / 4.
    assert _one(losses.gaussian_kl, [0.0], [1e-3]) == pytest.approx(2.5e-7, rel=1e-3)
    z, e = jnp.asarray([[1.0, 2.0]]), jnp.asarray([[1.5, 2.0]])
    assert float(losses.vq_commitment(z, e)[0]) == pytest.approx(1.25 * 0.25)
    to_codes = jax.grad(lambda e: losses.vq_commitment(z, e).sum())(e)
    to_encodings = jax.grad(lambda z: losses.vq_commitment(z, e).sum())(z)
    np.testing.assert_allclose(to_codes, [[1.0, 0.0]])
    np.testing.assert_allclose(to_encodings, [[-0.25, 0.0]])
    passed = jax.grad(lambda z: (losses.straight_through(z, e) ** 2).sum())(z)
    np.testing.assert_allclose(passed, 2 * e)


def test_depth() -> None:
    truth = np.asarray([[1.0, 2.0], [4.0, 0.0]])  # one hole
    seen = np.asarray([[2.0, 2.0], [2.0, 9.0]])
    d = np.log(seen[truth > 0] / truth[truth > 0])
    assert _one(losses.scale_invariant_log, seen, truth) == pytest.approx((d**2).mean() - 0.5 * d.mean() ** 2, rel=1e-5)
    assert _one(losses.scale_invariant_log, 3 * truth, truth, weight=1.0) == pytest.approx(0, abs=1e-6)
    assert _one(losses.scale_invariant_log, seen, np.zeros((2, 2))) == 0
    step = np.asarray([[1.0, 1.0, 3.0, 3.0]] * 2)
    flat, edge = np.zeros((2, 4, 1)), np.asarray([0.0, 0.0, 1.0, 1.0])[None, :, None].repeat(2, axis=0)
    # Of three differences in a row one is 2, by the mean of 2; a picture's own edge there makes it cost 1 / e.
    assert _one(losses.edge_aware_smoothness, step, flat) == pytest.approx(1 / 3, rel=1e-6)
    assert _one(losses.edge_aware_smoothness, step, edge) == pytest.approx(math.exp(-1) / 3, rel=1e-6)
    constant = np.full((4, 4, 1), 0.5), np.full((4, 4, 1), 0.7)
    similarity = (2 * 0.35 + 1e-4) / (0.25 + 0.49 + 1e-4)
    expected = 0.85 * (1 - similarity) / 2 + 0.15 * 0.2
    assert _one(losses.photometric, *constant) == pytest.approx(expected, rel=1e-4)


def test_trajectories_take_the_nearest_anchor() -> None:
    anchors = np.stack([np.zeros((2, 2)), np.ones((2, 2))]).astype(np.float32)
    truth = np.asarray([[0.9, 1.0], [1.2, 1.0]])
    logits, offsets, scales = [0.0, 1.0], np.zeros((2, 2, 2)), np.log(np.full((2, 2, 2), 0.5))
    expected = math.log1p(math.exp(-1)) - scipy.stats.norm(1, 0.5).logpdf(truth).sum()
    assert _one(losses.mixture_nll, logits, offsets, scales, truth, anchors=anchors) == pytest.approx(
        expected, rel=1e-5
    )
