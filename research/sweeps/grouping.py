"""Which runs of a study train together in one step: a function of the plan, not of what of it is left to train."""

from collections.abc import Mapping

from research.config import Config, replace
from research.sweeps import plan
from research.training import population, resolve, trial


def groups(configs: Mapping[str, Config], asked: str) -> list[list[str]]:
    """Groups of two or more of `configs` (identity -> config), in the order of the plan; the rest train alone.

    Runs that differ in seed and in numbers that are arguments of their programs fit together. `asked`: `auto`, which
    takes groups where a measured trial finds them faster (`trial.members`), or how many to a group. Raises `UserError`.
    """
    most = plan.check_population(asked)
    if most == 1:
        return []
    resolved: dict[Config, resolve.Resolved] = {}
    alike: dict[object, list[str]] = {}
    of: dict[object, resolve.Resolved] = {}
    for id_, config in configs.items():
        unseeded = replace(config, seed=0)
        if unseeded not in resolved:
            resolved[unseeded] = resolve.resolve(unseeded)
        if (key := population.lockstep(resolved[unseeded])) is not None:
            alike.setdefault(key, []).append(id_)
            of[key] = resolved[unseeded]
    found = []
    for key, ids in alike.items():
        count = trial.members(of[key], len(ids)) if most is None else most
        found += [chunk for start in range(0, len(ids), count) if len(chunk := ids[start : start + count]) > 1]
    return found
