"""The engine of studies and sweeps: plan, identities, skip what is finished, execute, report a line per run."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from research import storage
from research.sweeps import board, executors, plan, results, store, work
from research.sweeps.identity import RunIdentity, run_identity
from research.sweeps.jobs import Group, Job, Outcome, Resources
from research.sweeps.plan import Planned
from research.training import lease, mending, record, trackers
from research.training.tracking import Tracking


@dataclass(frozen=True)
class Study:
    """What is to be run: a study at one scale, or a sweep (name `sweep`, its config and grid for a scale).

    `command`: what a person typed to run it.
    """

    name: str
    scale: str
    question: str
    command: str
    planned: tuple[Planned, ...]
    axes: tuple[str, ...] = ()  # of a sweep: the swept config keys, in the order they were given


LOOKS, LOOKS_AT_STORE = 2.0, 10.0  # seconds between two looks at runs that another process holds
FollowUp = Callable[[Sequence[results.Result]], Sequence[Planned]]


def launch(
    study: Study,
    workdir: epath.PathLike,
    *,
    executor: str = "local",
    resources: Resources = Resources(),
    population: str = "auto",
    pattern: str | None = None,
    accept_code: Iterable[str] = (),
    track: Sequence[str] = (),
    follow_up: FollowUp | None = None,
    changed: Callable[[], None] = lambda: None,
    progress: bool = False,
    say: Callable[[str], None] = functools.partial(print, flush=True),
) -> list[Outcome]:
    """Run what is not finished yet of `study` in `workdir`; returns the outcome of every run it started.

    `population`: how many runs that differ in seed and numbers alone train in one step (`grouping.groups`).
    `pattern` restricts it to matching labels, `accept_code` lets results of older code digests stand in, `say` gets
    one line per run. Runs with the same identity are trained once; one that another launch is at is left to it, and
    taken over where that died. `follow_up`: the runs that what has been found so far asks for; they are part of the
    study from then on. `track`: names of trackers that follow the runs. `changed` is called whenever the records say
    something new of the whole. Raises `UserError` before anything is trained (unknown executor or tracker, a filter
    that matches nothing, data or a config that cannot be used), `Preempted`.
    """
    chosen_executor = executors.get(executor, resources)
    trackers.check(track)
    plan.check_population(population)
    plan.check(study.planned)
    accepted = store.resolve_code(workdir, accept_code)
    execute = functools.partial(
        chosen_executor, resources=resources, workdir=epath.Path(workdir), progress=progress, say=say
    )
    in_groups = population != "auto" or (executor == "local" and resources.workers is None)
    whole, outcomes, seen = _followed(study, workdir, follow_up), [], set[str]()
    plan.select(whole.planned, pattern)
    while fresh := {p.label for p in whole.planned} - seen:
        chosen = {p.label for p in whole.planned if p.label in fresh and plan.matches(p, pattern)}
        outcomes += _run(whole, workdir, chosen, accepted, population, execute, in_groups, tuple(track), changed, say)
        seen |= fresh
        whole = _followed(study, workdir, follow_up)
    return outcomes


def _followed(study: Study, workdir: epath.PathLike, follow_up: FollowUp | None) -> Study:
    """The study with what its results in this folder ask for."""
    if follow_up is None or store.studies(workdir) is None:
        return study
    for entry in store.read_studies(workdir):
        for run in entry["runs"] if (entry["name"], entry["scale"]) == (study.name, study.scale) else ():
            mending.mend(store.run_folder(workdir, run["id"]))
    records = [r for r in results.read(workdir) if (r.name, r.scale) == (study.name, study.scale)]
    more = follow_up(records[0].results) if records else ()
    return dataclasses.replace(study, planned=(*study.planned, *more))


def _run(
    study: Study,
    workdir: epath.PathLike,
    chosen: set[str],
    accepted: Sequence[str],
    population: str,
    execute: Callable[[Sequence[Job]], Iterator[Outcome]],
    in_groups: bool,
    track: tuple[str, ...],
    changed: Callable[[], None],
    say: Callable[[str], None],
) -> list[Outcome]:
    """Run what is left of the labels `chosen`; `in_groups`: whether the executor can train several in one step."""
    wanted = [run_identity(p.config) for p in study.planned]
    mended = [(p, identity) for p, identity in zip(study.planned, wanted, strict=True) if p.label in chosen]
    storage.each(lambda one: mending.mend(store.run_folder(workdir, one[1].id), one[0].config), mended, workdir)
    served = storage.each(lambda identity: store.locate(workdir, identity, accepted), wanted, workdir)
    jobs = _jobs(study.planned, served, chosen, workdir, Tracking(track, group=f"{study.name} {study.scale}"), say)
    together = _groups(study, wanted, population, workdir) if jobs and in_groups else None
    jobs = [dataclasses.replace(job, group=(together or {}).get(job.id)) for job in jobs]
    running = execute(jobs)
    entry = _entry(study, wanted, served, workdir, population, together)
    store.write_study(workdir, entry)
    changed()
    try:
        board.link(workdir)
    except OSError as error:
        say(f"no folder of the whole for TensorBoard: {error}")
    outcomes: list[Outcome] = []
    start = time.monotonic()
    others = _Others(say)
    while True:
        for outcome in running:
            if outcome.status == "elsewhere":
                others.watch(outcome.job)
            else:
                outcomes.append(outcome)
                say(f"[{len(outcomes)}/{len(jobs)}] {_line(outcome)}")
            changed()
        if not others.held:
            break
        free, failed_there = others.wait()
        changed()
        outcomes += failed_there
        running = execute(free)
    _tidy(workdir, entry["population"]["groups"])
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    seconds = time.monotonic() - start
    say(f"{len(outcomes)} run, {failed} failed, {len(chosen) - len(outcomes)} not needed again, {seconds:.0f} s")
    return outcomes


def _tidy(workdir: epath.PathLike, groups: Sequence[Sequence[str]]) -> None:
    """Remove the common state of groups that have ended: a process that is killed just then leaves it behind."""
    for ids in groups:
        folder = store.group_folder(workdir, ids)
        if folder.exists() and all(store.state(store.run_folder(workdir, id_)) == "finished" for id_ in ids):
            with contextlib.suppress(lease.InUse):
                lease.take(folder, patient=False).remove()


class _Others:
    """Runs of this study that other processes are at."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.held: dict[str, tuple[Job, list[lease.Watch]]] = {}

    def watch(self, job: Job) -> None:
        """This one is held elsewhere, or has ended there."""
        if job.id not in self.held:
            folders = [job.folder, *([job.group.folder] if job.group else [])]
            self.held[job.id] = job, [lease.Watch(folder) for folder in folders]
            self.say(f"{job.label}  {job.id}  elsewhere")

    def wait(self) -> tuple[list[Job], list[Outcome]]:
        """Until something happened to them: those that were let go of before their end, and those that failed."""
        free, failed = list[Job](), list[Outcome]()
        while self.held and not free and not failed:
            for job, watches in list(self.held.values()):
                state = work.ended(job)
                if state is not None:
                    del self.held[job.id]
                    self.say(f"{job.label}  {job.id}  {state} elsewhere")
                    reason = record.read_json(job.folder / record.SUMMARY).get("reason", "")
                    failed += [Outcome(job, "failed", reason=reason)] if state == "failed" else []
                elif {watched.look()[0] for watched in watches} == {"free"}:
                    with contextlib.suppress(lease.InUse):  # another launch was faster
                        free.append(_taken_over(job, watches))
            if self.held and not free and not failed:
                time.sleep(LOOKS_AT_STORE if storage.is_remote(job.folder) else LOOKS)
        for job in free:
            del self.held[job.id]
        return free, failed


