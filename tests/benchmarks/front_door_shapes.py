"""What peers do at the front door: each route of the daemon in four shapes, and connections that nobody uses.

The routes are read from the running daemon's own description, so that a new one is attacked as soon as it is there:

 * slow: half a request and no more; and fifty requests at once whose answers nobody reads.
 * large: the longest body there may be; the longest head where there is none.
 * deep: levels of JSON; of a path, of a query, of a header's list.
 * many: as many items as a body may have, pages as long as they may be, thirty that ask all the time.
"""

import itertools
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import trio

MIB = 2**20
BODY_BYTES = 16 * MIB - 100
HEAD_BYTES = 15_000
DEEP_BYTES = 2 * MIB
JSON, NDJSON = "application/json", "application/x-ndjson"
CLIENT = "many"
IDS = {"client_id": CLIENT, "event_id": "e0", "endpoint_id": "default", "slug": "full"}
# What would end the others' work is done to a client of its own.
ELSEWHERE = {"DELETE /v1/clients/{client_id}": "spare", "PUT /v1/clients/{client_id}": "spare"}
DEFINITION = {
    "endpoints": [
        {"id": f"e{n}", "url": "https://e.example/" + "x" * 500, "headers": {f"x-{m}": "x" * 500 for m in range(20)}}
        for n in range(16)
    ]
}
BODIES_OF_MANY: Mapping[str, Any] = {
    "PUT /v1/clients/{client_id}": DEFINITION,
    "POST /v1/clients/{client_id}/replay": {"dry_run": True},
}

Attack = Callable[[int], Awaitable[None]]


class Route(NamedTuple):
    method: str
    path: str  # as it is described
    parameters: Sequence[str]
    examples: Mapping[str, Any]  # a body by its media type; none: it takes no body

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        return self.path.format(**IDS | {"client_id": ELSEWHERE.get(self.name, CLIENT)})


def routes_of(description: Mapping[str, Any]) -> Iterator[Route]:
    """Of an OpenAPI document."""
    for path, methods in description["paths"].items():
        for method, one in methods.items():
            names = [parameter["name"] for parameter in one.get("parameters", []) if parameter["in"] == "query"]
            contents = one.get("requestBody", {}).get("content", {})
            yield Route(method.upper(), path, names, {kind: _example(found) for kind, found in contents.items()})


def _example(content: Mapping[str, Any]) -> Any:
    """The longest kind, where a body may be of several."""
    if "example" in content:
        return content["example"]
    return list(content["examples"].values())[-1]["value"]


def shapes_of(route: Route) -> Iterator[tuple[str, Callable[[], Attack]]]:
    yield "slow", lambda: slow(route)
    yield "large", lambda: asking(large(route), peers=4)
    yield "deep", lambda: asking(deep(route), peers=4)
    yield "many", lambda: asking(busy(route), peers=8 if route.examples else 30)


def connections() -> Iterator[tuple[str, Callable[[], Attack]]]:
    """What belongs to no route."""
    livez, body = request("GET", "/livez"), request("POST", "/v1/events/batch", b"[" + b" " * 100_000, length=MIB)
    yield "1,100 idle", lambda: holding([livez], peers=1100, reads=True)
    yield "1,100 heads without an end", lambda: holding([b"GET /v1/"], peers=1100)
    yield "900 bodies without an end", lambda: holding([body], peers=900)
    yield "300 pages not read", lambda: holding([request("GET", "/v1/events?limit=1000")], peers=300)


