"""Learning-rate schedules, in float64.

Written out in NumPy: optax computes schedules in float32, which counts steps exactly but loses digits of `step / steps`
in runs of hundreds of thousands of them. Rates are computed once, before the run, and fed to its steps.
"""

import fractions
from collections.abc import Callable
from typing import Any

import numpy as np

from research.config import ScheduleConfig
from research.errors import UserError, unknown
from research.values import nearest_step

MOST_STEPS = 20_000_000  # five times ImageNet's 90 epochs in batches of 32; rates of each are kept, 8 bytes
Exact = fractions.Fraction | float
Curve = Callable[[np.ndarray], np.ndarray]  # steps, from 0, to factors on the peak, float64

SCHEDULES = {
    "constant": "the same rate throughout",
    "step": "multiplied by `factor` at each of `boundaries` (He et al. 2015, arXiv:1512.03385)",
    "exponential": "multiplied by `factor` over each `every`, from step 0 (Tan and Le 2019, arXiv:1905.11946)",
    "cosine": "half a cosine from the peak to `final` (Loshchilov and Hutter 2016, arXiv:1608.03983)",
    "polynomial": "(1 - progress) to `power`, from the peak to `final` (Chen et al. 2016, arXiv:1606.00915)",
    "one_cycle": "up from `initial` to the peak at `rise`, down to `final` (Smith and Topin 2017, arXiv:1708.07120)",
}


def schedule(cfg: ScheduleConfig, *, peak: float, steps: int, warmup: int, every: Exact) -> Callable[[Any], np.ndarray]:
    """Learning rate as a function of the step, or of an array of steps (0 is the first), float64. Raises `UserError`.

    `warmup` and `every` (exponential) are in steps. The first step moves: it has rate peak / warmup, and step
    warmup - 1 the peak. The cosine and the polynomial then go over what is left of the budget and reach their end one
    step after the last. Boundaries of `step` are shares of the whole budget, and `exponential` counts from step 0, as
    EfficientNet's own code does: after a long warmup both may begin below the peak.
    """
    _check(cfg, steps=steps, warmup=warmup, every=every)
    main = _CURVES[cfg.name](cfg, steps, warmup, every)

    def rate(step: Any) -> np.ndarray:
        at = np.asarray(step, np.int64)
        return peak * np.where(at < warmup, (at + 1) / max(warmup, 1), main(np.maximum(at, warmup)))

    if cfg.name in ("step", "exponential") and cfg.factor > 1:
        with np.errstate(over="ignore"):
            last = rate(steps - 1)
            if not np.isfinite(last.astype(np.float32)):
                raise UserError(f"schedule.factor is {cfg.factor}, which takes the rate to {last:g}; expected less")
    return rate


def rates(cfg: ScheduleConfig, *, peak: float, steps: int, warmup: int, every: Exact) -> np.ndarray:
    """The learning rate of every step of the run, float32 `"steps"`, rounded only at the end."""
    return schedule(cfg, peak=peak, steps=steps, warmup=warmup, every=every)(np.arange(steps)).astype(np.float32)


def _check(cfg: ScheduleConfig, *, steps: int, warmup: int, every: Exact) -> None:
    """Refuse an unknown name and every contradiction."""
    if steps > MOST_STEPS:
        raise UserError(f"budget.train is {steps} steps, of which each has its rate; expected at most {MOST_STEPS}")
    if cfg.name not in SCHEDULES:
        raise unknown("schedule", cfg.name, SCHEDULES)
    if cfg.name == "one_cycle" and warmup:
        raise UserError(f"schedule.warmup is {warmup} steps, and one_cycle has a rise of its own; expected 0")
    if warmup >= steps and warmup > 0:
        raise UserError(f"schedule.warmup is {warmup} steps of a budget of {steps}; expected fewer")
    if cfg.name == "exponential" and every <= 0:
        raise UserError(f"schedule.every is {cfg.every}; expected more than 0 for exponential")
    if cfg.name == "step" and list(cfg.boundaries) != sorted(set(cfg.boundaries)):
        raise UserError(f"schedule.boundaries are {list(cfg.boundaries)}; expected increasing shares of the budget")


def _at(share: float, steps: int) -> int:
    """The step nearest to a share of the budget; of two equally near, the later, as for durations."""
    return nearest_step(fractions.Fraction(share * steps))


def _constant(cfg: ScheduleConfig, steps: int, warmup: int, every: Exact) -> Curve:
    return lambda step: np.ones(step.shape)


def _step(cfg: ScheduleConfig, steps: int, warmup: int, every: Exact) -> Curve:
    boundaries = np.array([_at(share, steps) for share in cfg.boundaries], np.int64)
    return lambda step: cfg.factor ** np.searchsorted(boundaries, step, side="right").astype(np.float64)


def _exponential(cfg: ScheduleConfig, steps: int, warmup: int, every: Exact) -> Curve:
    """Stairs are counted in whole numbers: a float would put some of them a step late."""
    exact = every if isinstance(every, fractions.Fraction) else fractions.Fraction(repr(float(every)))

    def stairs(step: np.ndarray) -> np.ndarray:
        # Python's integers, as numerator and denominator may be large.
        return np.asarray(step.astype(object) * exact.denominator // exact.numerator).astype(np.float64)

    if cfg.staircase:
        return lambda step: cfg.factor ** stairs(step)
    return lambda step: cfg.factor ** (step / float(exact))


def _down(progress: np.ndarray) -> np.ndarray:
    """Half a cosine, 1 at 0 and 0 from 1 on."""
    return 0.5 * (1 + np.cos(np.pi * np.minimum(progress, 1)))


def _cosine(cfg: ScheduleConfig, steps: int, warmup: int, every: Exact) -> Curve:
    rest = max(steps - warmup, 1)
    return lambda step: cfg.final + (1 - cfg.final) * _down((step - warmup) / rest)


def _polynomial(cfg: ScheduleConfig, steps: int, warmup: int, every: Exact) -> Curve:
    rest = max(steps - warmup, 1)
    return lambda step: cfg.final + (1 - cfg.final) * np.maximum(1 - (step - warmup) / rest, 0) ** cfg.power


def _one_cycle(cfg: ScheduleConfig, steps: int, warmup: int, every: Exact) -> Curve:
    """The rate alone: the momentum, which the paper moves the other way, stays. Cosines, as fast.ai and PyTorch do."""
    top = _at(cfg.rise, steps)

    def curve(step: np.ndarray) -> np.ndarray:
        rising = 1 - (1 - cfg.initial) * _down(np.minimum(step, top) / max(top, 1))
        falling = cfg.final + (1 - cfg.final) * _down(np.maximum(step - top, 0) / max(steps - top, 1))
        return np.where(step < top, rising, falling)

    return curve


_CURVES: dict[str, Callable[[ScheduleConfig, int, int, Exact], Curve]] = {
    "constant": _constant,
    "step": _step,
    "exponential": _exponential,
    "cosine": _cosine,
    "polynomial": _polynomial,
    "one_cycle": _one_cycle,
}