def _taken_over(job: Job, watches: Sequence[lease.Watch]) -> Job:
    """The job, let go of in the name of holders that were waited for in vain: whoever trains it need not wait again.

    Raises `lease.InUse`.
    """
    for watched in watches:
        if watched.look()[1]:
            lease.take(watched.folder, watch=watched).release()
    return dataclasses.replace(job, token=lease.progress(job.folder).token)


def _recorded_groups(
    study: Study, wanted: Sequence[RunIdentity], population: str, workdir: epath.PathLike
) -> list[list[str]] | None:
    """The groups with which these very runs were launched here before, under the same word; None: never."""
    for entry in store.studies(workdir) or ():
        if (entry["name"], entry["scale"]) == (study.name, study.scale) and "population" in entry:
            same = entry["population"]["of"] == [identity.id for identity in wanted]
            if same and entry["population"]["asked"] == population:
                return entry["population"]["groups"]
    return None


def _groups(study: Study, wanted: Sequence[RunIdentity], population: str, workdir: epath.PathLike) -> dict[str, Group]:
    """The group of each run that has one, by identity: decided once for a study, whatever of it is left to do."""
    from research.sweeps import grouping  # needs jax

    configs = {identity.id: p.config for identity, p in zip(wanted, study.planned, strict=True)}
    found = _recorded_groups(study, wanted, population, workdir)
    if found is None:
        found = grouping.groups(configs, population)
    by_id: dict[str, Group] = {}
    for ids in found:
        runs = tuple((id_, configs[id_], store.run_folder(workdir, id_)) for id_ in ids)
        group = Group(store.group_folder(workdir, ids), runs)
        by_id |= dict.fromkeys(ids, group)
    return by_id


