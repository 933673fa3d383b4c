"""Metrics against the libraries whose numbers people quote, on random input and photographs, and worked examples."""

import contextlib
import functools
import io
from typing import Any

import jax
import jax.numpy as jnp
import jiwer
import numpy as np
import pytest
import rouge_score.rouge_scorer
import sacrebleu
import scipy.linalg
import scipy.special
import scipy.stats
import skimage.data
import skimage.metrics
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from research import metrics
from research.errors import UserError
from research.metrics.boxes import PredictedBoxes, TrueBoxes
from research.metrics.landmarks import COCO_SIGMAS
from tests.drawing import draw

# Both sides in float32 or better, of numbers near 1: the agreement that is promised.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
seeds = st.integers(0, 2**32 - 1)


def _mean(accumulated: metrics.Mean) -> float:
    return float(metrics.average(jax.tree.map(np.asarray, accumulated)))


@settings(max_examples=20)
@given(seed=seeds)
def test_rankings_against_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = 60
    scores = random.normal(size=(n, 3)).round(1).astype(np.float32)  # rounded, so that many are equal
    labels = np.concatenate([[0, 1, 2], random.integers(0, 3, n - 3)]).astype(np.int32)
    mask = np.concatenate([np.ones(3), random.integers(0, 2, n - 3)]).astype(np.float32)
    ranked, real = metrics.class_scores(scores, labels, mask), mask > 0
    truth = [labels[real] == k for k in range(3)]
    areas = [sklearn.metrics.roc_auc_score(t, scores[real, k]) for k, t in enumerate(truth)]
    close(metrics.roc_auc(ranked), areas)
    close(jax.jit(metrics.roc_auc, static_argnames="average")(ranked, average="macro"), np.mean(areas))
    precisions = [sklearn.metrics.average_precision_score(t, scores[real, k]) for k, t in enumerate(truth)]
    close(metrics.average_precision(ranked), precisions)
    close(metrics.average_precision(ranked, average="macro"), np.mean(precisions))
    # No different for an increasing function of the scores.
    np.testing.assert_array_equal(
        metrics.roc_auc(ranked._replace(scores=2 * ranked.scores + 3)), metrics.roc_auc(ranked)
    )


@settings(max_examples=20)
@given(seed=seeds)
def test_verification_against_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    same = np.concatenate([[0, 1], random.integers(0, 2, 48)]).astype(np.int32)
    scores = (random.normal(size=50) + same).round(1).astype(np.float32)
    ranked = metrics.pair_scores(scores, same, np.ones(50, np.float32))
    fpr, tpr, thresholds = sklearn.metrics.roc_curve(same, scores, drop_intermediate=False)
    curve = metrics.roc(ranked)
    close(np.unique(np.stack(curve, -1), axis=0), np.unique(np.stack([fpr, tpr, thresholds], -1), axis=0))
    for threshold in (-0.5, 0.25, 1.0):
        close(metrics.false_accept_rate(ranked, threshold=threshold), np.mean(scores[same == 0] >= threshold))
        close(metrics.false_reject_rate(ranked, threshold=threshold), np.mean(scores[same == 1] < threshold))
        seen = metrics.verification_accuracy(scores, same, np.ones(50, np.float32), threshold=threshold)
        assert _mean(seen) == sklearn.metrics.accuracy_score(same, scores >= threshold)
    rate, _ = metrics.equal_error_rate(ranked)
    # Where the curve, its points joined, meets the line of equal errors.
    expected = scipy.optimize.brentq(lambda x: 1 - x - np.interp(x, fpr, tpr), 0, 1)
    if len(np.unique(fpr)) == len(fpr):
        close(rate, expected, atol=1e-5)
    assert 0 <= float(rate) <= 1


def test_an_equal_error_rate_by_hand() -> None:
    ranked = metrics.pair_scores(jnp.asarray([0.9, 0.8, 0.7, 0.6]), jnp.asarray([1, 0, 1, 0]), jnp.ones(4))
    rate, threshold = metrics.equal_error_rate(ranked)
    # At 0.8 one of two strangers passes and one of two of a kind does not.
    assert (float(rate), float(threshold)) == (0.5, pytest.approx(0.8))


