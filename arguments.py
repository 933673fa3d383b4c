"""The words that `launch.py` takes: a parser for each verb, whose errors are one line."""

import argparse
from collections.abc import Callable, Mapping
from typing import NoReturn

import listing
from research.errors import UserError

Verb = Callable[[argparse.Namespace, list[str]], None]
# Verbs after which words may be left, for a config or a model to read.
OVERRIDDEN = ("train", "inspect", "plan", "sweep", "bench")


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise `UserError` instead of printing the usage and leaving."""
        raise UserError(f"{self.prog}: {message}")


def parser(about: str | None, run: Mapping[str, Verb]) -> tuple[Parser, dict[str, Parser]]:
    """The parser of a whole command line, and that of each verb by its name.

    `about`: what the program is, its first line shown. `run`: what each verb calls; its docstring is the verb's help.
    """
    whole = Parser(prog="launch.py", description=(about or "").partition("\n")[0], allow_abbrev=False)
    whole.add_argument("--debug", action="store_true", help="show tracebacks; may stand anywhere")
    verbs = whole.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    made: dict[str, Parser] = {}

    def verb(name: str, usage: str, help_: bool = True) -> Parser:
        does = listing.first_line(run[name])
        made[name] = verbs.add_parser(
            name, help=does, description=does, usage=usage, add_help=help_, allow_abbrev=False
        )
        made[name].set_defaults(run=run[name])
        return made[name]

    v = verb("list", "launch.py list [KIND] [--json]")
    v.add_argument("kind", nargs="?", metavar="KIND", help=", ".join(listing.LISTS))
    v.add_argument("--json", action="store_true")
    v = verb(
        "inspect",
        "launch.py inspect MODEL [--resolution R] [--num-classes N] [field overrides] [--json]\n"
        "       launch.py inspect CONFIG --schedule [overrides] [--out FILE] [--json]",
    )
    v.add_argument("model", metavar="MODEL", help="or, with --schedule, a CONFIG as `launch.py train` takes it")
    v.add_argument("--schedule", action="store_true", help="the learning rate of CONFIG, as a table and a figure")
    v.add_argument(
        "--out", metavar="FILE", help="figure of --schedule: .svg, .png or .html; default: learning_rate.svg"
    )
    v.add_argument("--resolution", type=int, metavar="R", help="pixels; default: the variant's own")
    v.add_argument("--num-classes", type=int, metavar="N")
    v.add_argument("--json", action="store_true")
    v = verb(
        "train",
        "launch.py train CONFIG [overrides] [--track NAMES] --workdir DIR\n"
        "       launch.py train CONFIG ... --coordinator HOST:PORT --process-id I --num-processes N",
        help_=False,
    )
    v.add_argument("config", metavar="CONFIG", help="NAME, NAME:VARIANT, a path to such a file, or a run's config.json")
    v.add_argument("--workdir", metavar="DIR")
    _tracked(v)
    v.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="where the processes that train together meet; or auto: as their launcher says",
    )
    v.add_argument("--process-id", type=int, metavar="I", help="of this process, from 0")
    v.add_argument("--num-processes", type=int, metavar="N", help="that train together")
    v.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster that is to start them; local: one for it")
    v.add_argument("--cpus-per-process", type=int, metavar="N", help="with --ray-address: cores of each; default: 1")
    v.add_argument("--chips-per-process", type=int, metavar="N", help="with --ray-address: GPUs or TPU chips of each")
    v = verb("plan", "launch.py plan CONFIG [--topology T] [overrides] [--json]")
    v.add_argument("config", metavar="CONFIG")
    v.add_argument("--topology", metavar="T", help="v5e:2x4, v5p:2x2x1, v6e:4x4, ...; default: the devices at hand")
    v.add_argument("--json", action="store_true")
    v = verb("eval", "launch.py eval --workdir DIR [--checkpoint best|last|STEP] [--dataset NAME]")
    _of_run(v)
    v.add_argument("--dataset", metavar="NAME")
    v = verb("predict", "launch.py predict --workdir DIR [--checkpoint WHICH] [--top N] [--json] FILE ...")
    v.add_argument("files", nargs="+", metavar="FILE", help="images")
    v.add_argument("--top", type=int, default=5, metavar="N", help="classes shown")
    v.add_argument("--json", action="store_true")
    _of_run(v)
    v = verb("export", "launch.py export --workdir DIR [--checkpoint WHICH] --out FILE")
    v.add_argument("--out", metavar="FILE", required=True)
    _of_run(v)
    v = verb("explain", "launch.py explain --workdir DIR --image FILE [--layer L] [--class NAME] [--out FILE]")
    v.add_argument("--image", metavar="FILE", required=True)
    v.add_argument("--layer", metavar="L", help="path of a module with maps; default: the last stage")
    v.add_argument("--class", dest="class_name", metavar="NAME", help="default: the likeliest")
    v.add_argument("--out", metavar="FILE", help="default: DIR/explain/IMAGE.png")
    _of_run(v)
    v = verb("study", "launch.py study NAME [--scale S] [--filter GLOB] [--dry-run [--json]] --workdir DIR")
    v.add_argument("name", metavar="NAME", help="a name of `launch.py list studies`, or a path to a study's file")
    v.add_argument("--scale", metavar="S", help="smoke, small or full; default: the study's first")
    _runs(v)
    v = verb("sweep", "launch.py sweep CONFIG --grid KEY=V1,V2 ... [--seeds N] [overrides] --workdir DIR")
    v.add_argument("config", metavar="CONFIG")
    v.add_argument(
        "--grid", metavar="KEY=VALUES", action="append", required=True, help="V1,V2 or A:B:STEP or log(A,B,N)"
    )
    v.add_argument("--seeds", type=int, default=1, metavar="N")
    _runs(v)
    v = verb("report", "launch.py report DIR [DIR ...] [--open]")
    v.add_argument("folders", nargs="+", metavar="DIR")
    v.add_argument("--open", action="store_true", help="open it in the browser")
    v.add_argument("--live", type=float, metavar="SECONDS", help=argparse.SUPPRESS)  # what a launch adds meanwhile
    v = verb("status", "launch.py status DIR [--watch | --json]")
    v.add_argument("folder", metavar="DIR")
    v.add_argument("--watch", action="store_true", help="a table that follows the runs until all have ended")
    v.add_argument("--json", action="store_true")
    _bench(
        verb(
            "bench",
            "launch.py bench MODEL [MODEL ...] [--batch-size B] [--forward | --train] [field overrides]\n"
            "       launch.py bench --workdir DIR",
        )
    )
    return whole, made


def _tracked(verb: argparse.ArgumentParser) -> None:
    """Who follows what is trained, besides its folder."""
    verb.add_argument(
        "--track",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="NAMES",
        help="wandb, mlflow or both (wandb,mlflow): show the runs there too, as their own variables say where",
    )


def _of_run(verb: argparse.ArgumentParser) -> None:
    """What every verb that uses a trained run takes."""
    verb.add_argument("--workdir", metavar="DIR", required=True)
    verb.add_argument("--checkpoint", default="best", metavar="WHICH", help="best, last or a step")


def _bench(verb: argparse.ArgumentParser) -> None:
    """What is measured, and how."""
    verb.add_argument("models", nargs="*", metavar="MODEL", help="names of `launch.py list models`, or FILE.py:NAME")
    verb.add_argument(
        "--workdir", metavar="DIR", help="of a study: the train step of each of its networks, for its report"
    )
    verb.add_argument("--batch-size", type=int, default=16, metavar="B", help="default: 16")
    verb.add_argument("--resolution", type=int, metavar="R", help="pixels; default: the variant's own")
    verb.add_argument("--num-classes", type=int, metavar="N")
    verb.add_argument("--channels", type=int, metavar="C", help="of the images; default: the variant's own")
    verb.add_argument("--forward", action="store_true", help="only the forward pass; default: both")
    verb.add_argument("--train", action="store_true", help="only the train step; default: both")
    verb.add_argument("--compute", default="float32", metavar="TYPE", help="float32 or bfloat16")
    verb.add_argument("--repeats", type=int, default=10, metavar="N", help="default: 10")
    verb.add_argument("--json", action="store_true")


def _runs(verb: argparse.ArgumentParser) -> None:
    """What every verb that launches many runs takes."""
    verb.add_argument("--workdir", metavar="DIR")
    verb.add_argument("--filter", metavar="GLOB", help="only runs whose label (arm/budget/seed) matches")
    verb.add_argument("--executor", default="local", metavar="E", help="local, ray or slurm; default: local")
    verb.add_argument(
        "--workers", type=int, metavar="N", help="processes, each with its cores and chips; default: this process alone"
    )
    verb.add_argument("--threads", type=int, metavar="N", help="runs at a time in one process; default: as measured")
    verb.add_argument("--cpus-per-run", type=int, metavar="N", help="cores of each worker; default: an equal share")
    verb.add_argument("--chips-per-run", type=int, metavar="N", help="GPUs or TPU chips of each; default: as cores")
    verb.add_argument("--retries", type=int, default=2, metavar="N", help="of a run whose worker died; default: 2")
    verb.add_argument(
        "--stall-timeout", type=float, default=3600, metavar="S", help="seconds without a step: hung; default: 3600"
    )
    verb.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster; default: one for this sweep alone")
    verb.add_argument("--partition", metavar="NAME", help="of Slurm")
    verb.add_argument(
        "--time-limit", type=int, default=24 * 60, metavar="MIN", help="of a job of Slurm's; default: a day"
    )
    verb.add_argument(
        "--population", default="auto", metavar="N", help="runs in one step; default: auto, as many as measured fastest"
    )
    _tracked(verb)
    verb.add_argument("--accept-code", action="append", default=[], metavar="DIGEST", help="reuse an older code's runs")
    verb.add_argument("--dry-run", action="store_true", help="print the runs and their predicted cost")
    verb.add_argument("--json", action="store_true", help="with --dry-run: as JSON")
