"""HTTP as a producer or an operator speaks it to the daemon, by hand: over links in memory, kept or not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from tests.simulation.plan import chance
from tests.simulation.wire import End

if TYPE_CHECKING:
    from tests.simulation.world import World

# Longer than anything that the daemon may take for an answer, a test of an endpoint included.
ANSWER_SECONDS_MAX = 90.0


@dataclass(frozen=True)
class Answered:
    status: int
    fields: dict[str, str]
    text: bytes

    @property
    def body(self) -> Any:
        return msgspec.json.decode(self.text)

    @property
    def problem(self) -> str:
        """The slug of its type."""
        return str(self.body["type"]).rpartition("/")[2] if self.status >= 400 else ""


class Callers:
    def __init__(self, world: "World") -> None:
        self.world = world
        self._links = 0
        self._kept: list[tuple[Any, End]] = []  # with the run that they belong to

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        media_type: str = "application/json",
        *,
        traceparent: str = "",
        then: Callable[[Any], None] | None = None,
    ) -> Answered | None:
        """The answer, or None where the daemon went away. `then` sees it before anything else can happen."""
        run = self.world.run
        try:
            end, is_kept = self._connect()
        except ConnectionRefusedError:
            return None
        try:
            await end.send_all(request(method, path, body, media_type, traceparent))
            with trio.move_on_after(ANSWER_SECONDS_MAX) as scope:
                answered = await self._read(end, path)
            if scope.cancelled_caught:
                self.world.fail("S12", f"{method} {path} was not answered within {ANSWER_SECONDS_MAX:g} s")
                return None
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            end.close()
            if is_kept and not run.is_over and run.stop_asked_at is None:
                # The keep-alive had run out.
                return await self.ask(method, path, body, media_type, traceparent=traceparent, then=then)
            if run.stop_asked_at is None and not run.is_over:
                self.world.fail("S8", f"{method} {path} was cut without an answer")
            return None
        if answered.status == 500 and run.ports.shaken_at is not None:  # what became of it is not known
            end.close()
            return None
        if answered.fields.get("connection") == "close":
            end.close()
        else:
            self._kept.append((run, end))
        self._check_secrets(path, answered)
        if then is not None and answered.status == 200 and run is self.world.run:
            then(answered.body)
        return answered

    async def send_only(self, sent: bytes, *, linger_seconds: float) -> None:
        """Sends and goes away without an answer."""
        try:
            end, _ = self._connect()
            await end.send_all(sent)
            await trio.sleep(linger_seconds)
            end.close()
        except (ConnectionRefusedError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def _connect(self) -> tuple[End, bool]:
        run = self.world.run
        while self._kept:
            of, end = self._kept.pop()
            if of is run and not end.has_news:
                return end, True
            end.close()
        self._links += 1
        draw = chance(self.world.plan.seed, "caller", self._links)
        return run.listener.connect(self.world.plan.capacity, draw), False

    async def _read(self, end: End, path: str) -> Answered:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await self._more(end)
        head, _, text = received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(fields.get("content-length", "0"))
        while len(text) < length:
            text += await self._more(end)
        self.world.trace("answer", path, lines[0], text.decode())
        return Answered(int(lines[0].split(" ")[1]), fields, text)

    async def _more(self, end: End) -> bytes:
        data = await end.receive_some(65536)
        if not data:
            raise EOFError
        return data

    def _check_secrets(self, path: str, answered: Answered) -> None:
        if b"URL-CANARY" in answered.text:
            self.world.fail("S11", f"{path} shows a URL's token: {answered.text[:300]!r}")
        made_here = path.endswith("/rotate-secret") or "end_unsettled" in path
        if b"whsec_" in answered.text and not made_here:
            self.world.fail("S11", f"{path} shows a secret")
        if answered.status >= 400 and b"PAYLOAD-CANARY" in answered.text:
            self.world.fail("S11", f"{path} shows a payload in a problem")


def request(method: str, path: str, body: bytes, media_type: str = "application/json", traceparent: str = "") -> bytes:
    fields = f"host: localhost\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}"
    if traceparent:
        fields += f"\r\ntraceparent: {traceparent}\r\ntracestate: a=CANARY\r\nbaggage: a=CANARY"
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body