def _entry(
    study: Study,
    wanted: Sequence[RunIdentity],
    served: Sequence[RunIdentity],
    workdir: epath.PathLike,
    population: str,
    together: Mapping[str, Group] | None,
) -> dict[str, Any]:
    """The study's entry of `study.json`: every run it wants, also those a filter leaves for another time."""
    groups = _recorded_groups(study, wanted, population, workdir)
    if together is not None:
        groups = [[id_ for id_, _, _ in group.runs] for group in dict.fromkeys(together.values())]
    runs = [
        {
            "id": used.id,
            "arm": p.arm,
            "budget": p.budget,
            "seed": p.seed,
            "target_macs": p.target_macs,
            "reason": p.reason,
            "accepted_code": used.code_digest if used != own else "",
        }
        for p, own, used in zip(study.planned, wanted, served, strict=True)
    ]
    return {
        "name": study.name,
        "scale": study.scale,
        "question": study.question,
        "command": study.command,
        "axes": list(study.axes),
        "population": {"asked": population, "of": [identity.id for identity in wanted], "groups": groups or []},
        "runs": runs,
    }


def _jobs(
    planned: Sequence[Planned],
    served: Sequence[RunIdentity],
    chosen: set[str],
    workdir: epath.PathLike,
    tracking: Tracking,
    say: Callable[[str], None],
) -> list[Job]:
    """What is left to train; says which runs are finished already."""
    jobs: dict[str, Job] = {}
    for p, identity in zip(planned, served, strict=True):
        if p.label in chosen and identity.id not in jobs:
            followed = dataclasses.replace(tracking, run=p.label)
            folder = store.run_folder(workdir, identity.id)
            jobs[identity.id] = Job(p.label, identity.id, p.config, folder, tracking=followed)

    def left(job: Job) -> Job | None:
        if store.state(job.folder) == "finished":
            return None
        return dataclasses.replace(job, token=lease.progress(job.folder).token)

    found = storage.each(left, jobs.values(), workdir)
    for job in (job for job, remains in zip(jobs.values(), found, strict=True) if remains is None):
        say(f"{job.label}  {job.id}  already finished")
    return [job for job in found if job is not None]


def _line(outcome: Outcome) -> str:
    """`label  id  status`, then the metric by which the run is judged, or why it failed."""
    summary = outcome.summary
    metric = next((key[5:] for key in summary if key.startswith("best/") and key != "best/step"), "loss")
    numbers = [f"{key} {summary[key]:.4f}" for key in (f"eval/{metric}", f"eval_train/{metric}") if key in summary]
    seconds = [f"{summary['train_seconds']:.1f} s"] if "train_seconds" in summary else []
    result = outcome.reason or ", ".join(numbers + seconds)
    return f"{outcome.job.label}  {outcome.job.id}  {outcome.status}  {result}"
