"""What is posted arrives: each event at its endpoint, as it was posted, as often as its status says."""

import json
import math
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.acceptance.harness import (
    BUSY_SECONDS,
    HANG,
    NO_RETRY_SOON,
    Api,
    Daemon,
    Receiver,
    event_body,
    refusing_url,
    wait_until,
)

EVENTS = 1000
NDJSON = {"content-type": "application/x-ndjson"}
PAYLOADS = [
    b'{\n  "a": 1,\r\n\t"b" : [ 1,2 ]\n}',
    '{"name": "Zoë \u2028 日本 🎉", "escaped": "\\u00e9\\ud83c\\udf89"}'.encode(),
    b'{"big": 123456789012345678901234567890.123456789012345678901234567890, "e": 1E400, "z": -0, "f": 1.0}',
    b'{"same": 1, "same": 2, "": null}',
    b'"a string"',
    b"[]",
    b"null",
    b"0",
    b'{"slash": "\\/", "null": "\\u0000"}',
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a daemon that tests share, each with a client of its own; no second attempt comes within a test."""
    with Daemon(tmp_path_factory.mktemp("shared"), settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        yield api


def wait_settled(api: Api, *client_ids: str) -> None:
    def unsettled(client_id: str) -> int:
        return sum(one["health"]["unsettled"] for one in api.get(f"/v1/clients/{client_id}")["endpoints"])

    for client_id in client_ids:
        wait_until(lambda owner=client_id: unsettled(owner) == 0, seconds=20, what=f"nothing owed to {client_id}")


def test_thousand_events_to_three_receivers_end_as_their_receivers_answered(tmp_path: Path) -> None:
    """Delivered at once, delivered after three attempts, exhausted after all; the API has each attempt."""
    settings = {"retry.schedule": ["20ms", "40ms", "60ms"], "retry.jitter": 0}
    good, flaky = Receiver(200), Receiver(lambda received: 503 if received.number <= 2 else 200)
    with good, flaky, refusing_url() as refusing, Daemon(tmp_path, settings=settings) as daemon, daemon.api as api:
        headers = {"x-team": "billing", "authorization": "Bearer of-the-endpoint"}
        secrets = {
            "good": api.put_client("good", {"url": good.url, "headers": headers})["default"],
            "flaky": api.put_client("flaky", {"url": flaky.url})["default"],
            "down": api.put_client("down", {"url": refusing})["default"],
        }
        posted = post_thousand(api)
        wait_settled(api, *secrets)
        events = api.listed()
        version = api.status()["version"]
    assert {(event["client_id"], event["id"]) for event in events} == posted.keys()
    assert len(events) == EVENTS
    check_history(events, "good", status="delivered", codes=[200], reason=None)
    check_history(events, "flaky", status="delivered", codes=[503, 503, 200], reason=None)
    check_history(events, "down", status="exhausted", codes=[None] * 4, reason="attempts_used")
    for client_id, receiver, times in (("good", good, 1), ("flaky", flaky, 3)):
        assert receiver.ids() == {event_id: times for client, event_id in posted if client == client_id}
        check_requests(receiver, client_id, posted, secret=secrets[client_id], version=version)
    assert all(one.header["x-team"] == "billing" for one in good.log)
    assert all(one.header["authorization"] == "Bearer of-the-endpoint" for one in good.log)


def post_thousand(api: Api) -> dict[tuple[str, str], bytes]:
    """Some of the events singly, the rest in batches of each form; returns the payloads."""
    clients = ("good", "flaky", "down")
    posted = {
        (clients[max(0, n % 10 - 7)], f"e{n}"): json.dumps({"n": n, "text": "é\n"}).encode() for n in range(EVENTS)
    }
    items = [(client, event_id, payload) for (client, event_id), payload in posted.items()]
    for item in items[:200]:
        answer = api.post(*item)
        assert answer.status == 202
        assert answer.headers["location"] == f"/v1/clients/{item[0]}/events/{item[1]}"
        assert answer.json["id"] == item[1]
    for route, some, form in (
        ("/v1/events/batch", items[200:600], {}),
        ("/v1/events/batch", items[600:850], NDJSON),
        *((f"/v1/clients/{client}/events", [i for i in items[850:925] if i[0] == client], {}) for client in clients),
        *((f"/v1/clients/{client}/events", [i for i in items[925:] if i[0] == client], NDJSON) for client in clients),
    ):
        bodies = [event_body(*item) for item in some]
        body = b"\n".join(bodies) if form else b"[" + b",".join(bodies) + b"]"
        answer = api.ask("POST", route, body, form)
        assert answer.status == 202, answer
        named = [(event["client_id"], event["id"]) for event in answer.json["events"]]
        assert named == [item[:2] for item in some]  # in order
    return posted


def check_history(
    events: list[dict[str, Any]], client_id: str, *, status: str, codes: list[int | None], reason: str | None
) -> None:
    for event in (event for event in events if event["client_id"] == client_id):
        (delivery,) = event["deliveries"]
        attempts = delivery["attempts"]
        assert (event["status"], delivery["status"], delivery["reason"]) == (status, status, reason), event
        assert [attempt["status_code"] for attempt in attempts] == codes
        assert [attempt["number"] for attempt in attempts] == list(range(1, len(codes) + 1))
        assert {attempt["outcome"] for attempt in attempts} == {"unreachable" if codes[0] is None else "responded"}
        assert (delivery["attempt_count"], delivery["attempts_max"]) == (len(codes), 4)
        assert (delivery["next_attempt_at"], delivery["in_flight"]) == (None, False)
        times = [event["accepted_at"], *(attempt["started_at"] for attempt in attempts), event["settled_at"]]
        assert times == sorted(times)  # RFC 3339 in UTC sorts as text
        for earlier, later in pairwise(attempts):
            assert earlier["started_at"] < later["started_at"]


def check_requests(
    receiver: Receiver, client_id: str, posted: dict[tuple[str, str], bytes], *, secret: str, version: str
) -> None:
    for received in receiver.log:
        header = received.header
        assert received.body == posted[client_id, received.event_id]
        Webhook(secret).verify(received.body, header)
        assert abs(int(header["webhook-timestamp"]) - time.time()) < 60
        assert header["content-type"] == "application/json"
        assert header["user-agent"] == f"hookd/{version}"
        assert header["hookd-event-type"] == "order.paid"
        assert header["hookd-attempt"] == str(received.number)
        assert header["content-length"] == str(len(received.body))
        assert len(header) == len(received.headers)  # each once
        assert not {"cookie", "transfer-encoding"} & header.keys()


def test_only_final_2xx_is_delivered(api: Api) -> None:
    """Delivered is 200 to 299 and nothing else; redirects are not followed; 410 is gone."""

    def answer(received: Any) -> bytes:
        code = received.event_id
        head = f"HTTP/1.1 {code} X\r\nlocation: {elsewhere.url}\r\n"
        return f"{head}\r\n".encode() if code in ("199", "204", "304") else f"{head}content-length: 0\r\n\r\n".encode()

    elsewhere, receiver = Receiver(200), Receiver(answer)
    delivered = ["200", "201", "204", "299"]
    not_delivered = ["199", "300", "301", "302", "304", "307", "400", "500"]
    with elsewhere, receiver:
        api.put_client("codes", {"url": receiver.url, "schedule": []})
        for code in delivered + not_delivered:
            assert api.post("codes", code).status == 202
        wait_settled(api, "codes")
        assert api.post("codes", "410").status == 202
        wait_settled(api, "codes")
        events = {event["id"]: event for event in api.listed("&client_id=codes")}
    assert len(events) == len(delivered + not_delivered) + 1
    assert {code for code, event in events.items() if event["status"] == "delivered"} == set(delivered)
    assert {event["deliveries"][0]["reason"] for event in events.values()} == {None, "attempts_used", "gone"}
    assert events["410"]["deliveries"][0]["reason"] == "gone"
    assert not elsewhere.log
    for code in [*delivered, *not_delivered[1:]]:
        assert events[code]["deliveries"][0]["attempts"][0]["status_code"] == int(code)


def test_post_is_answered_while_all_receivers_hang(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """202 waits for no receiver."""
    seconds = []
    with Receiver(HANG) as one, Receiver(HANG) as two:
        api.put_client("one", {"url": one.url})
        api.put_client("two", {"url": two.url})
        for n in range(200):
            began = time.perf_counter()
            answer = api.post("one" if n % 2 else "two", f"e{n}")
            seconds.append(time.perf_counter() - began)
            assert answer.status == 202
        wait_until(lambda: one.hanging and two.hanging, what="requests that hang")
        for client_id in ("one", "two"):
            (endpoint,) = api.get(f"/v1/clients/{client_id}")["endpoints"]
            assert endpoint["health"]["unsettled"] == 100
            assert endpoint["health"]["in_flight"] >= 1
    p99 = sorted(seconds)[math.ceil(len(seconds) * 0.99) - 1]
    with capsys.disabled():
        print(f"\n  POST while all receivers hang: p99 {p99 * 1000:.1f} ms")
    assert max(seconds) < BUSY_SECONDS  # who waits for a receiver waits for its timeout, 15 s


def test_healthy_endpoint_is_not_delayed_by_hung_and_refusing_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One client's endpoint does not delay another's."""
    settings = {"retry.schedule": ["50ms"], "delivery.timeout": "15s"}
    posted_at: dict[str, float] = {}
    good, hung = Receiver(200), Receiver(HANG)
    with good, hung, refusing_url() as refusing, Daemon(tmp_path, settings=settings) as daemon, daemon.api as api:
        for client_id, url in (("good", good.url), ("hung", hung.url), ("down", refusing)):
            api.put_client(client_id, {"url": url})
        for n in range(60):
            for client_id in ("hung", "down"):
                assert api.post(client_id, f"e{n}").status == 202
        wait_until(lambda: hung.hanging, what="a hung request")
        for n in range(60):
            posted_at[f"e{n}"] = time.monotonic()
            for client_id in ("good", "hung", "down"):
                assert api.post(client_id, f"f{n}" if client_id != "good" else f"e{n}").status == 202
        wait_until(lambda: len(good.ids()) == 60, what="everything at the healthy one")
        assert api.get("/v1/clients/hung")["endpoints"][0]["health"]["unsettled"] == 120
        lags = sorted(received.at - posted_at[received.event_id] for received in good.log)
    with capsys.disabled():
        print(f"\n  healthy beside hung and refusing: p50 {lags[29] * 1000:.0f} ms, max {lags[-1] * 1000:.0f} ms")
    assert lags[-1] < BUSY_SECONDS  # behind the hung one it would wait for 15 s


def payloads() -> Iterator[tuple[str, bytes]]:
    for n, payload in enumerate(PAYLOADS):
        yield f"p{n}", payload


def test_payload_arrives_byte_for_byte(api: Api) -> None:
    """Line breaks, unicode, escapes, big numbers, duplicate keys: kept as they came, by every way in."""
    with Receiver() as receiver:
        api.put_client("bytes", {"url": receiver.url})
        for event_id, payload in payloads():
            assert api.post("bytes", f"single-{event_id}", payload).status == 202
        array = b" [" + b" ,\n".join(event_body("bytes", f"array-{i}", payload) for i, payload in payloads()) + b"]\n"
        assert api.ask("POST", "/v1/events/batch", array).status == 202
        on_one_line = [(i, payload) for i, payload in payloads() if b"\n" not in payload]
        lines = b"\n\n".join(event_body("bytes", f"line-{i}", payload) for i, payload in on_one_line)
        assert api.ask("POST", "/v1/events/batch", lines, NDJSON).status == 202
        wait_settled(api, "bytes")
    expected = {f"{way}-{i}": payload for way in ("single", "array") for i, payload in payloads()}
    expected |= {f"line-{i}": payload for i, payload in on_one_line}
    assert {received.event_id: received.body for received in receiver.log} == expected


def test_same_id_again_is_known_and_delivered_once(api: Api) -> None:
    """200 with the event as it stands for the same again, 409 for another; events nobody subscribes to owe nothing."""
    before = api.status()["events"]
    with Receiver() as receiver:
        api.put_client("ids", {"url": receiver.url, "event_types": ["order.*"]})
        assert api.post("ids", "one", b'{"n": 1}').status == 202
        wait_settled(api, "ids")
        again = api.post("ids", "one", b'{"n": 1}')
        assert (again.status, again.json["status"]) == (200, "delivered")
        assert api.post("ids", "one", b'{"n":1}').slug == "id-conflict"
        assert api.post("ids", "one", b'{"n": 1}', "order.other").slug == "id-conflict"
        unrouted = api.post("ids", "two", event_type="invoice.paid")
        assert (unrouted.status, unrouted.json["status"], unrouted.json["unrouted"]) == (202, "delivered", True)
        assert unrouted.json["deliveries"] == []
        events = api.status()["events"]
    assert {name: events[name] - before[name] for name in ("accepted", "unrouted")} == {"accepted": 2, "unrouted": 1}
    assert receiver.ids() == {"one": 1}