def slow(route: Route) -> Attack:
    kind, body = next(iter(bodies_of_many(route)), ("", b""))
    whole = request(route.method, route.target, body, kind)
    half = whole[: -max(1, len(body) // 2)] if body else whole[:-4]
    return holding([half, whole * max(1, min(50, 200_000 // len(whole)))], peers=100)


def large(route: Route) -> list[bytes]:
    if not route.examples:
        target, long = route.target, b"x" * HEAD_BYTES
        lines = [b"x-%d: %s" % (number, long[:100]) for number in range(110)]
        return [
            request(route.method, f"{target}?{long.decode()}=1"),
            request(route.method, f"{target}{long.decode()}"),
            request(route.method, target, headers=lines),
            request(route.method, target, b" " * MIB),
        ]
    return [request(route.method, route.target, body, kind) for kind, body in _long_bodies(route)]


def _long_bodies(route: Route) -> Iterator[tuple[str, bytes]]:
    for kind, example in route.examples.items():
        if kind == NDJSON:
            line = example.splitlines()[0].encode() + b"\n"
            for repeated in (b"0\n", b"\n", line):
                yield kind, filled(b"", repeated, b"")
        elif isinstance(example, list):
            for repeated in (b",0", b",[]", b',{"a":0}'):
                yield kind, filled(b"[" + repeated[1:], repeated, b"]")
        if kind == JSON:  # also where it should be an array
            name = next(iter(example[0] if isinstance(example, list) else example)).encode()
            yield kind, filled(b'{"%s":[0' % name, b",0", b"]}")
            yield kind, filled(b'{"payload":"', b"x" * 64, b'"}')


def deep(route: Route) -> list[bytes]:
    if not route.examples:
        commas = [b"accept: " + b"a/b;q=0.1," * 1400]
        return [
            request(route.method, route.target + "/a" * (HEAD_BYTES // 2)),
            request(route.method, f"{route.target}?{'a=1&' * (HEAD_BYTES // 4)}"),
            request(route.method, f"{route.target}?a={'%5B' * (HEAD_BYTES // 3)}"),
            request(route.method, route.target, headers=commas),
        ]
    return [request(route.method, route.target, body, kind) for kind, body in _deep_bodies(route)]


def _deep_bodies(route: Route) -> Iterator[tuple[str, bytes]]:
    nested = b"[" * 990 + b"[]," * 1000 + b"0" + b"]" * 990
    for kind, example in route.examples.items():
        is_lines = kind == NDJSON
        item = example if isinstance(example, dict) else {"client_id": CLIENT, "type": "t", "payload": 0}
        name = "payload" if "payload" in item else next(iter(item))
        wrapped = (
            json.dumps(item | {name: 0})
            .encode()
            .replace(b'"%s": 0' % name.encode(), b'"%s": %s' % (name.encode(), nested))
        )
        if is_lines:
            yield kind, filled(b"", wrapped + b"\n", b"", DEEP_BYTES)
        else:
            yield kind, filled(b"[0", b"," + wrapped, b"]", DEEP_BYTES) if isinstance(example, list) else wrapped
        yield kind, b"[" * DEEP_BYTES
        yield kind, b'{"a":' * (DEEP_BYTES // 5)


def busy(route: Route) -> list[bytes]:
    if not route.examples:
        query = "&".join(f"{name}=1000" for name in route.parameters if name == "limit")
        asked = [request(route.method, f"{route.target}?{query}" if query else route.target)]
        if route.name in ELSEWHERE:
            asked.append(request("PUT", route.target, json.dumps(DEFINITION).encode()))
        if "client_id" in route.parameters:
            asked.append(request(route.method, f"{route.target}?{query}&client_id={CLIENT}"))
        if "status" in route.parameters:
            asked.append(request(route.method, f"{route.target}?{query}&status=failed"))
        return asked
    return [request(route.method, route.target, body, kind) for kind, body in bodies_of_many(route)]


def bodies_of_many(route: Route) -> Iterator[tuple[str, bytes]]:
    for kind, example in route.examples.items():
        if route.name in BODIES_OF_MANY:
            yield kind, json.dumps(BODIES_OF_MANY[route.name]).encode()
        elif kind == NDJSON:
            yield kind, _ours(example.splitlines()[0].encode() + b"\n") * 1000
        elif isinstance(example, list):
            yield kind, json.dumps([json.loads(_ours(json.dumps(example[0]).encode()))] * 1000).encode()
        else:
            yield kind, _ours(json.dumps(example).encode())


def _ours(body: bytes) -> bytes:
    """Of a client that is there."""
    return body.replace(b"acme", CLIENT.encode())


def request(
    method: str,
    target: str,
    body: bytes = b"",
    kind: str = JSON,
    *,
    length: int | None = None,
    headers: Sequence[bytes] = (),
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1".encode(), b"host: localhost", *headers]
    if body or length:
        lines += [f"content-type: {kind}".encode(), b"content-length: %d" % (len(body) if length is None else length)]
    return b"\r\n".join([*lines, b"", b""]) + body


def filled(before: bytes, repeated: bytes, behind: bytes, length: int = BODY_BYTES) -> bytes:
    return before + repeated * ((length - len(before) - len(behind)) // len(repeated)) + behind


def asking(requests: Sequence[bytes], *, peers: int) -> Attack:
    """Peers that ask one of these after the other, and read the answers."""

    async def peer(port: int, number: int) -> None:
        mine = itertools.islice(itertools.cycle(requests), number, None)
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    for asked in mine:
                        await stream.send_all(asked)
                        if not await read_answer(stream):
                            break
            except (trio.BrokenResourceError, OSError):
                await trio.sleep(0.01)

    return many(peer, peers)


async def read_answer(stream: trio.SocketStream) -> bool:
    """Head and body; False where the daemon ends the connection behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(MIB)
        if not more:
            return False
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    head = head.lower()
    left = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0") - len(body)
    while left > 0 and (more := await stream.receive_some(MIB)):
        left -= len(more)
    return left <= 0 and b"connection: close" not in head


def holding(sent: Sequence[bytes], *, peers: int, reads: bool = False) -> Attack:
    """Peers that send one of these, do not read (or read one answer) and stay. One that is cut off comes again."""

    async def peer(port: int, number: int) -> None:
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    await stream.send_all(sent[number % len(sent)])
                    if reads:
                        await read_answer(stream)
                        await stream.receive_some(1)
                        await trio.sleep(1)
                    else:
                        await trio.sleep_forever()
            except (trio.BrokenResourceError, OSError):
                await trio.sleep(0.1)

    return many(peer, peers)


def many(peer: Callable[[int, int], Awaitable[None]], peers: int) -> Attack:
    async def attack(port: int) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(peers):
                nursery.start_soon(peer, port, number)

    return attack
