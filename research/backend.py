"""How JAX is set up: the CPU backend's flags and threads before it starts, and a persistent cache of compiled programs.

`prepare` runs when `research` is imported, `set_up` when a program is about to compile.
"""

import contextlib
import contextvars
import functools
import logging
import math
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, cast

from research.errors import unknown

Lowering = Literal["measured", "portable", "native"]
LOWERINGS: tuple[Lowering, ...] = ("measured", "portable", "native")

# Flags of XLA's CPU backend, chosen by measurement (`python benchmarks/flags.py`), and the versions of jaxlib that they
# were tried with: an unknown flag ends the process. Convolutions then go to Eigen instead of YNNPACK, which is half as
# fast.
FLAGS = {"--xla_cpu_experimental_ynn_fusion_type": ""}
TRIED = ("0.10.2",)

_PLAIN = contextvars.ContextVar("plain", default=False)
_LOG = logging.getLogger("research")


def lowering() -> Lowering:
    """How convolutions, pools and sums over positions are computed on a CPU: the value of `CONVSCALE_LOWERING`.

    `measured` (the default): as measured to be fastest; `portable`: the same without oneDNN; `native`: as stock JAX,
    with XLA's flags untouched. Raises `UserError`.
    """
    asked = os.environ.get("CONVSCALE_LOWERING") or "measured"
    if asked not in LOWERINGS:
        raise unknown("CONVSCALE_LOWERING", asked, LOWERINGS)
    return cast(Lowering, asked)


@functools.cache
def has_onednn() -> bool:
    """Whether this jaxlib has oneDNN where `research.nn.onednn` looks for it."""
    return _version("jaxlib") in TRIED and sys.platform == "linux" and platform.machine() == "x86_64"


def prepare() -> None:
    """Set the flags and threads of XLA's CPU backend in the environment, where the user has not set them.

    Logs what it set, or warns that JAX's backends had started before. To be called again where JAX was told of virtual
    devices since.
    """
    if os.environ.get("CONVSCALE_LOWERING") == "native" or _version("jaxlib") not in TRIED:
        return
    given = os.environ.get("XLA_FLAGS", "")
    names = {word.partition("=")[0] for word in given.split()}
    flags = [f"{name}={value}" for name, value in FLAGS.items() if name not in names]
    changes = {"XLA_FLAGS": " ".join([*given.split(), *flags])} if flags else {}
    threads, now = _threads(), os.environ.get("NPROC")
    if threads not in (None, now) and now == _set.get("NPROC"):
        changes["NPROC"] = str(threads)
    if not changes:
        return
    shown = ", ".join(f"{name}={value}" for name, value in changes.items())
    if _started():
        _LOG.warning("JAX started before `research` was imported, so convolutions run slower: too late for %s", shown)
        return
    os.environ.update(changes)
    _set.update(changes)
    _LOG.info("set for XLA's CPU backend: %s", shown)


_set: dict[str, str] = {}  # what `prepare` set, which it may set again


def environment() -> dict[str, str]:
    """The environment as the user gave it, for a process that has other cores and prepares for itself."""
    given = {key: value for key, value in os.environ.items() if _set.get(key) != value}
    if "XLA_FLAGS" in _set and "XLA_FLAGS" not in given:
        words = [word for word in _set["XLA_FLAGS"].split() if word.partition("=")[0] not in FLAGS]
        given |= {"XLA_FLAGS": " ".join(words)} if words else {}
    return given


def _threads() -> str | None:
    """How many threads XLA's pool should have (it goes by `NPROC`); None: one for each core it sees, as it has anyway.

    A container can see more cores than it may use. Of virtual devices each blocks a thread where it waits for the
    others in a collective, and the programs stop for good where none is left for what the last one computes.
    """
    cores, allowed = len(os.sched_getaffinity(0)), _quota()
    if (devices := _virtual_devices()) > 1:
        return str(min(cores, allowed) + 2 * devices)
    return str(allowed) if allowed < cores else None


def _virtual_devices() -> int:
    """How many devices the CPU is to be divided into: what JAX's configuration says, or a flag of XLA's."""
    flag = re.search(r"--xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    if "jax" in sys.modules:
        configured = sys.modules["jax"].config.values["jax_num_cpu_devices"]
    else:
        configured = int(os.environ.get("JAX_NUM_CPU_DEVICES") or -1)
    return max(configured, int(flag[1]) if flag else 1)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _started() -> bool:
    """Whether a backend of JAX has read its flags."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(bridge.backends_are_initialized())


def _quota() -> int:
    """Whole cores that this process's control group may use: a container can see more than it is given."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return sys.maxsize
    return sys.maxsize if limit == "max" else max(1, math.ceil(int(limit) / int(period)))


@contextlib.contextmanager
def as_meant() -> Iterator[None]:
    """Within this context operations are traced as what they mean, on every platform and for every size of batch.

    For a program that must be the same wherever and for whatever it is compiled.
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def is_plain() -> bool:
    """Whether this is within `as_meant`."""
    return _PLAIN.get()


@contextlib.contextmanager
def unkept() -> Iterator[None]:
    """Within this context no program that is compiled goes to JAX's persistent cache, so it may call oneDNN.

    XLA cannot write down a program with such calls: jaxlib's attempt to fails inside the library.
    """
    import jax

    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[name]
    jax.config.update(name, math.inf)
    try:
        yield
    finally:
        jax.config.update(name, before)


def keeps_programs() -> bool:
    """Whether JAX would write the program that it compiles now to its persistent cache."""
    import jax

    values = jax.config.values
    enabled = bool(values["jax_compilation_cache_dir"]) and bool(values["jax_enable_compilation_cache"])
    return enabled and values["jax_persistent_cache_min_compile_time_secs"] < math.inf


def cache_folder() -> Path:
    """Where what took long to make is kept for later processes of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convscale"


def keep_to_cpu() -> None:
    """Let this process use no accelerator, where it has not begun to: JAX would take all of its memory."""
    import jax

    if not _started():
        jax.config.update("jax_platforms", "cpu")


def set_up() -> None:
    """Keep every compiled program under `JAX_COMPILATION_CACHE_DIR` or the user's cache folder; quiet the libraries."""
    import jax

    lowering()  # a wrong word is refused here, before anything compiles
    if not _started():
        prepare()
    # Orbax speaks through absl of choices that are ours ("read_only=True"), and logs what it raises as well; so do
    # the event loops it writes with.
    for library in ("absl", "asyncio", "concurrent.futures"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
