"""A small WebDriver client: chromedriver speaks JSON over HTTP on this machine, so no library is needed."""

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
]


class Browser:
    """One window of a headless Chromium."""

    def __init__(self, address: str, profile: Path) -> None:
        self._address = address
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._address += f"/{session['sessionId']}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._address}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def open(self, page: Path) -> None:
        """Show a file, and wait until every chart of it has been drawn or has failed."""
        self._call("POST", "/url", {"url": page.as_uri()})
        self.wait(
            "return [...document.querySelectorAll('.drawing')].every((box) => box.dataset.drawn)", lambda all: all
        )

    def run(self, script: str, *arguments: object) -> Any:
        """What the JavaScript function body returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": arguments})

    def wait(self, script: str, holds: Callable[[Any], bool], *arguments: object) -> Any:
        """What the script returns once it `holds`, or after 20 seconds of trying."""
        end = time.monotonic() + 20
        while not holds(found := self.run(script, *arguments)) and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def point(self, element: str, *, click: bool = False) -> None:
        """Bring the first element of a selector into view and move the pointer to its middle."""
        script = """
            document.documentElement.style.scrollBehavior = "auto";
            const element = document.querySelector(arguments[0]);
            element.scrollIntoView({block: "center"});
            const box = element.getBoundingClientRect();
            return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];"""
        x, y = self.run(script, element)
        steps: list[dict[str, Any]] = [{"type": "pointerMove", "duration": 50, "x": x, "y": y}]
        if click:
            steps += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self._call("POST", "/actions", {"actions": [pointer]})

    def console(self) -> list[str]:
        """What was written on the console since the last call, warnings and errors of the browser included."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def close(self) -> None:
        """Close the window and its browser."""
        self._call("DELETE", "")


@contextmanager
def browse(profile: Path) -> Iterator[Browser]:
    """A browser with a new, empty profile; it and its driver are gone afterwards."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert driver.stdout is not None
        port = next(
            found[1] for line in driver.stdout if (found := re.search(r"started successfully on port (\d+)", line))
        )
        browser = Browser(f"http://127.0.0.1:{port}/session", profile)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(timeout=20)
        if driver.stdout is not None:
            driver.stdout.close()
