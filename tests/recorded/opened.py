"""The story of a daemon without tokens: clients, events, what receivers do to them, full budgets, and a long stop."""

import base64
import json
import signal
from pathlib import Path
from typing import Any

from tests.recorded import routes
from tests.recorded.placeholders import Placeholders
from tests.recorded.program import Daemon, Program, wait_until
from tests.recorded.receivers import ANSWERS, SECRET, SILENT, Receivers
from tests.recorded.recording import NDJSON, Recording, command, received

CONFIG = """
[http]
connections_max = 50

[intake]
payload_bytes_max = "1KiB"
body_bytes_max = "8KiB"
batch_events_max = 8
unsettled_events_max = 30
client_events_max = 6

[registry]
clients_max = 26
endpoints_max = 3
headers_max = 2

[delivery]
timeout = "25s"
connections_max = 32

[retry]
schedule = ["10m", "10m"]
jitter = 0.0

[egress]
allow_http = true
allow_networks = ["127.0.0.0/8"]

[drain]
timeout = "4s"
report_directory = "reports"

[[clients]]
id = "acme"

[[clients.endpoints]]
id = "billing"
url = "URL/well?key=hidden"
secret_file = "acme-secret"
event_types = ["invoice.*", "order.paid"]
headers = { x-team = "billing" }
timeout = "5s"
concurrency = 1
schedule = ["10s", "1m"]

[[clients.endpoints]]
id = "audit"
url = "URL/empty"
secret_file = "acme-secret"
event_types = ["audit.*"]
"""


def opened(program: Program, names: Placeholders) -> dict[str, Any]:
    folder = program.folder
    (folder / "acme-secret").write_text(SECRET)
    (folder / "acme-secret").chmod(0o600)
    (folder / "recorder").mkdir()
    with Receivers() as receivers:
        names.add(receivers.url.removeprefix("http://"), "RECEIVER")
        names.add(receivers.refusing_url.removeprefix("http://"), "REFUSING")
        config = folder / "hookd.toml"
        config.write_text(CONFIG.replace("URL", receivers.url))
        with Daemon(program, "opened", "--config", str(config), RUNTIME_DIRECTORY=str(folder / "recorder")) as daemon:
            it = Recording(daemon, names, receivers)
            commands = Commands(program, it)
            for chapter in (
                routes.all_routes,
                routes.odd_paths,
                routes.odd_bodies,
                routes.odd_requests,
                clients,
                single_events,
                batches,
                misbehaving,
                operations,
                commands.tell,
                full,
                totals,
                reloads,
            ):
                chapter(it)
            stop(it)
            code = daemon.wait()
            found = it.ended(code, folder / "reports")
        return {**found, "commands": commands.shown, "received": received(receivers, names)}


def endpoint(it: Recording, path: str, **more: Any) -> dict[str, Any]:
    return {"url": it.receivers.url + path, "secret": SECRET, "concurrency": 1, **more}


def register(it: Recording, client_id: str, path: str, query: str = "", **more: Any) -> int:
    return it.put(client_id, {"endpoints": [endpoint(it, path, **more)]}, query).status


def event(client_id: str, event_id: str | None = None, payload: Any = 1, kind: str = "order.paid") -> dict[str, Any]:
    given = {"client_id": client_id, "type": kind, "payload": payload}
    return given if event_id is None else {**given, "id": event_id}


