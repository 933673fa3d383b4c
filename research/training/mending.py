"""What is done about damaged records when their run is launched again.

A run with a damaged record is not finished. That record is taken away, and its summary with it, and it is trained on
from its newest checkpoint that has all its records (`Journal.complete`), or anew: to the same bits, so that no numbers
are of two runs.
"""

import logging

from etils import epath

from research import config as configs
from research import storage
from research.config import Config
from research.errors import UserError
from research.training import lease, record
from research.training.record import CONFIG, ENVIRONMENT, METRICS, SUMMARY

_log = logging.getLogger(__name__)
RECORDS = (SUMMARY, CONFIG, ENVIRONMENT, METRICS)
REMEDY = "put it right, or train into another folder"


def mend(folder: epath.PathLike, cfg: Config | None = None) -> None:
    """Make a run with a damaged record an unfinished one without it, with a warning, unless another process is at it.

    The folder's name says whose run it is, and so of which config: `cfg`, where that is known.
    """
    place = epath.Path(folder)
    if _wrong(place, cfg) is None:
        return
    try:
        held = lease.take(place)
    except lease.InUse:
        return
    try:
        for _ in RECORDS:  # one after the other may be damaged
            wrong = _wrong(place, cfg)  # now that nobody else can write there
            if wrong is None:
                return
            said = f"{wrong.path} is damaged: {wrong.why}" if isinstance(wrong, record.Damaged) else wrong
            _log.warning("%s; its run is trained again from where all is sound", said)
            storage.remove(place / SUMMARY)
            if isinstance(wrong, record.Damaged):
                _take_away(wrong.path)
    finally:
        held.release()


def mend_own(folder: epath.PathLike, cfg: Config) -> None:
    """`mend` for a folder that a person has named, which may be of another config than `cfg`, and is then left alone.

    Raises `Damaged` where its config is damaged and nothing else says that it was `cfg`.
    """
    place = epath.Path(folder)
    if _is_of(place, cfg):
        return mend(place, cfg)
    if storage.read(place / CONFIG) is None or configs.differences(there(place), cfg):
        return None
    wrong = _wrong(place, None)
    if _of_config(wrong, place):
        raise record.Damaged(place / CONFIG, "it is not what the run's summary says", REMEDY)
    return mend(place)


def there(folder: epath.Path) -> Config:
    """The config of a folder. Raises `Damaged`."""
    values = record.read_json(folder / CONFIG, remedy=REMEDY)
    try:
        return configs.from_dict(values)
    except (UserError, TypeError, AttributeError) as error:
        raise record.Damaged(folder / CONFIG, error, REMEDY) from error


def _take_away(path: epath.Path) -> None:
    """Remove a damaged record; of metrics, those from the first that is damaged on."""
    rows, _ = record.sound_metrics(path) if path.name == METRICS else ([], "")
    if rows:
        storage.write(path, "".join(map(record.metrics_line, rows)))
    else:
        storage.remove(path)


def _is_of(place: epath.Path, cfg: Config) -> bool:
    """Whether a run's summary says that it is of `cfg`, whatever its config says."""
    try:
        summary = record.read_summary(place)
    except record.Damaged:
        return False
    known = (summary or {}).get(record.VERIFIES, {}).get("config")
    return known == record.checksum(configs.to_dict(cfg))


def _of_config(wrong: UserError | None, place: epath.Path) -> bool:
    return isinstance(wrong, record.Damaged) and wrong.path == place / CONFIG


def _wrong(place: epath.Path, cfg: Config | None) -> UserError | None:
    """What is wrong with the records of a folder, where anything is."""
    try:
        if storage.read(place / SUMMARY) is not None or storage.read(place / CONFIG) is not None:
            record.read_run(place)
        if cfg is not None and storage.read(place / CONFIG) is not None and configs.differences(there(place), cfg):
            return record.Damaged(place / CONFIG, "it is not what the name of its folder says")
    except UserError as error:
        return error
    return None
