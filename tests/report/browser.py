"""A headless Chromium driven over two pipes (the DevTools protocol), by the stdlib alone."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
)
COMPLAINTS = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
SECONDS = 60.0  # of silence after which the browser counts as stuck
# Chromium reads commands from descriptor 3 and answers on 4; a middleman puts the pipes there.
_EXEC = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


def binary() -> str:
    """Where the browser is; skips the test, saying so, where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser on the path: one of {', '.join(NAMES)}")
    return found


@dataclass
class Browser:
    """One tab: commands go in, answers come out, complaints of pages are kept."""

    to: int
    back: int
    session: str = ""
    sent: int = 0
    rest: bytes = b""
    complaints: list[dict[str, Any]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command; AssertionError where the browser refuses it."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self.sent:
            self._note(answer)
        assert "error" not in answer, (method, answer["error"])
        found: dict[str, Any] = answer["result"]
        return found

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], SECONDS)
            read = os.read(self.back, 1 << 16) if ready else b""
            assert read, "the browser said nothing more"
            self.rest += read
        line, _, self.rest = self.rest.partition(b"\0")
        told: dict[str, Any] = json.loads(line)
        return told

    def _note(self, event: dict[str, Any]) -> None:
        self.events.append(str(event.get("method")))
        if event.get("method") in COMPLAINTS:
            self.complaints.append(event)

    def show(self, page: Path, *, width: int, scheme: str, media: str = "screen") -> None:
        """Open a page at a width, in a colour scheme, and wait until it has loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=wanted)
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + SECONDS
        while "Page.loadEventFired" not in self.events and time.monotonic() < end:
            self._note(self._read())

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; the page's own policy does not bind DevTools."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")


@contextmanager
def browser(home: Path) -> Iterator[Browser]:
    """A started browser with one tab, ended when done."""
    path = binary()
    (commands, to), (back, answers) = os.pipe(), os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, answers)]
    starter = [sys.executable, "-c", _EXEC, *map(str, high), path]
    process = subprocess.Popen(
        [*starter, *QUIET, f"--user-data-dir={home}", "about:blank"],
        pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for end in (commands, answers, *high):
        os.close(end)
    made = Browser(to, back)
    try:
        tab = made.call("Target.createTarget", url="about:blank")["targetId"]
        attached = made.call("Target.attachToTarget", targetId=tab, flatten=True)
        made.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            made.call(f"{domain}.enable")
        yield made
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(to)
        os.close(back)