def clients(it: Recording) -> None:
    well, url = endpoint(it, "/well"), it.receivers.url
    it.put("solo", {"url": f"{url}/well"})  # the secret is made
    it.put("solo", {"url": f"{url}/chunked", "secret": SECRET})
    it.put("duo", {"endpoints": [{**well, "id": "one", "event_types": ["a.*"]}, {**well, "id": "two"}]})
    it.get("/v1/clients/duo")
    for bad in (
        {},
        {"endpoints": []},
        {"endpoints": {}},
        {"url": 5},
        {"url": "ftp://127.0.0.1/"},
        {"url": "http://user:pass@127.0.0.1/"},
        {"url": "http://"},
        {"url": "http://127.0.0.1:99999/"},
        {"url": f"{url}/well", "secret": "short"},
        {"url": f"{url}/well", "timeout": "0s", "concurrency": 0, "schedule": ["31d"]},
        {"url": f"{url}/well", "timeout": 5, "concurrency": "8", "schedule": "5s"},
        {"url": f"{url}/well", "headers": {"Content-Type": "x", "a b": "c", "x-ok": "bad\nvalue"}},
        {"url": f"{url}/well", "headers": {"x-a": "1", "X-A": "2"}},
        {"url": f"{url}/well", "event_types": ["a b", "*", "a.*.b"]},
        {"url": f"{url}/well", "shape": "round", "urls": []},
        {"url": f"{url}/well", "endpoints": []},
        {"endpoints": [well, well]},
        {"endpoints": [{**well, "id": "same"}, {**well, "id": "same"}]},
        {"endpoints": [{**well, "id": f"e{n}"} for n in range(4)]},
        [1],
        "text",
    ):
        it.put("bad", bad)
    it.put("not.an.id", {"endpoints": [well]})
    it.put("acme", {"endpoints": [well]})
    it.put("sketch", {"endpoints": [well]}, "?end_unsettled=maybe")
    it.put("brief", {"endpoints": [well]})
    it.ask("DELETE", "/v1/clients/brief?end_unsettled=2")
    it.ask("DELETE", "/v1/clients/brief")
    it.ask("DELETE", "/v1/clients/brief")
    it.ask("DELETE", "/v1/clients/acme")
    first = it.get("/v1/clients?limit=2")
    it.get(f"/v1/clients?limit=2&cursor={json.loads(first.body)['next_cursor']}")


def single_events(it: Recording) -> None:
    register(it, "well", "/well")
    it.post("/v1/events", event("well", "w1", {"amount": 42}))
    it.settle("well", "w1")
    it.post("/v1/events", event("well", "w1", {"amount": 42}))
    it.post("/v1/events", event("well", "w1", {"amount": 43}))
    it.post("/v1/events", event("well", "w1", {"amount": 42}, "order.sent"))
    it.get("/v1/events/w1")
    it.get("/v1/clients/well/events/w1")
    made = json.loads(it.post("/v1/events", event("well")).body)["id"]
    it.settle("well", made)
    it.get(f"/v1/events/{made}")
    it.post("/v1/clients/well/events", {"type": "order.paid", "payload": "ü\u2028", "id": "w2"})
    it.settle("well", "w2")
    it.post("/v1/clients/well/events", {"type": "order.paid", "payload": None, "id": "w3", "client_id": "other"})
    it.post("/v1/clients/well/events", {"type": "order.paid", "payload": None, "id": "w3", "client_id": "well"})
    it.settle("well", "w3")
    it.post("/v1/events", b'{ "client_id": "well", "type": "t", "id": "w4", "payload": { "n" :1E400, "n": 1.0 } }')
    it.settle("well", "w4")
    it.post("/v1/events", event("duo", "w1"))  # the id of another client's
    it.settle("duo", "w1")
    it.get("/v1/events/w1")
    it.post("/v1/events", event("acme", "a1", kind="invoice.paid"))
    it.settle("acme", "a1")
    it.post("/v1/events", event("acme", "a2", kind="nobody.wants"))
    it.get("/v1/clients/acme/events/a2")
    for bad in (
        [],
        5,
        {},
        {"client_id": "well"},
        event("well", "bad id"),
        event("not.an.id", "x"),
        event("well", "x", kind=""),
        event("well", "x", kind="a b"),
        {**event("well", "x"), "tpye": 1},
        {**event("well", 5), "type": 6},  # type: ignore[arg-type]
        event("nobody", "x"),
        event("well", "large", "x" * 1100),
    ):
        it.post("/v1/events", bad)
    it.post("/v1/events", b'{"client_id":"well","type":"a","type":"b","payload":1}')
    it.post("/v1/events", b'{"client_id":"well","type":"a","payload":' + b"[" * 1001 + b"]" * 1001 + b"}")
    it.post("/v1/events", b'{"client_id":"well","type":"a","payload":"\\ud800"}')
    it.post("/v1/events", b'{"client_id":"well","type":"a","payload":1} x')
    it.post("/v1/clients/nobody/events", {"type": "a", "payload": 1})


