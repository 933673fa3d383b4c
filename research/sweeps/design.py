"""What the runs of a study have in common: an arm at a budget, at each setting of a tuning grid, at each seed.

And what makes arms cost the same: `Search`, for the width at which one network has another's multiply-adds.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research.config import Config, digest, replace
from research.errors import UserError
from research.sweeps.plan import Planned

if TYPE_CHECKING:
    from research.scaling.match import Match
    from research.scaling.rules import Rule

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
SOLVED = ".solved.json"  # suffix of the file beside a study


class Search:
    """Searches for equal cost. What they found is kept beside a study's file, with the counts of its networks.

    `study`: that file; None: nothing is kept. A search that is not among them is made when it is asked for. Counts hold
    for the code that made them: where it has changed, what was found is counted again before it is used.
    """

    def __init__(self, study: str | Path | None = None) -> None:
        self.found: dict[str, dict[str, float]] = {}  # by what was asked: multiplier, trim, reached
        self._kept: dict[str, dict[str, float]] = {}
        self._first: dict[tuple[Any, Config], Config] = {}  # by network, and by what else a config says
        if study is not None and (file := Path(study).with_suffix(SOLVED)).exists():
            kept = json.loads(file.read_text())
            self._kept = kept["searches"]
            if kept["code"] is not None and kept["code"] == _counting_code(kept["models"]):
                from research.sweeps import predict

                predict.counted_before(kept["counts"])

    def kept(self, planned: Iterable[Planned]) -> dict[str, Any]:
        """What the file beside the study is to have: the searches made, and the counts of all its networks."""
        from research.sweeps import predict

        configs = {predict.network_digest(p.config): p.config for p in planned}
        models = sorted({config.model.name for config in configs.values()})
        return {
            "code": _counting_code(models),
            "models": models,
            "counts": {
                name: dict(predict.counts(config, predict.known_data(config))) for name, config in configs.items()
            },
            "searches": self.found,
        }

    def twin(self, config: Config, target: int) -> "Match":
        """`config` at the width at which it has `target` multiply-adds, channels rounded to 1; see `match.solve`."""
        own = config.model.options.get(WIDTH, 1.0)
        assert isinstance(own, int | float)

        def wide(times: float) -> Config:
            return replace(config, **{f"model.{WIDTH}": own * times, "model.channel_divisor": 1})

        return self._solved("width", config, wide, target, low=1 / 8, high=8, start=1.0)

    def grown(self, config: Config, by: "Rule", times: float, target: int, *, resolution: float) -> "Match":
        """`config` grown by a rule to `target` multiply-adds, about `times` its own; see `rules.scale`.

        Where whole blocks and pixels are too coarse, the channels are trimmed. Where rounding makes the same network of
        it as of a config that was grown before, that config is returned: arms that are one network share their runs.
        """
        from research.scaling import rules
        from research.sweeps import predict

        def trimmed(config: Config, width: float) -> Config:
            own = config.model.options.get(WIDTH, 1.0)
            assert isinstance(own, int | float)
            return replace(config, **{f"model.{WIDTH}": own * width})

        def member(factor: float) -> Config:
            return rules.scale(config, by, factor, resolution=resolution)

        how = f"depth {by.depth:.6g} width {by.width:.6g} resolution {by.resolution:.6g} from {resolution}"
        solved = self._solved(how, config, member, target, low=1, high=times * 4, start=times, trim=trimmed)
        network = predict.network(solved.config, predict.known_data(solved.config))
        alike = network, dataclasses.replace(solved.config, model=config.model)
        return dataclasses.replace(solved, config=self._first.setdefault(alike, solved.config))

    def _solved(
        self, how: str, config: Config, family: "Callable[[float], Config]", target: int, **given: Any
    ) -> "Match":
        from research.scaling import match
        from research.sweeps import predict

        asked = digest(Config(model=config.model, data=config.data))[:16]
        key = f"{asked} {how} to {target}"
        kept = self._kept.get(key)
        known = kept and match.Known(kept["multiplier"], kept["trim"], int(kept["reached"]))
        solved = match.solve(
            family, target, predict.macs, confirm=predict.macs_as_a_whole, known=known or None, **given
        )
        self.found[key] = {"multiplier": solved.multiplier, "trim": solved.trim, "reached": solved.reached}
        return solved


def _counting_code(models: Iterable[str]) -> str | None:
    """Digest of the code that counts these networks; None where the catalogue does not have one of them."""
    from research.sweeps import identity

    try:
        return identity.counting_digest(models)
    except UserError:
        return None


@functools.cache
def search(study: str) -> Search:
    """The searches of a study's file, one object for each process: its networks are counted once."""
    return Search(study)


def _unprobed(config: Config) -> Config:
    return dataclasses.replace(config, probes=type(config.probes)())


def _value(config: Config, key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = getattr(node, name)
    return node
