"""A headless Chromium, driven by the Chrome DevTools Protocol, and a static server for it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> str | None:
    """Return the path of a browser, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Chromium:
    """A browser with a fresh profile. Events of all pages and workers are in `events`."""

    def __init__(self, *options: str) -> None:
        self.profile = Path(tempfile.mkdtemp(prefix="chromium."))
        command = [
            str(find_browser()), "--headless=new", "--no-sandbox", "--disable-gpu",
            "--no-first-run", "--hide-scrollbars", "--disable-background-networking",
            "--disable-extensions",
            "--disable-component-update", "--disable-sync", "--mute-audio",
            "--disable-dev-shm-usage", "--remote-debugging-port=0",
            f"--user-data-dir={self.profile}", *options, "about:blank",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self.profile, ignore_errors=True)
        self._stack.callback(self._end)
        self._number = self._watched = 0
        self.events: list[dict[str, Any]] = []
        self._contexts: list[str] = []
        try:
            port, path = wait_for(self._port, 60)
            url = f"ws://127.0.0.1:{port}{path}"
            self._socket = self._stack.enter_context(connect(url, max_size=None, proxy=None))
        except BaseException:
            self.close()
            raise

    def _port(self) -> list[str] | None:
        path = self.profile / "DevToolsActivePort"
        lines = path.read_text().split() if path.exists() else []
        return lines if len(lines) == 2 else None

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._socket.send(json.dumps({**message, "sessionId": session} if session else message))
        while True:
            answer = json.loads(self._socket.recv(timeout=120))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._take(answer)

    def _take(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event.get("method") == "Target.attachedToTarget":
            self._watch(event["params"]["sessionId"])

    def _watch(self, session: str) -> None:
        """Record the network of a page or worker, and of the workers that it starts."""
        for method, params in (
            ("Network.enable", {}),
            ("Runtime.enable", {}),
            ("Target.setAutoAttach",
             {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}),
            ("Runtime.runIfWaitingForDebugger", {}),
        ):  # fmt: skip
            self._watched += 1  # nobody waits for these answers
            message = {"id": 1_000_000 + self._watched, "method": method, "params": params}
            self._socket.send(json.dumps({**message, "sessionId": session}))

    def open(self, url: str, *, grant: str = "granted", **metrics: Any) -> Page:
        """Open a page.

        Args:
            grant: answer to the question for the camera.
            metrics: width and height, and other things of `Page.look`.
        """
        context = self.call("Target.createBrowserContext")["browserContextId"]
        self._contexts.append(context)
        origin = url.partition("#")[0]
        self.call("Browser.setPermission", permission={"name": "camera"}, setting=grant,
                  origin=origin, browserContextId=context)  # fmt: skip
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        page.look(**metrics)
        page.call("Page.enable")
        page.call("Page.navigate", url=url)
        return page

    def run(self, session: str, code: str) -> Any:
        """Run JavaScript in a page or worker, and return the value of its promise."""
        done = self.call(
            "Runtime.evaluate", session, expression=code, awaitPromise=True, returnByValue=True,
            userGesture=True, allowUnsafeEvalBlockedByCSP=False,
        )  # fmt: skip
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"].get("exception", done))
        return done["result"].get("value")

    def settle(self, seconds: float) -> None:
        """Take in events for some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self._take(json.loads(self._socket.recv(timeout=left)))
            except TimeoutError:
                return

    def requests(self) -> list[str]:
        """Return the addresses of all requests until now, of pages and workers."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def close_pages(self) -> None:
        """Close all pages that are open."""
        while self._contexts:
            self.call("Target.disposeBrowserContext", browserContextId=self._contexts.pop())

    def close(self) -> None:
        """End the browser and forget its profile."""
        self._stack.close()

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)


class Page:
    """One page of the browser."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self.browser, self.session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to the page."""
        return self.browser.call(method, self.session, **params)

    def look(self, width: int = 1100, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window in pixels, and whether the user prefers dark colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, code: str) -> Any:
        """Run JavaScript in the page, and return the value of its promise."""
        return self.browser.run(self.session, code)

    def wait(self, code: str, seconds: float = 60) -> Any:
        """Wait until JavaScript has a true value, and return it."""
        try:
            return wait_for(lambda: self.run(code), seconds)
        except TimeoutError:
            raise TimeoutError(f"not in {seconds} s: {code}; the page says {self.text()}") from None

    def text(self) -> str:
        """Return the words that are on the page."""
        return str(self.run("document.body?.innerText ?? ''"))

    def click(self, selector: str) -> None:
        """Click an element as a user does."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str) -> None:
        """Press a key of a keyboard as a user does; `key` is its name, such as `a` or `Delete`."""
        kind = "Digit" if key.isdigit() else "Key" if len(key) == 1 else ""
        code = "Space" if key == " " else f"{kind}{key.upper() if kind else key}"
        for event in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=event, key=key, code=code)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files for an input element."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def picture(self, path: Path) -> None:
        """Save a picture of the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def wait_for(ready: Callable[[], Any], seconds: float) -> Any:
    """Return the first true value of `ready`."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        if time.monotonic() > end:
            raise TimeoutError(f"not in {seconds} s")
        time.sleep(0.05)
    return found


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder as any static server does; yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