def batches(it: Recording) -> None:
    def lines(*events: Any) -> bytes:
        return b"".join(json.dumps(one).encode() + b"\n" for one in events)

    it.post("/v1/events/batch", [event("well", "b1"), event("well", "b2")])
    it.settle("well", "b2")
    it.post("/v1/events/batch", lines(event("well", "b2"), event("well", "b3")), type=NDJSON)
    it.settle("well", "b3")
    it.post("/v1/clients/well/events", [{"type": "t", "payload": n, "id": f"c{n}"} for n in range(3)])
    it.settle("well", "c2")
    it.post("/v1/clients/well/events", lines({"type": "t", "payload": 1, "id": "c3"}), type=NDJSON)
    it.settle("well", "c3")
    mixed = [event("well", "b4"), event("nobody", "b5"), 7, event("well", "b1", 2), event("well", "b4"), {"id": "b6"}]
    it.post("/v1/events/batch", mixed)
    it.post("/v1/events/batch?partial=true", mixed)
    it.settle("well", "b4")
    it.post("/v1/events/batch?partial=true", lines(*mixed), type=NDJSON)
    it.post("/v1/clients/well/events?partial=true", [{"type": "t", "payload": "x" * 1100}, {"type": "no type", "payload": 1}])
    it.post("/v1/events/batch?partial=false", [event("nobody", "b7")])
    it.post("/v1/events/batch", [])
    it.post("/v1/events/batch", b"\n\n", type=NDJSON)
    it.post("/v1/events/batch", b'{"a":1}\n{\n', type=NDJSON)
    it.post("/v1/events/batch", {"not": "a list"})
    it.post("/v1/events/batch", [event("well", f"many{n}") for n in range(9)])
    it.post("/v1/events/batch", [event("well", "s1"), event("well", "s1")])
    it.settle("well", "s1")
    it.post("/v1/events/batch", [event("well", "s2"), event("well", "s2", 2)])
    report = {"kind": "undelivered", "class": "never_attempted", "event_id": "r1", "client_id": "well", "type": "t"}
    report |= {"endpoint_id": "default", "url": "http://x/", "accepted_at": "2026-11-21T20:00:00.000Z"}
    report |= {"attempt_count": 0, "next_attempt_at": None, "last_outcome": None, "payload": 5}
    it.post("/v1/resend", lines(report, report, {**report, "event_id": "r2", "client_id": "nobody"}), type=NDJSON)
    it.settle("well", "r1")
    it.post("/v1/resend", lines(report), type=NDJSON)
    it.post("/v1/resend", lines({**report, "payload": 6}), type=NDJSON)
    it.post("/v1/resend", lines({"kind": "summary"}), type=NDJSON)
    it.post("/v1/resend", lines({**report, "type": "a b"}), type=NDJSON)
    first = json.loads(it.get("/v1/events?limit=3&client_id=well").body)
    it.get(f"/v1/events?limit=3&client_id=well&cursor={first['next_cursor']}")
    it.get("/v1/events?status=delivered&type=t")
    it.get("/v1/events?status=exhausted")
    first = json.loads(it.get("/v1/settlements?limit=4").body)
    second = json.loads(it.get(f"/v1/settlements?limit=100&cursor={first['next_cursor']}").body)
    it.get(f"/v1/settlements?wait_seconds=0.05&cursor={second['next_cursor']}")
    run_id = second["run_id"]
    it.get(f"/v1/settlements?cursor={_cursor('0123456789abcdef', 3)}")
    it.get(f"/v1/settlements?cursor={_cursor(run_id, 999999)}")


def _cursor(run_id: str, position: int) -> str:
    return base64.urlsafe_b64encode(f"s{run_id}:{position}".encode()).decode().rstrip("=")


def misbehaving(it: Recording) -> None:
    """One client for each way to answer; what its first attempt came to, and how it is then."""
    for path in sorted(set(ANSWERS) - {"/well", "/empty", "/chunked"}):
        client_id = path.removeprefix("/")
        register(it, client_id, path)
        it.post("/v1/events", event(client_id, f"m-{client_id}"))
        it.settle(client_id, f"m-{client_id}")
        it.get(f"/v1/clients/{client_id}/events/m-{client_id}")
        it.get(f"/v1/clients/{client_id}")
    it.put("refusing", {"url": f"{it.receivers.refusing_url}/"})
    register(it, "hanging", SILENT, timeout="300ms", schedule=[])
    it.put("blocked", {"url": "http://169.254.169.254/latest"})
    register(it, "short", "/failing", schedule=["10ms"])
    for client_id, attempts in (("refusing", 1), ("hanging", 1), ("blocked", 1), ("short", 2)):
        it.post("/v1/events", event(client_id, f"m-{client_id}"))
        it.settle(client_id, f"m-{client_id}", attempts=attempts)
        it.get(f"/v1/clients/{client_id}/events/m-{client_id}")
        it.get(f"/v1/clients/{client_id}")
    it.get("/v1/events?status=failed")
    it.get("/v1/events?status=exhausted")


