"""A real Chromium, driven by its own protocol over two pipes: what a page shows, asks for and complains of.

Needs no library: a message is JSON with a NUL behind it (Chrome DevTools Protocol, `--remote-debugging-pipe`).
"""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from html import unescape
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

EXECUTABLE = shutil.which("chromium")
ANSWER_SECONDS_MAX = 60.0  # with twenty runnable processes it did not start within 30
# The protocol's pipes are descriptors 3 and 4. Whatever numbers the ends have, none is overwritten before it is used.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
# The rules of axe-core, as the package has them; HOOKD_AXE names another axe.min.js.
AXE = Path(os.environ.get("HOOKD_AXE") or str(resources.files("axe_core_python") / "axe.min.js"))
AXE_RUN = """
axe.run(document, { resultTypes: ["violations"] }).then((found) => found.violations
  .filter((one) => one.impact === "serious" || one.impact === "critical")
  .map((one) => one.id + ": " + one.nodes[0].html))
"""

needs_browser = pytest.mark.skipif(EXECUTABLE is None, reason="chromium is not installed")


class Browser:
    """One tab at a time. `complaints` are the console's errors and warnings, exceptions, and what a policy forbade."""

    def __init__(self, profile: Path) -> None:
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        self._profile = profile
        arguments = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-quic"),
            # Nothing of its own goes out: the page is all that is asked for.
            *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
            f"--user-data-dir={profile}",
        ]
        ends = (str(to_browser), str(from_browser))
        command = [sys.executable, "-c", LAUNCH, *ends, str(EXECUTABLE), *arguments, "about:blank"]
        self._process = subprocess.Popen(
            command,
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._unread = b""
        self._number = 0
        self._tab: str | None = None
        self._events: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def __enter__(self) -> Self:
        self.new_tab()
        return self

    def new_tab(self) -> None:
        """Nothing of what the one before kept or said is in it."""
        self._tab = None
        context = self._call("Target.createBrowserContext")["browserContextId"]
        page = self._call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self._tab = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self._events, self.complaints, self.requests = [], [], []
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self._call(f"{domain}.enable")

    def __exit__(self, _type: type | None, _value: BaseException | None, _traceback: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def open(self, url: str) -> None:
        """Until it is loaded."""
        self._events.clear()
        self._call("Page.navigate", url=url)
        self._wait(lambda: any(one["method"] == "Page.loadEventFired" for one in self._events), f"{url} to load")

    def evaluate(self, expression: str) -> Any:
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until the expression is true in the page."""
        self._wait(lambda: bool(self.evaluate(expression)), expression)

    def wait_for_page(self, path: str) -> None:
        """Until a link or a form has led there."""
        self.wait_for(f"location.pathname === {json.dumps(path)} && document.readyState === 'complete'")

    def text(self) -> str:
        """What a person reads on it."""
        return " ".join(str(self.evaluate("document.body ? document.body.innerText : ''")).split())

    def document_text(self) -> str:
        """The same, without asking the page's own engine, which runs nothing where scripts are off."""
        root = self._call("DOM.getDocument", depth=0)["root"]["nodeId"]
        html = self._call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
        return " ".join(unescape(re.sub("<[^>]*>", " ", html[html.index("<main") :])).split())

    def press(self, selector: str) -> None:
        """With the keyboard: it is focused, and gets Enter."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.key("Enter", "\r")

    def key(self, name: str, text: str = "") -> None:
        code = {"Enter": 13, "Tab": 9, "Escape": 27}[name]
        for kind in ("keyDown", "keyUp"):
            given = {"text": text} if text and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **given)

    def type(self, selector: str, text: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self._call("Input.insertText", text=text)

    def look_like(self, *, width: int, height: int, dark: bool = False, script: bool = True) -> None:
        """As on a screen of this size; without `script`, as a browser that runs none."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Emulation.setScriptExecutionDisabled", value=not script)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def axe_findings(self) -> list[str]:
        """What axe-core finds that is serious or critical, contrast among it: the rule and the first element."""
        self.evaluate(f"{AXE.read_text(encoding='utf-8')}; 0")
        found: list[str] = self.evaluate(AXE_RUN)
        return found

    def accessible_names(self, role: str) -> list[str]:
        """What a screen reader says of each element of this role."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        found = [node for node in nodes if node.get("role", {}).get("value") == role and not node["ignored"]]
        return [node.get("name", {}).get("value", "") for node in found]

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._tab is not None:
            message["sessionId"] = self._tab
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            answer = self._message(deadline, method)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _wait(self, is_so: Any, what: str) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while not is_so():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            if select.select([self._from], [], [], 0.05)[0]:
                self._note(self._message(deadline, what))

    def _message(self, deadline: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"no answer to {what}"
            data = os.read(self._from, 2**16)
            assert data, "the browser has gone"
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        if "method" not in event or event.get("sessionId") != self._tab:
            return
        self._events.append(event)
        details = event["params"]
        match event["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(details["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(details["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if details["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(details["args"]))
            case "Log.entryAdded" if details["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
            case "Audits.issueAdded" if "contentSecurityPolicyIssueDetails" in details["issue"]["details"]:
                self.complaints.append(json.dumps(details["issue"]))
