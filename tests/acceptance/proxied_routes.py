"""Where each route of the API belongs, when several daemons stand behind a proxy; read off the OpenAPI document.

So a route that is new is asked for, too. What it answers is no matter here: the header `hookd-shard` says who did.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

from tests.acceptance.fleet import SHARDS
from tests.acceptance.harness import Answer, Api

PARAMETERS = {"event_id": "evt_{shard}_00", "endpoint_id": "default", "slug": "full"}
# What the proxies answer themselves; and what every daemon answers alike.
OWN = frozenset({"/livez", "/readyz"})
ALIKE = frozenset({"/problems/{slug}", "/openapi.json"})


class Route(NamedTuple):
    """Of the document: its path has its parameters' names in braces."""

    method: str
    path: str

    def target(self, client_id: str, shard: str) -> str:
        """Of this client; where an event's id is without a client, of an event that this daemon named."""
        values = {name: value.format(shard=shard) for name, value in PARAMETERS.items()}
        path = self.path.format(**values, client_id=client_id)
        return f"{path}?client_id={client_id}" if (self.method, path) == ("GET", "/v1/events") else path

    def owner(self, home: str, shard: str) -> str | None:
        """The daemon that it is for, of the client's own and the one that named the event. None: it speaks of one
        process, and has to name it."""
        if self.path.startswith("/v1/clients/{client_id}") or self.path == "/v1/events":
            return home
        return shard if self.path.startswith("/v1/events/{event_id}") else None


def routes_of(document: Mapping[str, Any]) -> list[Route]:
    found = [Route(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    unknown = {name for one in found for name in re.findall(r"{(\w+)}", one.path)} - {*PARAMETERS, "client_id"}
    assert len(found) >= 30
    assert not unknown, "say what stands for it"
    return found


def misled(api: Api, homes: Mapping[str, str], *, not_here: Set[Route] = frozenset()) -> Iterator[str]:
    """What the proxy sends elsewhere than it belongs. `homes`: the daemon of each client that is asked for. What is
    `not_here` this proxy refuses.
    """
    routes = routes_of(api.get(f"/shard/{SHARDS[0]}/openapi.json"))
    for (client_id, home), shard in zip(homes.items(), SHARDS, strict=True):
        for one in routes:
            whole = one.target(client_id, shard)
            named = api.ask(one.method, f"/shard/{shard}{whole}")
            answer = api.ask(one.method, whole, {"client_id": client_id} if one.method == "POST" else None)
            seen = answer.headers.get("hookd-shard")
            if named.headers.get("hookd-shard") != shard:
                yield f"{one.method} /shard/{shard}{whole}: {named.status}"
            elif not _is_right(one, answer, seen, None if one in not_here else one.owner(home, shard), not_here):
                yield f"{one.method} {whole}: {answer.status} of {seen}"


def _is_right(route: Route, answer: Answer, seen: str | None, owner: str | None, not_here: Set[Route]) -> bool:
    if owner is not None:
        return seen == owner
    if route.path in ALIKE:
        return answer.status == 200 and seen in SHARDS
    if route.path in OWN and route not in not_here:
        return answer.status == 200 and seen is None
    return seen is None and "/shard/NAME/" in answer.json["detail"]


def misled_by_envoy(envoy: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """The same of envoy.yaml, which no Envoy runs here: the client's cluster is chosen by its id, cut from the path."""
    manager = envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    for one, shard in itertools.product(routes_of(document), SHARDS):
        path = one.target("acme", shard).partition("?")[0]
        wanted = "hookd" if one.path in ALIKE else one.owner("hookd", f"shard-{shard}")
        if one.path == "/v1/events":  # it looks neither into bodies nor into queries
            wanted = None
        found = _matched(routes, path)
        if found.get("cluster") != wanted:
            yield f"{one.method} {path}: {found}, wanted {wanted}"
        elif wanted == "hookd" and one.path not in ALIKE and _hashed(found, path) != "acme":
            yield f"{one.method} {path}: hashed by more than the client's id"
        if _matched(routes, f"/shard/{shard}{path}").get("cluster") != f"shard-{shard}":
            yield f"{one.method} /shard/{shard}{path}"


def _hashed(route: Mapping[str, Any], path: str) -> str:
    rewrite = route["hash_policy"][0]["header"]["regex_rewrite"]
    return re.sub(rewrite["pattern"]["regex"], rewrite["substitution"], path)


def _matched(routes: Sequence[Mapping[str, Any]], path: str) -> Mapping[str, Any]:
    """The first decides. A regular expression has to match the whole path. Empty: it answers by itself."""
    for one in routes:
        match = one["match"]
        if "prefix" in match:
            is_match = path.startswith(match["prefix"])
        elif "path" in match:
            is_match = path == match["path"]
        else:
            is_match = re.fullmatch(match["safe_regex"]["regex"], path) is not None
        if is_match:
            return dict(one.get("route", {}))
    raise AssertionError(f"no route for {path}")
