"""A real Chromium without a screen, driven over its debugging pipe: what a page draws, says and asks for."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

SECONDS = 60.0  # for an answer, on a machine that does other things as well

DRAWN = 'document.documentElement?.dataset.drawn === "yes"'
"""The script of a report says so at its end."""


class Page:
    """One page: its console's complaints and its requests are noted from the first moment on."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._left = b""
        self._numbers = itertools.count(1)
        self._session = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        size = {"width": 1200, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a method of the debugging protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write_fd, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]  # type: ignore[no-any-return]
            self._note(answer)

    def open(self, path: Path) -> None:
        """Opens the file, and waits until its script says that everything is drawn."""
        self.value("delete document.documentElement.dataset.drawn")  # of the page before
        self.complaints.clear()
        self.requests.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait_for(DRAWN)

    def wait_for(self, expression: str) -> None:
        """Waits until the expression is true."""
        end_s = time.monotonic() + SECONDS
        while not self.value(expression):
            assert time.monotonic() < end_s, f"{expression} did not become true; the console: {self.complaints}"

    def value(self, expression: str) -> Any:
        """What the expression of JavaScript gives, awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """The text of each element that the selector finds."""
        found = self.value(f"Array.from(document.querySelectorAll({json.dumps(selector)}), (each) => each.textContent)")
        return [str(text) for text in found]

    def count(self, selector: str) -> int:
        """How many elements the selector finds."""
        return len(self.texts(selector))

    def prefer(self, scheme: str) -> None:
        """Has the page shown as to somebody who prefers `light` or `dark`, and waits for it to be drawn again."""
        self.value("delete document.documentElement.dataset.drawn")
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.value("draw()")
        self.wait_for(DRAWN)

    def move_mouse(self, x: float, y: float) -> None:
        """Moves the mouse to that place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self) -> Image.Image:
        """The whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read_fd], [], [], SECONDS)
            assert ready, "Chromium says nothing"
            data = os.read(self._read_fd, 1 << 20)
            assert data, "Chromium has ended"
            self._left += data
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)  # type: ignore[no-any-return]

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method", ""), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.complaints.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])


def why_not() -> str:
    """Why no Chromium can be started here; "" where one can."""
    return "" if shutil.which("chromium") else "chromium is not installed"


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A page of a Chromium that ends with the block."""
    their_read, our_write = os.pipe()
    our_read, their_write = os.pipe()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
    script = f'exec "$@" 3<&{their_read} 4>&{their_write}'
    argv = ["bash", "-c", script, "bash", "chromium", *flags, "--remote-debugging-pipe"]
    with (profile / "log").open("wb") as log:
        browser = subprocess.Popen(
            argv, pass_fds=(their_read, their_write), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    os.close(their_read)
    os.close(their_write)
    try:
        page = Page(our_read, our_write)
        yield page
        os.write(our_write, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        browser.wait(SECONDS)
    finally:
        os.close(our_write)
        os.close(our_read)
        browser.kill()
        browser.wait()
