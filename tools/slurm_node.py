"""A Slurm of one node on this machine, on loopback alone, for as long as a command runs: what its tests talk to.

    python tools/slurm_node.py -- .venv/bin/pytest -m slurm

Needs root and Debian's slurm-wlm and munge (`make install-system`); no systemd. The command finds it by SLURM_CONF.
What the daemons write goes to a folder of their own, which is removed at the end; their last words are shown if one
fails.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CONF = """
ClusterName=convscale
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=30
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextlib.contextmanager
def daemon(*words: str, log: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs meanwhile."""
    with log.open("ab") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ, **more})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def node() -> Iterator[Path]:
    """A Slurm that runs meanwhile; its configuration file."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munge's own user looks for its socket in there
    munge, host = folder / "munge", socket.gethostname().partition(".")[0]
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir()
    (munge / "key").write_bytes(secrets.token_bytes(64))
    (munge / "key").chmod(0o400)
    for path in (munge, munge / "key"):
        shutil.chown(path, "munge", "munge")
    conf = folder / "slurm.conf"
    text = CONF.format(host=host, folder=folder, controller=_free_port(), node=_free_port(), cores=os.cpu_count())
    conf.write_text(text)
    places = {
        "socket": munge / "socket",
        "pid-file": munge / "pid",
        "log-file": munge / "log",
        "seed-file": munge / "seed",
    }
    authentication = [
        *("runuser", "-u", "munge", "--", "munged", "--foreground", f"--key-file={munge / 'key'}"),
        *(f"--{name}={path}" for name, path in places.items()),
    ]
    try:
        with contextlib.ExitStack() as running:
            running.enter_context(daemon(*authentication, log=folder / "munged.log"))
            _until(lambda: (munge / "socket").exists(), folder)
            for program in ("slurmctld", "slurmd"):
                words = (shutil.which(program) or f"/usr/sbin/{program}", "-D", "-f", str(conf))
                running.enter_context(daemon(*words, log=folder / f"{program}.out", SLURM_CONF=str(conf)))
            _until(lambda: "idle" in _states(conf), folder)
            yield conf
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _states(conf: Path) -> str:
    words = ["sinfo", "--noheader", "--format=%T"]
    return subprocess.run(words, env={**os.environ, "SLURM_CONF": str(conf)}, capture_output=True, text=True).stdout


def _until(condition: "object", folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            for log in [*folder.glob("*.log"), *folder.glob("*.out"), *folder.glob("munge/log")]:
                print(f"== {log.name}", *log.read_text(errors="replace").splitlines()[-10:], sep="\n", file=sys.stderr)
            raise SystemExit("Slurm did not start within a minute")
        time.sleep(0.2)


def main() -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", nargs="+", help="after --")
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name, path=_PATH)]
    if missing or os.getuid() != 0:
        print(f"needs root, and {', '.join(missing) or 'nothing more'}; `make install-system`", file=sys.stderr)
        return 2
    with node() as conf:
        return subprocess.run(words.command, env={**os.environ, "SLURM_CONF": str(conf)}, check=False).returncode


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

if __name__ == "__main__":
    sys.exit(main())
