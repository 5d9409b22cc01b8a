"""Several daemons behind HAProxy, by the shipped haproxy.cfg: where each client is, what moves, and what producers see.

The short form restarts each daemon once, under load. HOOKD_TEST_FLEET_SECONDS has the load go on for so long between
two.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.acceptance.fleet import (
    CLIENTS,
    CONFIG,
    SHARDS,
    Fleet,
    FleetProducer,
    config_of,
    haproxy,
    nginx,
    owner,
    owners,
    refusals,
)
from tests.acceptance.harness import HANG, Api, Receiver, hookd, wait_until
from tests.acceptance.proxied_routes import Route, misled, misled_by_envoy
from tests.ring import Ring

# Of 300 clients, on each of three daemons. Even would be 100.
SPREAD_LEAST, SPREAD_MOST = 80, 120
LOAD_SECONDS = float(os.environ.get("HOOKD_TEST_FLEET_SECONDS", "0.5"))
PRODUCERS = 4


@pytest.fixture(scope="module", name="port")
def port_of_a_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Three daemons that nobody stops, behind HAProxy."""
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet, haproxy(fleet) as port:
        yield port


def test_shipped_configuration_is_valid() -> None:
    """As HAProxy itself checks it: no error, and no warning either."""
    if shutil.which("haproxy") is None:
        pytest.skip("no haproxy")
    checked = subprocess.run(
        ["haproxy", "-c", "-f", str(CONFIG / "haproxy.cfg")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "[WARNING]" not in checked.stderr + checked.stdout


def test_client_is_found_by_path_and_by_body_and_event_by_its_id(port: int) -> None:
    """Clients are spread evenly, and wherever a client's id stands, the same daemon answers."""
    with Api(port) as api:
        by_path = owners(port)
        assert by_path == owners(port, by_body=True)
        spread = Counter(by_path.values())
        print(f"{len(CLIENTS)} clients on {len(SHARDS)} daemons: {spread}")
        assert set(spread) == set(SHARDS)
        ring = Ring(range(1, 1 + len(SHARDS)))
        assert by_path == {client_id: SHARDS[ring.server_of(client_id) - 1] for client_id in CLIENTS}
        assert all(SPREAD_LEAST <= count <= SPREAD_MOST for count in spread.values())
        for client_id in CLIENTS[:12]:
            put = api.ask("PUT", f"/v1/clients/{client_id}", {"url": "http://127.0.0.1:1/"})
            assert (put.status, put.headers["hookd-shard"]) == (201, by_path[client_id])
            body = {"client_id": client_id, "type": "t", "payload": 'a "client_id": "other" inside'}
            posted = api.ask("POST", "/v1/events", body)
            event_id = posted.json["id"]
            assert event_id.startswith(f"evt_{by_path[client_id]}_")
            for path in (f"/v1/events/{event_id}", f"/v1/clients/{client_id}/events/{event_id}"):
                found = api.ask("GET", path)
                assert (found.status, found.headers["hookd-shard"]) == (200, by_path[client_id])
            listed = api.ask("GET", f"/v1/events?client_id={client_id}")
            assert [one["id"] for one in listed.json["events"]] == [event_id]


def test_body_of_the_greatest_length_finds_its_client(port: int) -> None:
    """The client stands behind its payload, and the proxy has to hold all of it."""
    with Api(port) as api:
        payload = "x" * (256 * 1024 - 2)
        for client_id in CLIENTS[-6:]:
            body = b'{"type": "t", "payload": "%b", "client_id": "%b"}' % (payload.encode(), client_id.encode())
            answer = api.ask("POST", "/v1/events", body)
            assert (answer.slug, answer.headers["hookd-shard"]) == ("unknown-client", owner(api, client_id))


def test_what_speaks_of_one_daemon_is_asked_by_its_name(port: int) -> None:
    """Without a name the answer says how to; the proxy answers for itself whether anybody takes events."""
    with Api(port) as api:
        for name in SHARDS:
            answer = api.ask("GET", f"/shard/{name}/v1/status")
            assert (answer.json["shard"], answer.headers["hookd-shard"]) == (name, name)
            assert f'shard="{name}"' in api.ask("GET", f"/shard/{name}/metrics").content.decode()
            assert len(api.get(f"/shard/{name}/v1/clients?limit=1")["clients"]) <= 1
        for path in ("/v1/status", "/v1/clients", "/v1/settlements", "/shard/none/v1/status", "/shard/", "/"):
            answer = api.ask("GET", path)
            assert answer.slug == "not-found"
            assert "/shard/NAME/" in answer.json["detail"]
        assert api.ask("POST", "/v1/events/batch", []).slug == "not-found"
        assert api.ask("POST", "/v1/events", {"type": "t"}).slug == "invalid-event"
        assert api.ask("GET", "/problems/full").status == 200
        assert (api.ask("GET", "/livez").status, api.ask("GET", "/readyz").status) == (200, 200)


def test_explain_finds_the_daemon_of_a_client_behind_the_proxy(port: int) -> None:
    """By the client in the path; a daemon that is asked by its name says that it speaks for itself alone."""
    ((client_id, home),) = owners(port, ["asked-for"]).items()
    url = f"http://127.0.0.1:{port}"
    with Api(port) as api:
        api.put_client(client_id, {"id": "default", "url": "http://127.0.0.1:1/hook"})
    found = hookd("explain", client_id, "--url", url)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith(f"client {client_id}, registered")
    other = next(name for name in SHARDS if name != home)
    absent = hookd("explain", "nobody", "--url", f"{url}/shard/{other}")
    assert absent.returncode == 2
    with Api(port) as api:
        assert api.ask("DELETE", f"/v1/clients/{client_id}").status == 204
    assert f"this is shard {other}: another may know it, by the proxy's --url URL/shard/NAME" in absent.stderr


def test_haproxy_sends_every_route_where_it_belongs(port: int) -> None:
    """Every route of the OpenAPI document, for a client of each daemon."""
    with Api(port) as api:
        assert not list(misled(api, _one_of_each(owners(port, CLIENTS[:60]))))


def _one_of_each(homes: dict[str, str]) -> dict[str, str]:
    """A client of each daemon, and that daemon."""
    return {client_id: name for name, client_id in {name: client_id for client_id, name in homes.items()}.items()}


def test_no_foreign_client_moves_when_a_daemon_drains_dies_and_returns(tmp_path: Path) -> None:
    """Its own clients move to both others, and come back; all the while a draining one tells how it is."""
    with Receiver(HANG) as receiver, Fleet(tmp_path) as fleet, haproxy(fleet) as port, Api(port) as api:
        before = owners(port)
        drained, killed = SHARDS[0], SHARDS[1]
        client_id = next(one for one in CLIENTS if before[one] == drained)
        assert api.ask("PUT", f"/v1/clients/{client_id}", {"url": receiver.url}).status == 201
        assert api.post(client_id, "e1").status == 202
        wait_until(lambda: receiver.hanging, what="an attempt that holds the drain")

        fleet.members[drained].process.terminate()
        wait_until(lambda: owner(api, client_id) != drained, seconds=30, what="the draining daemon left alone")
        _assert_only_moved(before, owners(port), drained)
        assert api.get(f"/shard/{drained}/v1/status")["state"] == "draining"
        receiver.release()
        assert fleet.members[drained].wait(30) == 0
        _start_again(fleet, api, drained, client_id)
        assert owners(port) == before

        fleet.kill(killed)
        _assert_only_moved(before, owners(port), killed)
        _start_again(fleet, api, killed, next(one for one in CLIENTS if before[one] == killed))
        assert owners(port) == before


def _start_again(fleet: Fleet, api: Api, name: str, client_id: str) -> None:
    """Until this client of its is back."""
    fleet.start(name)
    wait_until(lambda: owner(api, client_id) == name, seconds=30, what=f"the return of {name}")


def _assert_only_moved(before: dict[str, str], after: dict[str, str], gone: str) -> None:
    own = {one for one in CLIENTS if before[one] == gone}
    assert {one for one in CLIENTS if after[one] != before[one]} == own
    spread = Counter(after[one] for one in own)
    print(f"{len(own)} clients of {gone} went to {spread}")
    assert set(spread) == set(SHARDS) - {gone}


def test_rolling_restart_under_load_shows_producers_nothing_but_202(tmp_path: Path) -> None:
    """Each daemon in turn. The proxy posts again what a draining one refused; all of it comes, and once.

    No producer posts anything again: what it sees is a 202 for each event, at its first try.
    """
    client_ids = CLIENTS[:60]
    with Receiver() as receiver:
        config = config_of(dict.fromkeys(client_ids, receiver.url), tmp_path)
        with Fleet(tmp_path, "--config", str(config)) as fleet, haproxy(fleet) as port:
            homes = {name: client_id for client_id, name in owners(port, client_ids).items()}
            producers = [FleetProducer(port, f"p{number}", client_ids) for number in range(PRODUCERS)]
            for name in SHARDS:
                _wait_for_load(producers)
                assert fleet.stop(name) == 0
                _wait_for_load(producers)
                with Api(port) as api:
                    _start_again(fleet, api, name, homes[name])
            _wait_for_load(producers)
            for one in producers:
                one.stop()
            answers = sum((one.answers for one in producers), Counter())
            accepted = {event_id for one in producers for event_id in one.accepted}
            for name in SHARDS:
                assert fleet.stop(name) == 0
    print(f"a rolling restart of {len(SHARDS)} daemons: {len(accepted)} events, answered {dict(answers)}")
    assert answers == Counter({"202": len(accepted)}), "\n".join(refusals(tmp_path))
    assert receiver.ids() == Counter(accepted)


def _wait_for_load(producers: list[FleetProducer]) -> None:
    """Until each has posted for a while more."""
    target = [len(one.accepted) + max(10, int(LOAD_SECONDS * 20)) for one in producers]
    wait_until(
        lambda: all(len(one.accepted) >= least for one, least in zip(producers, target, strict=True)),
        seconds=30 + 10 * LOAD_SECONDS,
        what="the load",
    )


def test_nginx_finds_the_daemon_by_path_by_name_and_by_id(tmp_path: Path) -> None:
    """What it can: it does not look into bodies, and says so."""
    with Fleet(tmp_path) as fleet, nginx(fleet) as port, Api(port) as api:
        by_path = owners(port, CLIENTS[:60])
        assert by_path == owners(port, CLIENTS[:60])
        client_id = CLIENTS[0]
        assert api.ask("PUT", f"/v1/clients/{client_id}", {"url": "http://127.0.0.1:1/"}).status == 201
        posted = api.ask("POST", f"/v1/clients/{client_id}/events", {"type": "t", "payload": {}})
        assert (posted.status, posted.headers["hookd-shard"]) == (202, by_path[client_id])
        found = api.ask("GET", f"/v1/events/{posted.json['id']}")
        assert (found.status, found.headers["hookd-shard"]) == (200, by_path[client_id])
        assert len(api.get(f"/v1/events?client_id={client_id}")["events"]) == 1
        for name in SHARDS:
            assert api.get(f"/shard/{name}/v1/status")["shard"] == name
        not_here = {Route("POST", "/v1/events"), Route("GET", "/readyz")}
        assert not list(misled(api, _one_of_each(by_path), not_here=not_here))
        gone = by_path[client_id]
        fleet.kill(gone)
        after = owners(port, CLIENTS[:60])
        assert {one for one in after if after[one] != by_path[one]} == {one for one in after if by_path[one] == gone}


def test_proxies_name_the_same_daemons() -> None:
    """Those of hookd@8081, hookd@8082 and hookd@8083, wherever a name stands."""
    envoy = yaml.safe_load((CONFIG / "envoy.yaml").read_text())
    clusters = {one["name"]: one for one in envoy["static_resources"]["clusters"]}
    assert set(clusters) == {"hookd", *(f"shard-{name}" for name in SHARDS)}
    hosts = clusters["hookd"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ports = [one["endpoint"]["address"]["socket_address"]["port_value"] for one in hosts]
    assert ports == [int(name) for name in SHARDS]
    for file in ("haproxy.cfg", "nginx.conf"):
        text = (CONFIG / file).read_text()
        assert set(re.findall(r"shard-([0-9]+)", text)) == set(SHARDS)
        assert set(re.findall(r"server (?:\S+ )?127\.0\.0\.1:([0-9]+)", text)) == set(SHARDS)


def test_envoy_sends_every_route_where_it_belongs(port: int) -> None:
    """By its file, read as Envoy reads it."""
    with Api(port) as api:
        document = api.get(f"/shard/{SHARDS[0]}/openapi.json")
    envoy = yaml.safe_load((CONFIG / "envoy.yaml").read_text())
    assert not list(misled_by_envoy(envoy, document))
