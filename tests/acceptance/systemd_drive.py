"""Runs inside a container, under its systemd: drives the shipped units, and writes what it saw as JSON.

Stands alone: it is run by the system's Python, which has nothing of ours.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

OUT = sys.argv[1]
ADDRESS = "127.0.0.1", 8080
CLIENT = json.dumps({"url": "https://nowhere.invalid/"}).encode()
SETTLED_SECONDS = 0.5


def systemctl(*arguments: str) -> str:
    ended = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=120, check=False)
    return (ended.stdout + ended.stderr).strip()


def ask(method: str, path: str, body: bytes | None = None, port: int = ADDRESS[1]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(ADDRESS[0], port, timeout=60)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Producer:
    """A hundred events a second, each on a connection of its own. 404: it PUTs the client, as after any restart."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.accepted: list[str] = []
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.post_all)
        self.thread.start()

    def post_all(self) -> None:
        number = 0
        while not self.is_over.wait(0.01):
            body = json.dumps({"id": f"e{number}", "type": "t", "payload": {}}).encode()
            number += 1
            try:
                self.post(f"e{number - 1}", body)
            except OSError as error:
                self.statuses[repr(error)] += 1

    def post(self, event_id: str, body: bytes) -> None:
        for _ in range(10):
            status, _ = ask("POST", "/v1/clients/acme/events", body)
            self.statuses[str(status)] += 1
            if status == 202:
                self.accepted.append(event_id)
                return
            if status == 404:
                ask("PUT", "/v1/clients/acme", CLIENT)


def journal(unit: str) -> list[str]:
    command = ["journalctl", "--no-pager", "--output=cat", f"--unit={unit}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()


def wait_for(seen: Counter[str], more: int) -> None:
    least, deadline = seen["202"] + more, time.monotonic() + 60
    while seen["202"] < least and time.monotonic() < deadline:
        time.sleep(0.01)


def show(unit: str) -> dict[str, str]:
    properties = "--property=ActiveState,Result,NRestarts,ExecMainStatus"
    return dict(line.split("=", 1) for line in systemctl("show", properties, unit).splitlines())


def drive() -> dict[str, object]:
    found: dict[str, object] = {"start": systemctl("enable", "--now", "hookd.socket", "hookd.service")}
    found["started"] = show("hookd.service")
    found["metrics"] = ask("GET", "/metrics")[1].decode()
    found["reload"] = systemctl("reload", "hookd")
    producer = Producer()
    wait_for(producer.statuses, 50)
    found["restart"] = systemctl("restart", "hookd")
    found["after_restart"] = show("hookd.service")
    wait_for(producer.statuses, 50)
    systemctl("kill", "--signal=SIGKILL", "hookd")
    wait_for(producer.statuses, 50)
    producer.is_over.set()
    producer.thread.join()
    found["after_kill"] = show("hookd.service")
    found["several"] = systemctl("start", "hookd@8081", "hookd@8082")
    found["shards"] = [json.loads(ask("GET", "/v1/status", port=port)[1])["shard"] for port in (8081, 8082)]
    found["stop"] = systemctl("stop", "hookd.socket", "hookd.service")
    found["stopped"] = show("hookd.service")
    found["statuses"], found["accepted"] = dict(producer.statuses), producer.accepted
    found["journal"] = journal("hookd.service")
    reports = Path("/var/lib/hookd/reports").glob("*.jsonl")
    found["reports"] = [line for one in reports for line in one.read_text().splitlines()]
    return found


if __name__ == "__main__":
    result: dict[str, object] = {}
    try:
        result = drive()
    except BaseException as error:
        result = {"failure": repr(error), "journal": journal("hookd.service")}
    with open(OUT, "w") as out:
        json.dump(result, out)
