"""How JAX is set up: flags before the backend starts, never over the user's, and said."""

import os
import subprocess
import sys

import pytest

from research import backend

FLAG = "--xla_cpu_experimental_ynn_fusion_type="
SHOW = "import os; print('XLA_FLAGS:', os.environ.get('XLA_FLAGS', ''))"
LOG = "import logging; logging.basicConfig(level=logging.INFO); "


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, in an environment without what this process was given."""
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC", "CONVSCALE_LOWERING")}
    done = subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_flags_are_set_on_import_and_said_in_one_line() -> None:
    done = run(LOG + "import research; import research.models; " + SHOW)
    assert done.stdout.strip() == f"XLA_FLAGS: {FLAG}"
    said = [line for line in done.stderr.splitlines() if "research" in line]
    assert said == [f"INFO:research:set for XLA's CPU backend: XLA_FLAGS={FLAG}"]


def test_flags_take_effect_after_jax_was_imported() -> None:
    convolution = (
        "import jax, jax.numpy as jnp; import research; x = jnp.ones((8, 64, 56, 56)); w = jnp.ones((64, 64, 3, 3)); "
        "f = lambda x, w: jax.lax.conv(x, w, (1, 1), 'SAME'); "
        "print('ynn' in jax.jit(f).lower(x, w).compile().as_text())"
    )
    assert run(convolution).stdout.strip() == "False"


@pytest.mark.parametrize("theirs", [f"{FLAG}xyz --xla_cpu_enable_fast_math=false", "--xla_cpu_enable_fast_math=false"])
def test_what_the_user_set_stays(theirs: str) -> None:
    done = run("import research; " + SHOW, XLA_FLAGS=theirs)
    expected = theirs if FLAG in theirs else f"{theirs} {FLAG}"
    assert done.stdout.strip() == f"XLA_FLAGS: {expected}"


def test_too_late_is_a_warning() -> None:
    done = run("import jax; jax.devices(); import research; " + SHOW)
    assert done.stdout.strip() == "XLA_FLAGS:"
    assert len(done.stderr.strip().splitlines()) == 1
    assert "JAX started before `research` was imported" in done.stderr


def test_native_lowering_leaves_the_flags_alone() -> None:
    assert run("import research; " + SHOW, CONVSCALE_LOWERING="native").stdout.strip() == "XLA_FLAGS:"


def test_importing_research_does_not_import_jax() -> None:
    assert run("import sys, research; print('jax' in sys.modules)").stdout.strip() == "False"


def test_a_wrong_lowering_is_refused_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "launch.py", "train", "digits", "--workdir", "unused"],
        env={**os.environ, "CONVSCALE_LOWERING": "portible"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert "portible" in done.stderr
    assert "portable" in done.stderr


def test_programs_are_not_kept_within_the_context() -> None:
    assert backend.keeps_programs()  # tests/conftest.py sets a cache
    with backend.unkept():
        assert not backend.keeps_programs()
    assert backend.keeps_programs()


THREADS = "import os; print('NPROC:', os.environ.get('NPROC', ''))"


@pytest.mark.parametrize("code", ["import research; ", "import jax; import research; "])
@pytest.mark.parametrize(
    "asked", [{"JAX_NUM_CPU_DEVICES": "4"}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}]
)
def test_virtual_devices_have_threads_to_wait_in(code: str, asked: dict[str, str]) -> None:
    (said, threads) = run(code + THREADS, **asked).stdout.split()
    assert said == "NPROC:"
    assert int(threads) >= 2 * 4 + 1
    assert run(code + THREADS, **asked, NPROC="3").stdout.strip() == "NPROC: 3"  # the user's


def test_virtual_devices_configured_after_the_import_have_threads_too() -> None:
    later = "import research, jax; jax.config.update('jax_num_cpu_devices', 6); "
    assert run(later + THREADS).stdout.strip() == run("import research; " + THREADS).stdout.strip()
    prepared = run(later + "from research import backend; backend.set_up(); " + THREADS).stdout.split()[1]
    assert int(prepared) >= 2 * 6 + 1
