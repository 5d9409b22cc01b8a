"""docs/api.md: its blocks are pasted into one shell, in order, against a daemon that has just started."""

import re
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from tests.acceptance.harness import ROOT, Daemon, Receiver, environment

DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
SECONDS_MAX = 60
AT_ONCE = {"drain.timeout": "0s"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_each_call_of_the_page_is_answered_with_success(tmp_path: Path) -> None:
    """Whatever stands there can be pasted: no answer is a problem, but the one of the batch that shows one."""
    with Receiver(200) as receiver, Daemon(tmp_path, settings=AT_ONCE) as daemon:
        script = "".join(BLOCKS).replace("http://127.0.0.1:8080", daemon.url)
        script = re.sub(r"http://127\.0\.0\.1:90\d\d", receiver.url.rstrip("/"), script)
        calls = script.count("curl -sS ")
        script = script.replace("curl -sS ", r"curl -sS --fail-with-body -w '\nanswered %{http_code}\n' ")
        pasted = subprocess.run(
            ["bash", "-e"],
            input=script,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=SECONDS_MAX,
            check=False,
        )
        assert pasted.returncode == 0, pasted.stdout + pasted.stderr
        answered = re.findall(r"^answered (\d+)$", pasted.stdout, re.MULTILINE)
        assert len(answered) == calls > 20
        assert set(answered) == {"200", "201", "202"}
        assert pasted.stdout.count('"/problems/') == 1
        assert '"secret":"whsec_' in pasted.stdout
        assert daemon.stop() in (0, 3)


def test_event_handler_registers_posts_and_keeps_what_it_cannot_hand_over(tmp_path: Path) -> None:
    """An unknown client is registered and the event posted again; with nobody there it goes to the platform's table."""
    block = re.search(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert block
    registered: list[str] = []
    kept: list[dict[str, object]] = []
    pauses: list[float] = []
    invoice = SimpleNamespace(client_id="acme", id=7, data={"amount": 42})
    with Daemon(tmp_path, settings=AT_ONCE) as daemon, daemon.api as api:

        def register(client_id: str) -> None:
            api.put_client(client_id, {"url": "http://127.0.0.1:9/"})
            registered.append(client_id)

        names = {
            "requests": requests,
            "time": SimpleNamespace(sleep=pauses.append),
            "register": register,
            "keep_for_later": kept.append,
        }
        exec(block[1].replace("http://127.0.0.1:8080", daemon.url), names)
        handle = names["on_invoice_paid"]
        assert callable(handle)
        handle(invoice)
        assert api.get("/v1/clients/acme/events/inv-7")["type"] == "invoice.paid"
        assert (registered, kept, pauses) == (["acme"], [], [0.2])
        daemon.stop()
    handle(invoice)
    assert [event["id"] for event in kept] == ["inv-7"]
    assert pauses[1:] == [0.2, 1, 5]


@pytest.mark.parametrize(("status", "tries"), [(502, 4), (504, 4), (403, 1)])
def test_event_handler_asks_again_what_a_proxy_could_not_answer(status: int, tries: int) -> None:
    """HAProxy says 502 for a daemon that was killed under a request. What is ours to mend is raised at once."""
    block = re.search(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert block
    kept: list[dict[str, object]] = []
    names = {"requests": requests, "time": SimpleNamespace(sleep=lambda _: None), "keep_for_later": kept.append}
    with Receiver(status) as proxy:
        exec(block[1].replace("http://127.0.0.1:8080/v1/events", proxy.url), names)
        handle = names["on_invoice_paid"]
        assert callable(handle)
        with nullcontext() if status >= 500 else pytest.raises(RuntimeError):
            handle(SimpleNamespace(client_id="acme", id=7, data={"amount": 42}))
        assert len(proxy.log) == tries
    assert len(kept) == (1 if status >= 500 else 0)
