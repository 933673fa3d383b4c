"""A small WebDriver client: chromedriver speaks JSON over HTTP on this machine, so no library is needed."""

import base64
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
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
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
        """Show a file, and wait until the charts on its first screen have been drawn or have failed."""
        self._call("POST", "/url", {"url": page.as_uri()})
        self.wait("return performance.getEntriesByName('first charts').length", lambda marks: marks == 1)

    def draw_all(self) -> None:
        """Scroll through the page, so that every chart is drawn, or has failed, and back."""
        self.run("document.documentElement.style.scrollBehavior = 'auto'")
        for place in range(self.run("return document.querySelectorAll('.drawing').length")):
            self.wait(
                """const box = document.querySelectorAll(".drawing")[arguments[0]];
                   box.scrollIntoView({block: "center"});
                   return box.dataset.drawn ?? ''""",
                lambda drawn: drawn != "",
                place,
            )
        self.run("scrollTo(0, 0)")

    def emulate(self, *, dark: bool = False, width: int | None = None, height: int = 844) -> None:
        """Prefer the dark or the light scheme, on a phone of this width in pixels or in the window as it is."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.devtools("Emulation.setEmulatedMedia", features=scheme)
        if width is None:
            self.devtools("Emulation.clearDeviceMetricsOverride")
        else:
            phone = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}
            self.devtools("Emulation.setDeviceMetricsOverride", **phone)

    def devtools(self, command: str, **parameters: object) -> Any:
        """One command of the DevTools protocol."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self, *, whole: bool = False) -> bytes:
        """The window, or the whole page, as PNG."""
        found = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])

    def windows(self) -> list[str]:
        """Addresses of all windows but this one, which are closed."""
        here, addresses = self._call("GET", "/window"), []
        for other in self._call("GET", "/window/handles"):
            if other != here:
                self._call("POST", "/window", {"handle": other})
                addresses.append(self._call("GET", "/url"))
                self._call("DELETE", "/window")
        self._call("POST", "/window", {"handle": here})
        return addresses

    def wait_for_windows(self) -> list[str]:
        """`windows` once there is one, or after 20 seconds."""
        end = time.monotonic() + 20
        while len(self._call("GET", "/window/handles")) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        return self.windows()

    def type(self, element: str, text: str) -> None:
        """Replace what is in a field, as a person would."""
        self.run("const e = document.querySelector(arguments[0]); e.focus(); e.select()", element)
        self.devtools("Input.insertText", text=text) if text else self._delete()

    def _delete(self) -> None:
        key = {"key": "Delete", "code": "Delete", "windowsVirtualKeyCode": 46}
        for kind in ("keyDown", "keyUp"):
            self.devtools("Input.dispatchKeyEvent", type=kind, **key)

    def requests(self) -> list[str]:
        """Addresses of everything that was asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

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
        place = None
        while place != (place := self.run(script, element)):  # what comes into view may find its size only then
            time.sleep(0.05)
        x, y = place
        steps: list[dict[str, Any]] = [{"type": "pointerMove", "duration": 50, "x": x, "y": y}]
        if click:
            steps += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self._call("POST", "/actions", {"actions": [pointer]})

    def console(self) -> list[str]:
        """What was written on the console since the last call, warnings and errors of the browser included."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return self._call("POST", "/se/log", {"type": kind})

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
