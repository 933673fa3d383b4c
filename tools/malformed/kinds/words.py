"""Words of the command line: verbs, flags, names, numbers, grids."""

import random

import arguments
import configs
import experiments
import launch
from research import models
from research.sweeps import executors
from tools.malformed.case import Case, Place
from tools.malformed.mutation import HOSTILE, no_number, no_whole_number, typo

# A command of each verb in which nothing is wrong.
SOUND = {
    "list": ["list", "models"],
    "inspect": ["inspect", "resnet8"],
    "train": ["train", "digits", "--workdir", "W"],
    "plan": ["plan", "digits"],
    "eval": ["eval", "--workdir", "run"],
    "predict": ["predict", "--workdir", "run", "a.png"],
    "export": ["export", "--workdir", "run", "--out", "o"],
    "explain": ["explain", "--workdir", "run", "--image", "a.png"],
    "study": ["study", "residual_vs_plain", "--workdir", "W"],
    "sweep": ["sweep", "digits", "--grid", "seed=0,1", "--workdir", "W"],
    "report": ["report", "W"],
    "status": ["status", "W"],
    "bench": ["bench", "resnet8"],
}


def _case(*words: str, why: str) -> Case:
    """A case that needs no file."""
    return Case(words, why)


def _options(verb: str, kind: type | None = None) -> list[str]:
    _, verbs = arguments.parser(None, launch.VERBS)
    actions = [a for a in verbs[verb]._actions if kind is None or a.type is kind]
    return [option for action in actions for option in action.option_strings if option not in ("--help", "-h")]


def _verb(chance: random.Random) -> str:
    return chance.choice(sorted(SOUND))


def unknown_verb(chance: random.Random, place: Place) -> Case:
    """A verb that nobody knows."""
    word = chance.choice([typo(chance, _verb(chance), SOUND), *HOSTILE])
    return _case(word, *SOUND[_verb(chance)][1:], why="no verb")


def unknown_flag(chance: random.Random, place: Place) -> Case:
    """A flag that the verb does not have."""
    verb = _verb(chance)
    known = [*_options(verb), "--help", "--debug"]
    flag = typo(chance, chance.choice(known), [*known, "--h"])
    tail = chance.choice([[flag], [flag, "3"], [f"{flag}=3"]])
    return _case(*SOUND[verb], *tail, why="no such flag")


def missing_word(chance: random.Random, place: Place) -> Case:
    """A command without a word that it needs."""
    verb = chance.choice([verb for verb in SOUND if verb != "list"])
    words = SOUND[verb][:1] if chance.random() < 0.5 else SOUND[verb][:-1]
    words = words if verb not in ("plan", "inspect", "bench", "report", "status") else [verb]
    return _case(*words, why="a word is missing")


def wrong_number(chance: random.Random, place: Place) -> Case:
    """An option of a whole number with something else."""
    verb = chance.choice([verb for verb in sorted(SOUND) if _options(verb, int)])
    flag = chance.choice(_options(verb, int))
    return _case(*SOUND[verb], f"{flag}={no_whole_number(chance)}", why="no whole number")


def number_out_of_range(chance: random.Random, place: Place) -> Case:
    """An option of a whole number with one that it cannot be."""
    low, huge = str(chance.choice([0, -1, -(10**18)])), str(10 ** chance.randint(10, 40))
    verb, flag, value = chance.choice(
        [
            ("inspect", "--resolution", chance.choice([low, huge])),
            ("inspect", "--num-classes", chance.choice(["-1", f"-{huge}"])),
            ("sweep", "--seeds", chance.choice([low, huge])),
            ("sweep", "--workers", chance.choice([low, huge])),
            ("sweep", "--threads", chance.choice([low, huge])),
            ("sweep", "--retries", f"-{chance.randint(1, 9)}"),
            ("sweep", "--stall-timeout", chance.choice(["-1", "nan", "0"])),
            ("sweep", "--population", chance.choice(["0", "-1", "many", "1.5", ""])),
            ("bench", "--repeats", chance.choice(["0", "-1"])),
            ("bench", "--batch-size", chance.choice(["0", "-1", huge])),
            ("bench", "--channels", chance.choice(["0", "-1", huge])),
            ("bench", "--num-classes", "-1"),
            ("bench", "--resolution", chance.choice([low, huge])),
            ("bench", "--compute", chance.choice(["float31", "int8", "float64", ""])),
        ]
    )
    return _case(*SOUND[verb], f"{flag}={value}", why="a number that cannot be meant")


