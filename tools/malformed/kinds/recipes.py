"""Configs and users' own files: Python that is none, JSON that is none, values of the wrong type."""

import json
import random
from typing import Any

from research import config as configs
from research.config import Config
from research.values import flatten
from tools.malformed.case import Case, Place
from tools.malformed.mutation import HOSTILE, garbage, no_json_object, other_type, places, put, typo

SOUND = "from research.config import Config\n\n\ndef get_config():\n    return Config()\n"


def _train(file: str) -> tuple[str, ...]:
    return ("train", file, "--workdir", "W")


def broken_python(chance: random.Random, place: Place) -> Case:
    """A file that is not Python."""
    code = chance.choice(
        [
            SOUND.replace(":", "", 1).encode(),
            SOUND.replace("    return", "  \treturn\n   ", 1).encode(),
            SOUND.encode("utf-16"),
            b"# coding: klingon\n" + SOUND.encode(),
            SOUND.encode().replace(b"Config()", b"Config('\xff\xfe')"),
            SOUND.encode() + b"\x00",
            b"x = " + b"(" * chance.choice([300, 5000]),
            b"x = " + b"-" * 100_000 + b"1",
            b"x = " + b"9" * 5000 + b"\n" + SOUND.encode(),
            b"def f(:\n" + garbage(chance),
            b"\xef\xbb\xbf\xef\xbb\xbf" + SOUND.encode(),
            ("if True:\n" + "".join(" " * n + "if True:\n" for n in range(1, 120))).encode(),
        ]
    )
    return Case(_train(place.write("own.py", code)), "no Python")


def failing_python(chance: random.Random, place: Place) -> Case:
    """A file that raises as it is imported, or whose get_config does."""
    raised = chance.choice(
        [
            "raise RuntimeError('one\\ntwo\\n\\x1b[31mthree')",
            "raise SystemExit(0)",
            "raise SystemExit('bye')",
            "import no_such_module_at_all",
            "from research.config import Confg",
            "1 / 0",
            "f = lambda: f()\n{indent}f()",
            "class Stop(BaseException): pass\n{indent}raise Stop('now')",
            "raise ExceptionGroup('many', [ValueError(1), TypeError(2)])",
            "raise type('Odd', (Exception,), {{'__str__': lambda self: 1 / 0}})",
            "raise GeneratorExit",
            "raise MemoryError",
            "assert False",
            "raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'odd')",
            "raise BrokenPipeError(32, 'no pipe of ours')",
            "raise FileNotFoundError(2, 'none', 'here')",
            "import warnings; warnings.simplefilter('error'); warnings.warn('odd')",
        ]
    )
    if chance.random() < 0.5:
        code = raised.format(indent="") + "\n" + SOUND
    else:
        code = "def get_config():\n    " + raised.format(indent="    ") + "\n"
    return Case(_train(place.write("own.py", code)), "it raises")


def wrong_get_config(chance: random.Random, place: Place) -> Case:
    """A file without a get_config that gives a Config."""
    body = chance.choice(
        [
            "x = 1",
            "get_config = 3",
            "def get_config(a, b): return a",
            "def get_config(): pass",
            "def get_config(): return {'model': 1}",
            "def get_config():\n    from research.config import Config\n    return Config",
            "def get_config():\n    from research.config import Config\n    return Config(modle=1)",
            "def get_config():\n    from research.config import Config\n    return Config(seed=-1)",
            "def get_config():\n    from research.config import Config, replace\n"
            "    return replace(Config(), **{'optimizer.learning_rat': 1})",
            "def get_config():\n    from research.config import Config\n    return Config(model=None)",
            "def get_config():\n    from research.config import Config, DataConfig\n"
            "    return Config(data=DataConfig(mean=float('nan')))",
            "async def get_config(): pass",
            "def get_config():\n    yield 1",
            "def get_config(): return get_config()",
        ]
    )
    return Case(_train(place.write("own.py", body + "\n")), "no get_config()")


def wrong_variant(chance: random.Random, place: Place) -> Case:
    """A variant that the file does not have."""
    code = SOUND.replace("()", "(variant='a')", 1) + "\n\nVARIANTS = ('a', 'b')\n"
    name = place.write("own.py", code)
    return Case(_train(f"{name}:{chance.choice([*HOSTILE, 'c', '', 'A', 'a:b'])}"), "no such variant")


def broken_json(chance: random.Random, place: Place) -> Case:
    """A config.json that is no JSON text of an object."""
    name = place.write("config.json", no_json_object(chance, configs.to_dict(Config())))
    return Case(_train(name), "no JSON")


def wrong_json_value(chance: random.Random, place: Place) -> Case:
    """A config.json with a value that its key cannot have."""
    values = configs.to_dict(Config())
    path = chance.choice([p for p in places(values) if p != ("notes",) and p != ("model", "options")])
    here: Any = values
    for key in path:
        here = here[key]
    if here is None:
        new: Any = chance.choice([{}, {"x": 1}, [[[]]], [{}]])
    else:
        new = other_type(chance, here)
    wrong = put(values, path, new)
    text = json.dumps(wrong)
    return Case(_train(place.write("config.json", text)), f"{path} cannot be {new!r}")


wrong_json_value_again = wrong_json_value  # of a hundred keys


