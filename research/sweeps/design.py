"""What the runs of a study have in common: an arm at a budget, at each setting of a tuning grid, at each seed.

And what makes arms cost the same: `twin`, the width at which one network has another's multiply-adds.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from research.config import Config, replace
from research.errors import UserError
from research.sweeps.plan import Planned

if TYPE_CHECKING:
    from research.scaling.match import Match
    from research.scaling.rules import Rule
    from research.sweeps.predict import Macs

Grid = Mapping[str, Sequence[Any]]  # dotted config key -> its values, the locked one among them


def settings(config: Config, grid: Grid) -> dict[str, Config]:
    """The locked setting, `config` itself, under "", and every other of the grid under `learning_rate=0.05,...`.

    A name says only what differs from the locked setting. Raises `UserError` where a key's values do not have the
    config's own, or have one twice.
    """
    for key, values in grid.items():
        own = _value(config, key)
        if own not in values or len(set(values)) < len(values):
            raise UserError(
                f"tuning grid {key} has {', '.join(map(str, values))}; expected {own} and others, each once"
            )
    found = {"": config}
    for values in itertools.product(*grid.values()):
        chosen = {k: v for k, v in zip(grid, values, strict=True) if v != _value(config, k)}
        name = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in chosen.items())
        found[name] = replace(config, **chosen)
    return found


def planned(
    arm: str,
    budget: str,
    config: Config,
    *,
    seeds: Iterable[int],
    grid: Grid | None = None,
    target_macs: int | None = None,
    reason: str = "",
) -> list[Planned]:
    """The runs of one arm at one budget; those of the tuning grid have the budget `BUDGET,SETTING`.

    Probes look at the locked setting alone. Raises `UserError` as `settings` does.
    """
    seeds = list(seeds)
    return [
        Planned(
            arm,
            ",".join(filter(None, [budget, setting])),
            seed,
            replace(_unprobed(of_setting) if setting else of_setting, seed=seed),
            target_macs,
            reason,
        )
        for setting, of_setting in settings(config, grid or {}).items()
        for seed in seeds
    ]


WIDTH = "width_multiplier"


def twin(config: Config, target: int, macs: "Macs") -> "Match":
    """`config` at the width at which it has `target` multiply-adds, channels rounded to 1; see `match.solve`."""
    from research.scaling import match

    own = config.model.options.get(WIDTH, 1.0)
    assert isinstance(own, int | float)

    def wide(times: float) -> Config:
        return replace(config, **{f"model.{WIDTH}": own * times, "model.channel_divisor": 1})

    return match.solve(wide, target, macs, low=1 / 8, high=8, start=1.0, confirm=macs.whole)


def grown(config: Config, by: "Rule", times: float, target: int, macs: "Macs", *, resolution: int) -> "Match":
    """`config` grown by a rule to `target` multiply-adds, about `times` its own; see `rules.scale`, `match.solve`.

    Where whole blocks and pixels are too coarse, the channels are trimmed.
    """
    from research.scaling import match, rules

    def trimmed(config: Config, width: float) -> Config:
        own = config.model.options.get(WIDTH, 1.0)
        assert isinstance(own, int | float)
        return replace(config, **{f"model.{WIDTH}": own * width})

    def member(factor: float) -> Config:
        return rules.scale(config, by, factor, resolution=resolution)

    return match.solve(member, target, macs, low=1, high=times * 4, start=times, trim=trimmed, confirm=macs.whole)


def _unprobed(config: Config) -> Config:
    return dataclasses.replace(config, probes=type(config.probes)())


def _value(config: Config, key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = getattr(node, name)
    return node
