"""schemathesis asks a real daemon whatever `/openapi.json` allows, and what it forbids.

No 5xx but the documented 503, no status or media type that is not documented, no answer that breaks its schema, no
bad request that is taken. HOOKD_SCHEMATHESIS_SECONDS bounds it: 30 unless set; by hand: 300, with
`--timeout 0`. A busy machine does not get past the examples in that time, which change nothing: it gets twice as much,
and once more.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.acceptance.harness import ROOT, Daemon, Receiver, environment

SECONDS = int(os.environ.get("HOOKD_SCHEMATHESIS_SECONDS", "30"))
BUDGETS_SECONDS = (SECONDS, 2 * SECONDS, 4 * SECONDS)
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """The client `acme` of the examples is there, so that reading, retrying and posting have something to work on."""
    with Receiver() as receiver, Daemon(tmp_path / "daemon", "--client", f"config={receiver.url}") as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            api.post("acme", "in_1-paid")
        for seconds in BUDGETS_SECONDS:
            done = asked(daemon.url, receiver.url, seconds, tmp_path)
            assert daemon.process.poll() is None, daemon.stderr[-3000:]
            with daemon.api as api:
                status, clients = api.status(), api.get("/v1/clients?limit=1000")["clients"]
            if done.returncode or came_through(status, daemon.stderr):
                break
        log = daemon.stderr
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-3000:]
    assert {endpoint["url"] for client in clients for endpoint in client["endpoints"]} == {receiver.url}
    assert all(receiver.url in line for line in log.splitlines() if "delivery.attempted" in line)
    assert "request.crashed" not in log
    assert came_through(status, log), (status["events"], log.count("client.registered"))


def came_through(status: dict[str, Any], log: str) -> bool:
    """To what the routes do: it registered clients, and its events were admitted."""
    return log.count("client.registered") > 3 and bool(status["events"]["accepted"] > 3)


def asked(url: str, receiver_url: str, seconds: int, directory: Path) -> subprocess.CompletedProcess[str]:
    """It ends by itself a little after its budget."""
    return subprocess.run(
        command(url, seconds),
        env=environment(
            SCHEMATHESIS_HOOKS="tests.acceptance.schemathesis_hooks",
            HOOKD_TEST_RECEIVER=receiver_url,
            PYTHONPATH=str(ROOT),
        ),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=2 * seconds + 120,
        check=False,
    )


def command(url: str, seconds: int) -> list[str]:
    return [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--max-time", str(seconds), "--workers", "1"),
        *("--generation-deterministic", "--suppress-health-check", "all"),
        *("--request-timeout", "30", "--continue-on-failure", "--no-color", "--warnings", "off"),
    ]