def operations(it: Recording) -> None:
    at = "/v1/clients/{}/endpoints/{}/{}".format
    for verb in ("pause", "resume", "test", "rotate-secret"):
        it.post(at("nobody", "default", verb))
        it.post(at("well", "nothing", verb))
    it.post(at("solo", "default", "rotate-secret"))
    it.post(at("acme", "billing", "rotate-secret"))
    for client_id in ("well", "gone", "refusing", "hanging", "busy"):
        it.post(at(client_id, "default", "test"))
    it.post(at("well", "default", "pause"))
    it.post(at("well", "default", "pause"))
    it.post("/v1/events", event("well", "p1"))
    it.get("/v1/clients/well")
    it.post("/v1/clients/well/events/p1/retry")
    it.ask("DELETE", "/v1/clients/well")
    register(it, "well", "/well", id="other")
    it.post(at("well", "default", "resume"))
    it.settle("well", "p1")
    it.get("/v1/clients/well/events/p1")
    it.post(at("well", "default", "resume"))
    it.post("/v1/events", event("gone", "g2"))
    it.settle("gone", "g2")
    it.get("/v1/clients/gone/events/g2")
    it.post("/v1/clients/gone/events/g2/retry")
    it.post("/v1/clients/nobody/events/x/retry")
    it.post("/v1/clients/well/events/none/retry")
    it.post("/v1/clients/well/events/p1/retry")
    replay = "/v1/clients/short/replay"
    for bad in ({"since": "yesterday"}, {"since": 5}, {"statuses": []}, {"statuses": ["delivered"]}, {"x": 1}, []):
        it.post(replay, bad)
    it.post(replay, {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"})
    it.post("/v1/clients/nobody/replay", {})
    it.post(replay, {"dry_run": True})
    it.post(replay, {"until": "2020-01-01T00:00:00Z"})
    it.receivers.is_healed = True
    it.post(replay, {})
    it.settle("short", "m-short", attempts=9)
    it.get("/v1/clients/short/events/m-short")
    it.post("/v1/clients/failing/events/m-failing/retry")
    it.settle("failing", "m-failing", attempts=9)
    it.get("/v1/clients/failing/events/m-failing")
    it.post(at("busy", "default", "resume"))
    it.post("/v1/clients/busy/events/m-busy/retry")
    it.post("/v1/clients/down/events/m-down/retry")
    it.settle("down", "m-down", attempts=2)
    register(it, "moved", "/well", "?end_unsettled=true", id="new")
    it.get("/v1/clients/moved/events/m-moved")
    it.ask("DELETE", "/v1/clients/cut?end_unsettled=true")
    it.get("/v1/clients/cut/events/m-cut")
    it.get("/v1/clients/cut")


def full(it: Recording) -> None:
    register(it, "held", "/well")
    it.post("/v1/clients/held/endpoints/default/pause")
    it.post("/v1/events/batch", [event("held", f"h{n}", "x" * 10) for n in range(5)])
    it.post("/v1/events/batch", [event("held", "h5"), event("held", "h6")])
    it.post("/v1/events/batch?partial=true", [event("held", "h5"), event("held", "h6")])
    it.post("/v1/events", event("held", "h6"))
    it.post("/v1/events", event("held", "h0", "x" * 10))  # known
    it.post("/v1/events/batch?partial=true", [event("held", "h7"), event("well", "f1")])
    it.settle("well", "f1")
    free = 30 - it.look("/v1/status")["memory"]["unsettled_events"]
    for n in range(3):
        register(it, f"more{n}", "/well")
        it.post(f"/v1/clients/more{n}/endpoints/default/pause")
    for n in range(free):
        it.post("/v1/events", event(f"more{n // 6}", f"x{n}"))
    it.post("/v1/events", event("well", "x-last"))
    it.post("/v1/events", event("acme", "x-last", kind="nobody.wants"))
    it.post("/v1/events/batch?partial=true", [event("well", "x-last")])
    it.post("/v1/clients/gone/endpoints/default/resume")
    it.post("/v1/clients/gone/events/g2/retry")
    it.post("/v1/clients/gone/replay", {})
    it.get("/readyz")
    it.get("/readyz?verbose")
    for n in range(30):
        if register(it, f"crowd{n}", "/well") == 409:
            break
    it.ask("DELETE", "/v1/clients/more0?end_unsettled=true")
    for n in range(20):
        it.ask("DELETE", f"/v1/clients/crowd{n}")


def totals(it: Recording) -> None:
    it.wait_status(lambda status: status["deliveries"]["in_flight"] == 0, "nothing in flight")
    it.get("/v1/status")
    it.get("/metrics")
    it.get("/metrics", accept="application/openmetrics-text")
    it.get("/v1/clients?limit=1000")
    it.get("/v1/events?limit=1000")
    it.get("/v1/settlements?limit=1000")


def reloads(it: Recording) -> None:
    """A file with mistakes is refused whole; a good one replaces a managed client."""
    config = it.daemon.process.args[it.daemon.process.args.index("--config") + 1]  # type: ignore[union-attr,arg-type,index]
    before = Path(str(config)).read_text()
    for text, event_ in (
        (before + "[nonsense]\n", "config.refused"),
        (before.replace('headers = { x-team = "billing" }\n', "").replace("connections_max = 50", ""), "config.reloaded"),
    ):
        Path(str(config)).write_text(text)
        it.daemon.signal(signal.SIGHUP)
        wait_until(lambda event_=event_: it.daemon.has_logged(event_), event_)  # type: ignore[misc]
        it.get("/v1/clients/acme")


def stop(it: Recording) -> None:
    """One attempt hangs for longer than the stop may take; the reads stay, the rest is refused."""
    register(it, "stuck", SILENT)
    it.post("/v1/events", event("stuck", "last"))
    wait_until(lambda: it.look("/v1/clients/stuck")["endpoints"][0]["health"]["in_flight"] == 1, "the last one in flight")
    wait_until(lambda: b"last" in it.receivers.received[-1].head_bytes, "it has been sent")
    it.get("/v1/clients/stuck/events/last")
    it.daemon.signal(signal.SIGTERM)
    it.wait_status(lambda status: status["state"] == "draining", "draining")
    it.post("/v1/events", event("well", "too-late"))
    it.post("/v1/events", event("well", "w1", {"amount": 42}))  # known
    it.post("/v1/events/batch?partial=true", [event("well", "too-late"), event("well", "b1")])
    it.post("/v1/events/batch", [event("well", "too-late")])
    register(it, "late", "/well")
    it.ask("DELETE", "/v1/clients/duo")
    it.post("/v1/clients/stuck/events/last/retry")
    it.post("/v1/clients/gone/replay", {})
    it.post("/v1/clients/solo/endpoints/default/rotate-secret")
    it.post("/v1/resend", b"", type=NDJSON)
    for path in ("/livez", "/readyz", "/readyz?verbose", "/v1/status", "/v1/clients/stuck", "/v1/settlements?wait_seconds=9"):
        it.get(path)


class Commands:
    """The commands that ask a running daemon."""

    def __init__(self, program: Program, it: Recording) -> None:
        self._program = program
        self._it = it
        self.shown: list[dict[str, Any]] = []

    def run(self, *arguments: str, spans: bool = False, **more: Any) -> None:
        more.setdefault("HOOKD_URL", f"http://127.0.0.1:{self._it.daemon.port}")
        self.shown.append(command(self._program, self._it.names, *arguments, spans=spans, **more))

    def tell(self, _: Recording) -> None:
        """In the middle of the story: every kind of endpoint and event is there, and none moves."""
        self.run("status", spans=True)
        self.run("status", "--json")
        for name in (
            "acme", "acme/a1", "gone", "gone/m-gone", "busy", "m-refusing", "hanging", "m-hanging", "blocked", "w1", "a2",
            "well/p1", "none", "none/none", "..",
        ):  # fmt: skip
            self.run("explain", name, spans=True)
        self.run("explain", "m-short", "--json")
        self.run("send", "well", "order.paid", '{"n": 1}')
        self.run("send", "well", "order.paid", "-", "--json", stdin=b'{"n": 2}')
        self.run("send", "hanging", "order.paid")
        self.run("send", "nobody", "order.paid")
        self.run("send", "well", "a b")
        self.run("send", "well", "order.paid", "{")
        self.run("send", "well", "order.paid", "--url", self._it.receivers.refusing_url)
        self.run("status", "--url", f"{self._it.receivers.url}/well")
        self.run("status", "--url", "nonsense")
        self.run("status", "--token-file", "none")
