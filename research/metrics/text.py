"""Metrics of text, by the libraries whose numbers are quoted: jiwer, sacrebleu and rouge-score (extra `text`).

Strings are no arrays: these run on the host. A mask leaves padded examples out, as everywhere.
"""

import importlib
from types import ModuleType
from typing import Any, Literal

import numpy as np

from research.errors import UserError
from research.inputs import Mask, References, Texts
from research.metrics._accumulators import Edits, Mean, NgramMatches

ORDER = 4  # of the longest pieces of BLEU


def character_errors(predictions: Texts, targets: Texts, mask: Mask) -> Edits:
    """Characters to insert, delete or replace to make the targets, and how many these have: `error_rate` is the CER.

    Raises `UserError`: an empty target, of which no share can be taken, or no jiwer.
    """
    return _edits(predictions, targets, mask, "process_characters")


def word_errors(predictions: Texts, targets: Texts, mask: Mask) -> Edits:
    """Words (between spaces) to insert, delete or replace to make the targets, and how many these have: the WER.

    Raises `UserError`: an empty target, or no jiwer.
    """
    return _edits(predictions, targets, mask, "process_words")


def error_rate(edits: Edits) -> float:
    """Edits / symbols of the targets, 0 of none: over all examples together, so long ones count more. May exceed 1."""
    return float(edits.errors) / max(int(edits.symbols), 1)


def ngram_matches(
    predictions: Texts,
    targets: References,
    mask: Mask,
    *,
    tokenize: Literal["13a", "intl", "char", "none"] = "13a",
) -> NgramMatches:
    """How many pieces of 1 to 4 words are in a target too, of how many, and the lengths: what `bleu` is made of.

    Each example has one target, or several. Words are those of WMT's mteval-v13a unless another way is named. Raises
    `UserError`: examples with different numbers of targets, or no sacrebleu.
    """
    real = _real(predictions, targets, mask)
    references = [[targets[i]] if isinstance(targets[i], str) else list(targets[i]) for i in real]
    if len({len(each) for each in references}) > 1:
        raise UserError("examples have different numbers of target texts; expected as many for each")
    if not real:
        return NgramMatches(*map(_counts, ([0] * ORDER, [0] * ORDER, 0, 0)))
    bleu = _library("sacrebleu").metrics.BLEU(tokenize=tokenize, max_ngram_order=ORDER)
    score = bleu.corpus_score(
        [predictions[i] for i in real], [list(column) for column in zip(*references, strict=True)]
    )
    return NgramMatches(*map(_counts, (score.counts, score.totals, score.sys_len, score.ref_len)))


def bleu(seen: NgramMatches, *, smooth: Literal["exp", "floor", "add-k", "none"] = "none") -> float:
    """BLEU-4 from 0 to 1: brevity penalty x geometric mean of the four precisions, of all examples together.

    Papineni et al. 2002 (doi 10.3115/1073083.1073135, section 2.3). Not smoothed unless asked: 0 where no piece of some
    length matches. sacrebleu's own command smooths by "exp" and gives percent.
    """
    compute = _library("sacrebleu").metrics.BLEU.compute_bleu
    score = compute(
        correct=seen.matches.tolist(),
        total=seen.totals.tolist(),
        sys_len=int(seen.length),
        ref_len=int(seen.target_length),
        smooth_method=smooth,
        max_ngram_order=ORDER,
    )
    return float(score.score) / 100


def rouge_l(predictions: Texts, targets: Texts, mask: Mask) -> Mean:
    """Mean over examples of ROUGE-L: F1 of the longest common subsequence of words, lower case, not stemmed.

    Lin 2004 (aclanthology.org/W04-1013, section 3.1). Raises `UserError`: no rouge-score.
    """
    scorer = _library("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    real = _real(predictions, targets, mask)
    total = sum(scorer.score(targets[i], predictions[i])["rougeL"].fmeasure for i in real)
    return Mean(np.asarray(total, np.float64), _counts(len(real)))


def _edits(predictions: Texts, targets: Texts, mask: Mask, process: str) -> Edits:
    real = _real(predictions, targets, mask)
    for i in real:
        if not targets[i].strip():
            raise UserError(f"target text {i} is empty; expected at least one character, of which errors are a share")
    if not real:
        return Edits(_counts(0), _counts(0))
    seen: Any = getattr(_library("jiwer"), process)([targets[i] for i in real], [predictions[i] for i in real])
    errors = seen.substitutions + seen.deletions + seen.insertions
    return Edits(_counts(errors), _counts(seen.hits + seen.substitutions + seen.deletions))


def _counts(numbers: Any) -> np.ndarray:
    return np.asarray(numbers, np.int64)


def _real(predictions: Texts, targets: Any, mask: Mask) -> list[int]:
    if not len(predictions) == len(targets) == len(mask):
        raise UserError(f"{len(predictions)} texts, {len(targets)} targets and a mask of {len(mask)}; expected as many")
    return [i for i, real in enumerate(np.asarray(mask) > 0) if real]


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0].replace("_", "-")
        raise UserError(f"metrics of text need {package}; install the extra: pip install 'convscale[text]'") from error
