"""What breaks: a proxy before a real Redis and a small daemon, each of which can fail at any step in any way.

A fault is armed for a step, and hits once. A step of Redis is a command, or the script that it runs; one of the daemon
is a route. All of it lives in the loop of the test, so whatever the relay raises is the test's to see.
"""

import hashlib
import json
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import trio
from hookd.relay import scripts

SCRIPTS = {
    hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(): name
    for name, text in vars(scripts).items()
    if name.isupper() and not name.startswith("_")
}


class Fault(NamedTuple):
    """What becomes of one request.

    `is_done`: it is passed on, and its true answer is there. `answer` takes that answer's place, or what `cut` makes of
    it. `ends` says what becomes of the connection: "stays", "closes", "resets" or "hangs".
    """

    name: str
    answer: bytes | None = None
    is_done: bool = False
    cut: Callable[[bytes], bytes] = bytes
    ends: str = "stays"

    def __str__(self) -> str:
        return self.name


TRANSPORT = (
    Fault("closes before", b"", ends="closes"),
    Fault("closes after it is done", b"", is_done=True, ends="closes"),
    Fault("resets before", b"", ends="resets"),
    Fault("resets after it is done", b"", is_done=True, ends="resets"),
    Fault("half an answer", is_done=True, cut=lambda data: data[: len(data) // 2], ends="closes"),
    Fault("half an answer, then a reset", is_done=True, cut=lambda data: data[: len(data) // 2], ends="resets"),
    Fault("all but the last byte", is_done=True, cut=lambda data: data[:-1], ends="closes"),
    Fault("hangs", b"", ends="hangs"),
    Fault("hangs in its answer", is_done=True, cut=lambda data: data[: len(data) // 2], ends="hangs"),
    Fault("the answer, then the end", is_done=True, ends="closes"),
    Fault("the answer, then a reset", is_done=True, ends="resets"),
)


class Breaking:
    """A server with steps. `armed` is what breaks next, and where; `hits` counts what has."""

    def __init__(self) -> None:
        self.port = 0
        self.armed: tuple[str, Fault] | None = None
        self.hits = 0
        self._hit = trio.Event()
        self._streams: set[trio.SocketStream] = set()

    def arm(self, step: str, fault: Fault) -> None:
        self.armed = step, fault
        self._hit = trio.Event()

    async def hit_within(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._hit.wait()

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def sever(self) -> None:
        """All connections that there are."""
        for stream in self._streams:
            with suppress(OSError):  # it has just ended
                stream.socket.shutdown(socket.SHUT_RDWR)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        self._streams.add(stream)
        try:
            await self.converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, Gone):
            pass  # either side has gone
        finally:
            self._streams.discard(stream)
            await trio.aclose_forcefully(stream)

    async def converse(self, stream: trio.SocketStream) -> None:
        raise NotImplementedError

    def due(self, step: str) -> Fault | None:
        if self.armed is None or self.armed[0] != step:
            return None
        _, fault = self.armed
        self.armed = None
        self.hits += 1
        self._hit.set()
        return fault

    async def end(self, stream: trio.SocketStream, how: str) -> None:
        if how == "hangs":
            while await stream.receive_some(65536):
                pass  # it hears, and says nothing
        if how == "resets":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "stays":
            raise Gone


class Gone(Exception):
    """A peer has hung up, or is to hear that we have."""


class Bytes:
    """What comes on a stream, piece by piece; raises Gone at its end."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = bytearray()

    async def exactly(self, size: int) -> bytes:
        while len(self._data) < size:
            await self._more()
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    async def until(self, end: bytes) -> bytes:
        while (at := self._data.find(end)) < 0:
            await self._more()
        return await self.exactly(at + len(end))

    async def _more(self) -> None:
        data = await self._stream.receive_some(65536)
        if not data:
            raise Gone
        self._data += data


class BreakingRedis(Breaking):
    """Passes on one command after the other."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._to = port

    async def converse(self, stream: trio.SocketStream) -> None:
        near = Bytes(stream)
        async with await trio.open_tcp_stream("127.0.0.1", self._to) as other:
            far = Bytes(other)
            while True:
                words, data = await _command(near)
                fault = self.due(_step(words))
                if fault is None:
                    await other.send_all(data)
                    await stream.send_all(await _answer(far))
                    continue
                answer = b""
                if fault.is_done:
                    await other.send_all(data)
                    answer = await _answer(far)
                if sent := (fault.cut(answer) if fault.answer is None else fault.answer):
                    await stream.send_all(sent)
                await self.end(stream, fault.ends)


async def _command(near: Bytes) -> tuple[list[bytes], bytes]:
    """An array of texts: its words, and all of it as it came."""
    head = await near.until(b"\r\n")
    words, parts = [], [head]
    for _ in range(int(head[1:])):
        size = await near.until(b"\r\n")
        word = await near.exactly(int(size[1:]) + 2)
        words.append(word[:-2])
        parts += [size, word]
    return words, b"".join(parts)


async def _answer(far: Bytes) -> bytes:
    """One answer of RESP3, whole."""
    head = await far.until(b"\r\n")
    kind = head[:1]
    if kind in b"$=!":
        return head + (await far.exactly(int(head[1:]) + 2) if head != b"$-1\r\n" else b"")
    if kind in b"*>~%":
        count = max(int(head[1:]), 0) * (2 if kind == b"%" else 1)
        return head + b"".join([await _answer(far) for _ in range(count)])
    return head


def _step(words: list[bytes]) -> str:
    """`FETCH` for the script of that name, `eval FETCH` for its text, else the command."""
    name = words[0].decode().upper()
    if name == "EVALSHA":
        return SCRIPTS[words[1].decode()]
    if name == "EVAL":
        return "EVAL"
    return f"{name} {words[1].decode().upper()}" if name in ("CLIENT", "XGROUP") else name


class BreakingDaemon(Breaking):
    """Takes events, and settles each as its client's name says.

    `acme` is delivered at once, `gone` is exhausted, `known` was exhausted before, `full` has room when `has_room`,
    `new` is known once it was put.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_room = False
        self.seen: dict[str, int] = {}  # how often each event was taken, by its id
        self.clients: set[str] = set()
        self._settlements: list[dict[str, Any]] = []
        self._news = trio.Event()

    async def converse(self, stream: trio.SocketStream) -> None:
        near = Bytes(stream)
        while True:
            method, path, body = await _request(near)
            step, reply = self._routed(method, path, body)
            fault = self.due(step)
            answer = b""
            if fault is None or fault.is_done:
                answer = _response(*await reply())
            if fault is not None:
                answer = fault.cut(answer) if fault.answer is None else fault.answer
            await stream.send_all(answer)
            if fault is not None:
                await self.end(stream, fault.ends)

    def _routed(self, method: str, path: str, body: bytes) -> tuple[str, Callable[[], Any]]:
        route, _, query = path.partition("?")
        parts = route.split("/")
        if route == "/v1/settlements":
            return "settlements", lambda: self._page(dict(one.split("=") for one in query.split("&")))
        if route == "/v1/events/lookup":
            return "lookup", lambda: self._look_up(json.loads(body)["events"])
        if method == "PUT":
            return "put", lambda: self._put(parts[3])
        if method == "POST":
            return "post", lambda: self._take(parts[3], json.loads(body))
        return "event", self._event

    async def _page(self, query: dict[str, str]) -> tuple[int, Any]:
        at = len(self._settlements) if query.get("cursor") == "now" else int(query.get("cursor", 0))
        with trio.move_on_after(float(query["wait_seconds"])):
            while at == len(self._settlements):
                await self._news.wait()
        found = self._settlements[at : at + int(query["limit"])]
        return 200, {"run_id": "run", "settlements": found, "next_cursor": str(at + len(found)), "gap": False}

    async def _look_up(self, events: list[dict[str, str]]) -> tuple[int, Any]:
        settled = {one["event_id"]: one["status"] for one in self._settlements}
        return 200, {"events": [{"status": settled.get(one["id"])} for one in events]}

    async def _put(self, client_id: str) -> tuple[int, Any]:
        self.clients.add(client_id)
        return 201, {}

    async def _event(self) -> tuple[int, Any]:
        return 200, {"deliveries": [{"reason": None}, {"reason": "gone"}]}

    async def _take(self, client_id: str, events: list[dict[str, Any]]) -> tuple[int, Any]:
        return 202, {"events": [self._one(client_id, event["id"]) for event in events]}

    def _one(self, client_id: str, event_id: str) -> dict[str, Any]:
        if client_id == "full" and not self.has_room:
            return {"problem": {"type": "/problems/client-full", "detail": "full", "retry_after_seconds": 1}}
        if client_id == "new" and client_id not in self.clients:
            return {"problem": {"type": "/problems/unknown-client", "detail": "unknown"}}
        self.seen[event_id] = self.seen.get(event_id, 0) + 1
        if client_id == "known":
            return {"status": "exhausted"}
        ending = {"status": "exhausted", "reason": "gone"} if client_id == "gone" else {"status": "delivered"}
        self._settlements.append({"event_id": event_id, "client_id": client_id, "reason": None} | ending)
        self._news.set()
        self._news = trio.Event()
        return {"status": "pending"}


async def _request(near: Bytes) -> tuple[str, str, bytes]:
    head = (await near.until(b"\r\n\r\n")).decode()
    method, path, _ = head.split(" ", 2)
    [size] = [line.partition(":")[2] for line in head.lower().splitlines() if line.startswith("content-length:")]
    return method, path, await near.exactly(int(size))


def _response(status: int, content: Any) -> bytes:
    return response(status, json.dumps(content).encode())


def response(status: int, body: bytes, *headers: str) -> bytes:
    """As it stands on the wire."""
    head = [f"HTTP/1.1 {status} So", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body