def test_one_kind_alone_has_no_curve() -> None:
    ranked = metrics.pair_scores(jnp.asarray([0.9, 0.8]), jnp.asarray([1, 1]), jnp.ones(2))
    assert np.isnan(metrics.roc_auc(ranked))
    assert np.isnan(metrics.equal_error_rate(ranked)).all()
    assert float(metrics.average_precision(ranked)) == 1
    none = metrics.pair_scores(jnp.zeros(0), jnp.zeros(0, jnp.int32), jnp.zeros(0))
    assert np.isnan(metrics.roc_auc(none))
    assert np.isnan(metrics.average_precision(none))


@settings(max_examples=20)
@given(seed=seeds)
def test_brier_and_calibration(seed: int) -> None:
    logits, labels, _ = draw("class labels", "index", seed=seed, b=50)
    probabilities = scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
    expected = sklearn.metrics.brier_score_loss(labels, probabilities, labels=range(5), scale_by_half=False)
    ones = np.ones(50, np.float32)
    close(metrics.average(metrics.brier(logits, labels, ones)), expected)
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == np.asarray(labels)
    gaps = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence > low) & (confidence <= low + 0.1)
        gaps += abs(right[inside].sum() - confidence[inside].sum())
    close(metrics.expected_calibration_error(metrics.calibration(logits, labels, ones, bins=10)), gaps / 50, atol=1e-5)


def _boxes(random: np.random.Generator, *shape: int) -> np.ndarray:
    corner = random.uniform(0, 300, (*shape, 2))
    return np.concatenate([corner, corner + np.exp(random.uniform(2, 5.5, (*shape, 2)))], axis=-1).astype(np.float32)


def _by_pycocotools(predicted: PredictedBoxes, truth: TrueBoxes, num_classes: int) -> np.ndarray:
    def four(box: np.ndarray) -> list[float]:
        return [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]

    objects = [
        {"id": 1 + i * 1000 + g, "image_id": i, "category_id": int(c), "bbox": four(truth.boxes[i, g])}
        | {"area": float(np.prod(four(truth.boxes[i, g])[2:])), "iscrowd": int(truth.crowd[i, g])}
        for (i, g), c in np.ndenumerate(truth.classes)
        if c >= 0
    ]
    found = [
        {
            "image_id": i,
            "category_id": int(c),
            "bbox": four(predicted.boxes[i, d]),
            "score": float(predicted.scores[i, d]),
        }
        for (i, d), c in np.ndenumerate(predicted.classes)
        if c >= 0
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": i} for i in range(len(truth.boxes))], "annotations": objects}
        coco.dataset["categories"] = [{"id": k} for k in range(num_classes)]
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6]