def unknown_name(chance: random.Random, place: Place) -> Case:
    """A name of a model, study, recipe or scale that there is not."""
    own = [*HOSTILE, "resnet", "resnet0", "resnet99999", ":", "digits:", ":lenet5", "missing.py", "missing.py:Net", ""]
    recipes = [*configs.names(), *(name.partition(":")[0] for name in configs.names())]
    studies = experiments.names()
    model = chance.choice([typo(chance, chance.choice(models.names()), models.names()) + "q", *own])
    recipe = chance.choice([typo(chance, chance.choice(recipes), recipes) + "q", *own])
    study = chance.choice([typo(chance, chance.choice(studies), studies), *own])
    executor = typo(chance, "local", [*executors.names(), "local"]) if hasattr(executors, "names") else "locally"
    words = chance.choice(
        [
            ["inspect", model],
            ["bench", model],
            ["train", "digits", "--model.name", model, "--workdir", "W"],
            ["train", recipe, "--workdir", "W"],
            ["plan", recipe],
            ["sweep", recipe, "--grid", "seed=0,1", "--workdir", "W"],
            ["inspect", recipe, "--schedule"],
            ["study", study, "--workdir", "W"],
            ["study", "residual_vs_plain", "--scale", typo(chance, "smoke", ["smoke"]), "--workdir", "W"],
            ["study", "residual_vs_plain", "--executor", executor, "--workdir", "W"],
            ["list", typo(chance, "models", SOUND | {"models": []})],
            [
                "plan",
                "digits",
                "--topology",
                chance.choice(["v5e:0x0", "v5e:-1x2", "v9:2x2", "v5e", ":", "v5e:9999999x2"]),
            ],
            ["study", "residual_vs_plain", "--filter", chance.choice(["[", "nothing", "", *HOSTILE]), "--workdir", "W"],
            ["study", "residual_vs_plain", "--accept-code", chance.choice(["", "0", "zz" * 32]), "--workdir", "W"],
        ]
    )
    return _case(*words, why="no such name")


KEYS = ("optimizer.learning_rate", "data.batch_size", "seed", "budget.train", "model.name", "augmentation.flip")


def wrong_grid(chance: random.Random, place: Place) -> Case:
    """An axis that is none, or that no run could be at."""
    key = chance.choice(KEYS)
    wrong = chance.choice(
        [
            key,
            f"{key}=",
            f"={chance.randint(1, 9)}",
            f"{typo(chance, key, KEYS)}q=1,2",
            f"optimizer.learning_rate={no_number(chance) or 'x'},0.1",
            f"data.batch_size={no_whole_number(chance) or 'x'},8",
            "optimizer.learning_rate=0.1,0.1",
            "optimizer.learning_rate=1:0:0.1",
            f"optimizer.learning_rate=0:1:{chance.choice(['0', '-1', '1e-30'])}",
            "optimizer.learning_rate=log(0,1,3)",
            f"optimizer.learning_rate=log(1e-3,1,{chance.choice(['0', '-1', '1e9', '999999', 'x', ''])})",
            f"seed=range(0,9,{chance.choice(['1', '0', '2.5', '10001'])})",
            "seed=range(0,9)",
            "optimizer.learning_rate=log(nan,inf,3)",
            "optimizer.learning_rate=log(1,1e999999999,3)",
            "seed=0:1e999999:1",
            "model.name=lenet5,lenet6",
            "augmentation.flip=maybe,true",
            "budget.train=1 fortnight,2 steps",
            "data.mean=[1,[2",
            f"model.{typo(chance, 'width', ['width'])}q=1,2",
            "seed=" + "[" * 100_000,
        ]
    )
    more = chance.choice([[], ["--grid", "schedule.final=0,0.1"]])
    return _case("sweep", "digits:resnet8", "--grid", wrong, *more, "--workdir", "W", why="no axis")


def grid_without_end(chance: random.Random, place: Place) -> Case:
    """More runs than anybody could want."""
    axes = [
        f"optimizer.learning_rate=range(0.001,1,{chance.randint(2000, 9999)})",
        f"seed=0:{chance.randint(2000, 9999)}:1",
    ]
    axes += chance.choice([[], ["schedule.final=range(0,1,1000)"]])
    words = [word for axis in axes for word in ("--grid", axis)]
    return _case("sweep", "digits", *words, "--workdir", "W", why="millions of runs")


def contradiction(chance: random.Random, place: Place) -> Case:
    """Words that are right one by one."""
    words = chance.choice(
        [
            ["sweep", "digits", "--grid", "seed=0,1", "--grid", "seed=2,3", "--workdir", "W"],
            ["sweep", "digits", "--grid", "seed=0,1", "--seeds", "3", "--workdir", "W"],
            ["train", "digits", "--data.path", "somewhere", "--workdir", "W"],
            ["train", "digits", "--data.mean", *map(str, range(chance.randint(2, 5))), "--workdir", "W"],
            ["train", "digits", "--data.train-examples", str(chance.randint(1439, 10**6)), "--workdir", "W"],
            ["train", "digits", "--data.batch-size", str(chance.randint(1439, 10**5)), "--workdir", "W"],
            ["train", "digits", "--model.num-classes", str(chance.randint(11, 10**6)), "--workdir", "W"],
            ["train", "digits", "--schedule.warmup", f"{chance.randint(21, 10**6)} epochs", "--workdir", "W"],
            ["train", "digits", "--parallelism.devices", str(chance.randint(65, 10**6)), "--workdir", "W"],
            ["train", "digits", "--transfer.freeze", "all_but_head", "--workdir", "W"],
            ["train", "digits", "--transfer.weights", "nowhere.pth", "--workdir", "W"],
            ["train", "digits", "--data.fit", "pad", "--data.resolution", "7", "--workdir", "W"],
            ["inspect", "resnet8", "--out", "x.svg"],
            ["inspect", "digits", "--schedule", "--resolution", "3"],
            ["bench"],
            ["bench", "resnet8", "--workdir", "W"],
        ]
    )
    return _case(*words, why="words that contradict each other")