def odd_json(chance: random.Random, place: Place) -> Case:
    """A config.json that Python's reader takes and that no config is: numbers that are none, keys twice or unknown."""
    values = configs.to_dict(Config())
    text = json.dumps(values)
    flat = [key for key in flatten(values) if key.count(".") == 1]
    section, key = chance.choice(flat).split(".")
    number = chance.choice(["NaN", "Infinity", "-Infinity", "1e999", "-1", "1e300", "9" * 4000])
    wrong = chance.choice(
        [
            text.replace('"learning_rate": 0.1', f'"learning_rate": {number}'),
            text.replace('"seed": 0', f'"seed": {number if number != "1e300" else "0.5"}'),
            text.replace('"seed": 0', '"seed": 0, "seed": 1'),
            text.replace('"learning_rate": 0.1', '"learning_rate": 0.1, "learning_rate": 0.2'),
            text.replace(f'"{key}"', f'"{typo(chance, key, [k.split(".")[1] for k in flat])}q"'),
            text.replace(f'"{section}"', f'"{section}q"', 1),
            json.dumps(put(values, ("model", "options"), {chance.choice(["shortcut", "no_such", ""]): {"a": [1]}})),
            json.dumps(put(values, ("model", "options"), {"no_such_field": 1})),
            json.dumps(put(values, ("model", "name"), chance.choice([*HOSTILE, "a\x00b"]))),
            json.dumps(put(values, ("data", "name"), chance.choice([*HOSTILE, "a\x00b"]))),
            json.dumps(put(values, ("data", "path"), chance.choice(["a\x00b", "\ud800"]))),
            json.dumps(put(values, ("transfer", "weights"), chance.choice([*HOSTILE, "a\x00b"]))),
            json.dumps(put(values, ("task", "loss"), chance.choice([*HOSTILE, "a\x00.py:f"]))),
            json.dumps(put(values, ("schedule", "boundaries"), [0.5] * 10**5 + ["x"])),
        ]
    )
    return Case(_train(place.write("config.json", wrong)), "no config")


MODEL = "import flax.linen as nn\n\n\nclass Net(nn.Module):\n    num_classes: int = 10\n\n    @nn.compact\n"
CALL = "    def __call__(self, images, *, train):\n        "


def wrong_model_file(chance: random.Random, place: Place) -> Case:
    """A network of the user's own that is none."""
    code, name = chance.choice(
        [
            (MODEL + CALL + "return images\n", "Net"),
            (MODEL + CALL + "return None\n", "Net"),
            (MODEL + CALL + "raise KeyError('x')\n", "Net"),
            (MODEL + CALL + "return nn.Dense(self.num_classes)(images)\n", "Net"),
            (MODEL + CALL + "return self(images, train=train)\n", "Net"),
            (MODEL.replace("num_classes", "classes") + CALL + "return images\n", "Net"),
            (MODEL + "    def call(self): return 1\n", "Net"),
            ("Net = 3\n", "Net"),
            ("def Net(): return 3\n", "Net"),
            ("def Net(num_classes): return 3\n", "Net"),
            ("VARIANTS = 3\n\ndef Net(num_classes): return 3\n", "Net"),
            ("VARIANTS = {'Net': 3}\n", "Net"),
            (MODEL + CALL + "return images\n", chance.choice(["Nett", "", "net", "__doc__", "Net:Net", "nn"])),
            ("raise ValueError('no')\n", "Net"),
            ("class Net(\n", "Net"),
        ]
    )
    own = f"{place.write('own.py', code)}:{name}"
    return Case(("train", "digits", "--model.name", own, "--workdir", "W"), "no network")


def wrong_loss_file(chance: random.Random, place: Place) -> Case:
    """A loss of the user's own that is none."""
    code = chance.choice(
        [
            "def loss(outputs): return outputs\n",
            "def loss(outputs, labels): return 1\n",
            "def loss(outputs, labels): return outputs\n",
            "def loss(outputs, labels): return outputs.nothing\n",
            "def loss(outputs, labels): raise SystemExit(3)\n",
            "def loss(outputs, labels): return loss(outputs, labels)\n",
            "def loss(outputs, labels):\n    if outputs.sum() > 0: return labels\n",
            "loss = 'text'\n",
            "def los(outputs, labels): return labels\n",
            "def loss(outputs, labels):\n",
            "import nothing_like_this\n",
        ]
    )
    own = f"{place.write('own.py', code)}:loss"
    return Case(("train", "digits:resnet8", "--task.loss", own, "--workdir", "W"), "no loss")


STUDY = '''"""Why?"""
SCALES = ("smoke",)


def runs(scale):
    return []


def report(results):
    return None
'''
PLAN = """def runs(scale):
    from research.config import Config
    from research.sweeps.plan import Planned
    return """


def wrong_study_file(chance: random.Random, place: Place) -> Case:
    """A study of the user's own that is none."""
    planned = STUDY.replace("def runs(scale):\n    return ", PLAN)
    code = chance.choice(
        [
            STUDY,
            STUDY.replace('"""Why?"""\n', ""),
            STUDY.replace('("smoke",)', "()"),
            STUDY.replace('("smoke",)', "3"),
            STUDY.replace('("smoke",)', "None"),
            STUDY.replace("runs", "run"),
            STUDY.replace("return []", "return None"),
            STUDY.replace("return []", "return [1, 2]"),
            STUDY.replace("return []", "raise KeyError('x')"),
            STUDY.replace("(scale)", "()"),
            STUDY.replace("return []", "return (1 / 0 for _ in range(3))"),
            planned.replace("[]", "[Planned('a', 'b', 1, Config())]"),
            planned.replace("[]", "[Planned('a', 'b', 0, Config())] * 2"),
            planned.replace("[]", "[Planned('a', 'b', 0, None)]"),
            planned.replace("[]", "[Planned(3, 4, 0, {})]"),
            STUDY[: chance.randint(20, 60)] + "(",
        ]
    )
    more = chance.choice([[], ["--dry-run"], ["--scale", "full"]])
    return Case(("study", place.write("own.py", code), *more, "--workdir", "W"), "no study")
