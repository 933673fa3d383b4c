"""Give malformed input to the real command line, and see that each is refused in one line and changes nothing.

    python -m tools.malformed [--cases 300] [--seed S]
    python -m tools.malformed --seed S --case K        # one of them again, its folder kept

Cases are drawn: other seeds draw others. Each runs in a folder of its own, most in a fork of this process in which the
libraries are imported and JAX has not begun, one in twelve as `python launch.py` itself. Refused means: exit code 2, or
1 with a reason of ours; one line on standard error without control characters, nothing else printed; no other file than
before; within a minute and two gigabytes. The last line counts them.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tools.malformed import running
from tools.malformed.case import Case, Kind, Place, draw


def kinds() -> dict[str, Kind]:
    """Every kind of case, by name."""
    from research import catalogue

    found: dict[str, Kind] = {}
    for file, module in catalogue.modules("tools.malformed.kinds").items():
        for name, value in vars(module).items():
            returns = getattr(value, "__annotations__", {}).get("return")
            if not name.startswith("_") and returns is Case and value.__module__ == module.__name__:
                found[f"{file}.{name}"] = value
    return found


def main() -> int:
    """Run the cases; 0 where every one was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone; its folder is kept")
    parser.add_argument("--kind", help="only kinds with this in their name")
    parser.add_argument("--verbose", action="store_true", help="a line for each case")
    options = parser.parse_args()
    running.warm()
    found = kinds()
    scratch = Path(tempfile.mkdtemp(prefix="malformed-"))
    kept = running.sweep(scratch / "kept")
    numbers = range(options.cases) if options.case is None else [options.case]
    mounts, left_out = running.can_mount(scratch), 0
    began, refused, tried = time.monotonic(), 0, 0
    slowest = (0.0, 0)
    for number in numbers:
        place = Place(scratch / str(number), kept)
        place.folder.mkdir()
        case = draw(found, options.seed, number, place)
        if (options.kind and options.kind not in case.kind) or (case.read_only and not mounts):
            running.remove(place.folder)
            left_out += case.read_only is not None
            continue
        tried += 1
        ended = running.run(case, place, own_process=number % 12 == 5)
        fault = running.fault(ended)
        refused += not fault
        slowest = max(slowest, (ended.seconds, number))
        shown = running.shown(case, ended)
        if fault:
            print(f"--seed {options.seed} --case {number}: {fault}: {shown}", flush=True)
        elif options.verbose or options.case is not None:
            print(f"{number}: {shown}", flush=True)
        if options.case is None:
            running.remove(place.folder)
    if options.case is None:
        running.remove(scratch)
    else:
        print(f"its folder: {scratch / str(options.case)}")
    seconds = time.monotonic() - began
    print(
        f"{len(found)} kinds, seed {options.seed}, {seconds:.0f} s, the longest {slowest[0]:.1f} s (case {slowest[1]})"
    )
    if left_out and not mounts:
        print(f"{left_out} left out, of file systems on which nothing can be written: to mount one takes root")
    print(f"refused {refused} of {tried}")
    return 0 if refused == tried else 1


if __name__ == "__main__":
    sys.exit(main())