@pytest.mark.parametrize("seed", range(4))
def test_detections_against_pycocotools(seed: int) -> None:
    random = np.random.default_rng(seed)
    pictures, objects, found, classes = 40, 6, 25, 3
    truth = TrueBoxes(
        _boxes(random, pictures, objects),
        random.integers(-1, classes, (pictures, objects)).astype(np.int32),
        random.random((pictures, objects)) < 0.15,
    )
    which = random.integers(0, objects, (pictures, found))
    rows = np.arange(pictures)[:, None]
    near = truth.boxes[rows, which] + random.normal(0, 6, (pictures, found, 4)).astype(np.float32)
    near[..., 2:] = np.maximum(near[..., 2:], near[..., :2] + 1)  # sides of less than 0 are something else to each
    label = np.where(random.random((pictures, found)) < 0.8, truth.classes[rows, which], 0)
    predicted = PredictedBoxes(near, random.random((pictures, found)).astype(np.float32), label.astype(np.int32))
    collect = jax.jit(functools.partial(metrics.detections, num_classes=classes))
    halves = [
        collect(*jax.tree.map(lambda a, h=half: a[h::2], (predicted, truth)), np.ones(pictures // 2, np.float32))
        for half in (0, 1)
    ]
    summary = metrics.mean_average_precision(metrics.merge(*halves))
    names = ["map", "map50", "map75", "map_small", "map_medium", "map_large"]
    expected = _by_pycocotools(predicted, truth, classes)
    close([summary[name] for name in names], np.where(expected < 0, np.nan, expected))


def test_interpolations_of_one_curve_by_hand() -> None:
    # Three boxes by falling score: right, wrong, right; two objects. Precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.
    truth = TrueBoxes(jnp.asarray([[[0.0, 0, 10, 10], [20, 0, 30, 10]]]), jnp.asarray([[0, 0]]))
    predicted = PredictedBoxes(
        jnp.asarray([[[0.0, 0, 10, 10], [50, 50, 60, 60], [20, 0, 30, 10]]]),
        jnp.asarray([[0.9, 0.8, 0.7]]),
        jnp.asarray([[0, 0, 0]]),
    )
    seen = metrics.detections(predicted, truth, jnp.ones(1), num_classes=2)
    precision, recall, scores = metrics.precision_recall(seen, label=0)
    close(precision, [1, 1 / 2, 2 / 3])
    close(recall, [1 / 2, 1 / 2, 1])
    close(scores, [0.9, 0.8, 0.7])
    values = {
        how: metrics.detection_average_precision(seen, interpolation=how)[:, 0, 0] for how in ("area", "voc11", "coco")
    }
    close(values["area"], [1 / 2 + 1 / 3, np.nan])
    close(values["voc11"], [(6 + 5 * 2 / 3) / 11, np.nan])
    close(values["coco"], [(51 + 50 * 2 / 3) / 101, np.nan])


def test_by_voc_a_box_whose_best_object_is_taken_is_wrong() -> None:
    truth = TrueBoxes(jnp.asarray([[[0.0, 0, 10, 10], [2, 0, 12, 10]]]), jnp.asarray([[0, 0]]))
    # Both boxes overlap the first object most, and the second by more than a half.
    predicted = PredictedBoxes(
        jnp.asarray([[[0.0, 0, 10, 10], [0.5, 0, 10.5, 10]]]), jnp.asarray([[0.9, 0.8]]), jnp.asarray([[0, 0]])
    )
    for protocol, right in (("coco", [True, True]), ("voc", [True, False])):
        seen = metrics.detections(predicted, truth, jnp.ones(1), num_classes=1, protocol=protocol)
        assert seen.found.matched[:, 0, 0].tolist() == right


def test_no_boxes_and_no_objects_are_ordinary_input() -> None:
    none = TrueBoxes(jnp.zeros((2, 0, 4)), jnp.zeros((2, 0), jnp.int32))
    some = PredictedBoxes(jnp.ones((2, 3, 4)), jnp.ones((2, 3)), jnp.zeros((2, 3), jnp.int32))
    seen = metrics.detections(some, none, jnp.ones(2), num_classes=1)
    assert np.isnan(metrics.mean_average_precision(seen)["map"])
    objects = TrueBoxes(jnp.asarray([[[0.0, 0, 9, 9], [5, 5, 5, 5]]]), jnp.asarray([[0, 0]]))
    nothing = PredictedBoxes(jnp.zeros((1, 0, 4)), jnp.zeros((1, 0)), jnp.zeros((1, 0), jnp.int32))
    assert metrics.mean_average_precision(metrics.detections(nothing, objects, jnp.ones(1), num_classes=1))["map"] == 0
    with pytest.raises(UserError, match="detections at 1 overlaps; expected the 10 of COCO"):
        metrics.mean_average_precision(
            metrics.detections(nothing, objects, jnp.ones(1), num_classes=1, thresholds=(0.5,))
        )


@pytest.mark.parametrize("seed", range(3))
def test_similarity_of_key_points_is_that_of_coco(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.uniform(0, 100, (1, 17, 2)).astype(np.float32)
    predicted = truth + random.normal(0, 4, truth.shape).astype(np.float32)
    visible = random.integers(0, 2, (1, 17)).astype(np.float32)
    visible[0, 0] = 1
    evaluation = COCOeval(iouType="keypoints")
    flat = np.concatenate([truth[0], 2 * visible[0][:, None]], axis=1).ravel().tolist()
    evaluation._gts = {(0, 0): [{"keypoints": flat, "area": 2500.0, "bbox": [0, 0, 50, 50]}]}
    found = np.concatenate([predicted[0], np.ones((17, 1))], axis=1).ravel().tolist()
    evaluation._dts = {(0, 0): [{"keypoints": found, "score": 1.0}]}
    evaluation.params.useCats = True
    evaluation.params.maxDets = [20]
    close(COCO_SIGMAS, evaluation.params.kpt_oks_sigmas)
    seen = metrics.oks(predicted, truth, np.ones(1, np.float32), area=np.asarray([2500.0], np.float32), visible=visible)
    close(metrics.average(seen), evaluation.computeOks(0, 0)[0, 0])


def test_landmarks_by_hand() -> None:
    truth = jnp.asarray([[[0.0, 0], [10, 0]], [[0, 0], [5, 5]]])
    predicted = jnp.asarray([[[3.0, 4], [10, 0]], [[0, 0], [jnp.nan, 5]]])
    one = jnp.ones(2)
    close(metrics.average(metrics.nme(predicted[:1], truth[:1], one[:1], scale=10.0)), 0.25)
    assert _mean(metrics.pck(predicted, truth, one, alpha=0.4, scale=jnp.asarray([10.0, 10.0]))) == 0.5
    assert np.isinf(_mean(metrics.nme(predicted, truth, one)))  # what is no number is infinitely far away
    hidden = jnp.asarray([[0.0, 1.0], [0.0, 0.0]])
    assert metrics.nme(predicted, truth, one, visible=hidden) == (0, 1)  # the second example has no point that is seen


@pytest.mark.parametrize("seed", range(3))
def test_segmentation_against_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(3, 8, 9, 4)).astype(np.float32)
    labels = random.integers(0, 3, (3, 8, 9)).astype(np.int32)
    seen = metrics.pixel_confusion(logits, labels, np.ones(3, np.float32), ignore_index=2)
    kept = labels != 2
    truth, predicted = labels[kept], logits.argmax(-1)[kept]
    close(seen.matrix, sklearn.metrics.confusion_matrix(truth, predicted, labels=range(4)))
    close(metrics.pixel_accuracy(seen), sklearn.metrics.accuracy_score(truth, predicted))
    each = sklearn.metrics.jaccard_score(truth, predicted, labels=range(4), average=None)
    close(metrics.class_iou(seen), each)
    close(metrics.class_iou(seen, average="macro"), each.mean())
    frequency = np.bincount(truth, minlength=4) / len(truth)
    close(metrics.frequency_weighted_iou(seen), (frequency * each).sum())
    close(metrics.dice(seen), sklearn.metrics.f1_score(truth, predicted, labels=range(4), average=None))
    absent = metrics.Confusion(np.asarray([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    close(metrics.class_iou(absent), [3 / 4, 2 / 3, np.nan])
    close(metrics.class_iou(absent, average="macro"), (3 / 4 + 2 / 3) / 2)
    close(metrics.frequency_weighted_iou(absent), (4 / 6) * (3 / 4) + (2 / 6) * (2 / 3))
    assert np.isnan(metrics.class_iou(metrics.Confusion(np.zeros((2, 2), np.int32)), average="macro"))


def test_panoptic_quality_by_hand() -> None:
    def picture(classes: list[int], instances: list[int]) -> np.ndarray:
        return np.stack([np.asarray(classes), np.asarray(instances)], -1).astype(np.int32)[None, None]

    #            one found, IoU 3/4;  a person of two missed; a wrong segment; void pixels under a segment
    truth = picture([0, 0, 0, 0, 1, 1, 2, -1, -1], [1, 1, 1, 1, 1, 1, 0, 0, 0])
    found = picture([0, 0, 0, 1, 1, 1, 0, 2, 2], [5, 5, 5, 7, 8, 8, 9, 3, 3])
    seen = metrics.panoptic_segments(found, truth, np.ones(1, np.float32), num_classes=3)
    assert seen.true_positive.tolist() == [1, 1, 0]
    assert seen.false_positive.tolist() == [1, 1, 0]  # class 2 was predicted where nothing is known
    assert seen.false_negative.tolist() == [0, 0, 1]
    close(seen.overlap, [3 / 4, 1, 0])
    close(metrics.panoptic_quality(seen), [0.75 / 1.5, 1 / 1.5, 0])
    close(metrics.panoptic_quality(seen), metrics.segmentation_quality(seen) * metrics.recognition_quality(seen))
    same = metrics.panoptic_segments(truth, truth, np.ones(1, np.float32), num_classes=4)
    close(metrics.panoptic_quality(same), [1, 1, 1, np.nan])
    close(metrics.panoptic_quality(same, average="macro"), 1)
    crowded = metrics.panoptic_segments(found, truth, np.ones(1, np.float32), num_classes=3, max_segments=2)
    assert np.isnan(metrics.panoptic_quality(crowded, average="macro"))


@pytest.fixture(scope="module")
def photographs() -> tuple[np.ndarray, np.ndarray]:
    clean = np.stack([skimage.data.astronaut()[:192, :200], skimage.data.coffee()[:192, :200]]).astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 0.05, clean.shape)
    return np.clip(clean + noise, 0, 1).astype(np.float32), clean


def test_pictures_against_scikit_image(photographs: Any) -> None:
    noisy, clean = photographs
    pairs = list(zip(clean, noisy, strict=True))
    ones = np.ones(2, np.float32)
    options = {"data_range": 1.0, "channel_axis": -1, "gaussian_weights": True, "sigma": 1.5}
    options |= {"use_sample_covariance": False}
    # scikit-image averages over a border of 5 pixels less, which is where its window is whole: as ours.
    expected = np.mean([skimage.metrics.structural_similarity(a, b, **options) for a, b in pairs])
    close(metrics.average(metrics.ssim(noisy, clean, ones)), expected, rtol=1e-5)
    close(metrics.average(metrics.image_mse(noisy, clean, ones)), np.mean((noisy - clean) ** 2))
    signal = np.mean([skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in pairs])
    close(metrics.average(metrics.psnr(noisy, clean, ones)), signal)
    multi = float(metrics.average(metrics.ms_ssim(noisy, clean, ones)))
    assert float(metrics.average(metrics.ms_ssim(clean, clean, ones))) == pytest.approx(1, abs=1e-6)
    assert expected < multi < 1  # noise of single pixels is gone at the coarse scales
    one, other = (metrics.ms_ssim(noisy[i : i + 1], clean[i : i + 1], ones[:1]) for i in (0, 1))
    close(metrics.average(metrics.merge(one, other)), multi)
    masked = metrics.ms_ssim(noisy, clean, np.asarray([1, 0], np.float32))
    close(metrics.average(masked), metrics.average(one))
    assert np.isinf(_mean(metrics.psnr(clean, clean, ones)))


@pytest.mark.parametrize(("seed", "offset"), [(0, 0.0), (1, 100.0)])
def test_frechet_distance_and_inception_score_against_scipy(seed: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    one, other = (random.normal(offset + m, 1 + m, (300, 6)).astype(np.float32) for m in (0.0, 0.5))
    means = [a.astype(np.float64).mean(0) for a in (one, other)]
    covariances = [np.cov(a.astype(np.float64), rowvar=False) for a in (one, other)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * np.real(root))
    parts = [metrics.moments(one[i : i + 50], np.ones(50, np.float32)) for i in range(0, 300, 50)]
    merged = functools.reduce(metrics.merge, parts)
    value = metrics.frechet_distance(merged, metrics.moments(other, np.ones(300, np.float32)))
    # float32 has 7 digits of the features: beside an offset of 100, 5 of what they differ by.
    assert value == pytest.approx(expected, rel=1e-5 if not offset else 2e-4)
    assert np.isnan(metrics.frechet_distance(merged, metrics.moments(other[:1], np.ones(1, np.float32))))
    rows = random.dirichlet(np.full(5, 0.3), 40).astype(np.float32)
    rows[0] = np.eye(5)[0]
    divergence = scipy.stats.entropy(rows, rows.mean(0, keepdims=True), axis=1)
    seen = metrics.class_entropies(rows, np.ones(40, np.float32))
    close(metrics.inception_score(seen), np.exp(divergence.mean()), rtol=1e-5)
    close(metrics.inception_score(metrics.class_entropies(np.eye(4, dtype=np.float32), np.ones(4, np.float32))), 4)


TARGETS = ["a dog is running in the park", "the cat sat on the mat today", "nothing is the same as it was"]
PREDICTIONS = ["a dog is playing in a park", "the cat sat on the mat today", "nothing was ever the same"]


def test_text_against_the_libraries() -> None:
    ones = np.ones(3, np.float32)
    of = PREDICTIONS, TARGETS, ones
    assert metrics.error_rate(metrics.character_errors(*of)) == pytest.approx(jiwer.cer(TARGETS, PREDICTIONS))
    assert metrics.error_rate(metrics.word_errors(*of)) == pytest.approx(jiwer.wer(TARGETS, PREDICTIONS))
    whole = sacrebleu.corpus_bleu(PREDICTIONS, [TARGETS], smooth_method="none").score / 100
    assert metrics.bleu(metrics.ngram_matches(*of)) == pytest.approx(whole)
    two = [[target, target.upper()] for target in TARGETS]
    columns = [list(column) for column in zip(*two, strict=True)]
    expected = sacrebleu.corpus_bleu(PREDICTIONS, columns).score / 100
    assert metrics.bleu(metrics.ngram_matches(PREDICTIONS, two, ones), smooth="exp") == pytest.approx(expected)
    scorer = rouge_score.rouge_scorer.RougeScorer(["rougeL"])
    each = [scorer.score(t, p)["rougeL"].fmeasure for t, p in zip(TARGETS, PREDICTIONS, strict=True)]
    assert _mean(metrics.rouge_l(*of)) == pytest.approx(np.mean(each))


def test_pieces_of_a_dog_is_playing() -> None:
    seen = metrics.ngram_matches(["a dog is playing"], ["a dog is running"], np.ones(1))
    assert (seen.matches / seen.totals)[:2].tolist() == [3 / 4, 2 / 3]
    assert metrics.bleu(seen) == 0


def test_texts_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(UserError, match="target text 0 is empty"):
        metrics.word_errors(["a"], [" "], np.ones(1))
    with pytest.raises(UserError, match="2 texts, 1 targets and a mask of 1"):
        metrics.word_errors(["a", "b"], ["a"], np.ones(1))
    with pytest.raises(UserError, match="different numbers of target texts"):
        metrics.ngram_matches(["a", "b"], [["a"], ["b", "c"]], np.ones(2))


def test_depth_by_closed_forms() -> None:
    truth = np.asarray([[[2.0, 4.0], [0.0, np.nan]], [[0.0, 0.0], [-1.0, np.inf]]], np.float32)
    predicted = np.asarray([[[1.0, 5.0], [7.0, 7.0]], [[1.0, 1.0], [1.0, 1.0]]], np.float32)
    of = predicted, truth, np.ones(2, np.float32)  # the second picture has no depth that is known
    d, t = np.asarray([1.0, 5.0]), np.asarray([2.0, 4.0])
    assert _mean(metrics.depth_rmse(*of)) == pytest.approx(1)
    assert _mean(metrics.depth_mae(*of)) == pytest.approx(1)
    assert _mean(metrics.depth_abs_rel(*of)) == pytest.approx(np.mean(abs(d - t) / t))
    assert _mean(metrics.depth_sq_rel(*of)) == pytest.approx(np.mean((d - t) ** 2 / t))
    assert _mean(metrics.depth_log_rmse(*of)) == pytest.approx(np.sqrt(np.mean(np.log(d / t) ** 2)))
    # 4 / 5 and 2 / 1: neither is below 1.25, one is below 1.25^2.
    assert [_mean(metrics.depth_delta(*of, power=k)) for k in (1, 2, 4)] == [0, 0.5, 1]
