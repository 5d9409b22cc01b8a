"""The table of faults: what a receiver may do with an attempt, and with the daemon's request.

`FAULTS` names them all. Those of `NETWORK` happen before a request (network.py); on a kept link they show as a reset
before the answer, so that the daemon connects anew and meets them. To add one: a function and a row.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import trio

from tests.simulation.model import Wired
from tests.simulation.plan import HOLDS_LONG, STRANGE, chance
from tests.simulation.proxies import PROXY_BEHAVIOURS, bad_gateway, tunnel
from tests.simulation.strange_answers import STRANGE_ANSWERS
from tests.simulation.talk import Talk
from tests.simulation.wire import End

NETWORK = ("dns_slow", "dns_hangs", "dns_fails", "rebound", "refused", "black_hole", "one_family", "connects_slowly")
assert {*STRANGE_ANSWERS, "moves", "other_family"} == {*STRANGE}
HEAD_BYTES_MAX = 65536


# Each returns whether the link stays open.
Fault = Callable[[Talk], Awaitable[bool]]


async def _ok(talk: Talk) -> bool:
    await talk.read_body()
    await trio.sleep(talk.latency)
    await talk.answer(talk.draw.choice((200, 200, 201, 202, 204, 299)), body=b"")
    return True


async def _slow(talk: Talk) -> bool:
    await talk.read_body()
    await trio.sleep(talk.draw.uniform(0.5, 18))
    await talk.answer(200)
    return True


def _status(*codes: int) -> Fault:
    async def answer(talk: Talk) -> bool:
        await talk.read_body()
        await trio.sleep(talk.latency)
        await talk.answer(talk.draw.choice(codes), body=b"x" * talk.draw.choice((0, 10, 3000)))
        return True

    return answer


async def _retry_after(talk: Talk) -> bool:
    await talk.read_body()
    date = _http_date(talk.wall() + talk.draw.randint(-5, 40))
    other = _other_date(talk.wall() + talk.draw.randint(-5, 40), talk.draw.choice(OTHER_DATES))
    said = talk.draw.choice(("0", "1", "3", "10", "30", date, date, "soon", "-1", other, "2.0", "5, 5", "5, 9"))
    await talk.answer(talk.draw.choice((429, 503, 429, 200, 400)), fields=f"retry-after: {said}\r\n")
    return True


def _http_date(wall: float) -> str:
    from email.utils import formatdate

    return formatdate(int(wall), usegmt=True)


async def _retry_after_long(talk: Talk) -> bool:
    """Longer than most deliveries may live: in seconds, as the epoch's, as a date."""
    await talk.read_body()
    wall = talk.wall() + talk.draw.choice((60, 1800, 3600, 7200))
    dates = [_http_date(wall), *(_other_date(wall, form) for form in OTHER_DATES)]
    said = talk.draw.choice(("60", "600", "3600", "60000", "1800.5", str(int(wall)), *dates))
    await talk.answer(talk.draw.choice((429, 503, 404)), fields=f"retry-after: {said}\r\n")
    return True


# RFC 850, asctime.
OTHER_DATES = ("%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")


def _other_date(wall: float, form: str) -> str:
    return datetime.fromtimestamp(int(wall), UTC).strftime(form)


async def _hangs(talk: Talk) -> bool:
    await talk.read_body()
    await talk.until_closed()
    return False


async def _never_reads(talk: Talk) -> bool:
    await trio.sleep(talk.draw.uniform(1, 60))
    talk.end.abort()
    return False


async def _resets_in_request(talk: Talk) -> bool:
    await talk.read_body(most=talk.draw.randint(0, 100))
    talk.end.abort()
    return False


async def _resets_in_answer(talk: Talk) -> bool:
    await talk.read_body()
    await talk.end.send_all(b"HTTP/1.1 200 OK\r\ncontent-le"[: talk.draw.randint(0, 27)])
    await trio.sleep(talk.draw.choice((0, 0.1)))
    if talk.draw.random() < 0.5:
        talk.end.abort()
    return False


async def _cuts_body(talk: Talk) -> bool:
    """The head has decided."""
    await talk.read_body()
    await talk.answer(talk.draw.choice((200, 500)), body=b"half", length=8)
    await trio.sleep(talk.draw.choice((0, 0.1)))
    return False


async def _drips_head(talk: Talk) -> bool:
    await talk.read_body()
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x-drip: 1\r\n" * 20:
        await trio.sleep(1)
        await talk.end.send_all(bytes([byte]))
    return False


async def _drips_body(talk: Talk) -> bool:
    """The verdict is out with the head; the excerpt may take until the timeout."""
    await talk.read_body()
    await talk.answer(talk.draw.choice((200, 503)), body=b"", length=10_000)
    for _ in range(100):
        await trio.sleep(0.5)
        await talk.end.send_all(b"x")
    return False


async def _garbage(talk: Talk) -> bool:
    await talk.read_body()
    lines = (
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"\x16\x03\x01\x00\x00\x00",
        b"200 OK\r\n\r\n",
        b"\r\n" * 99,
    )
    await talk.end.send_all(talk.draw.choice(lines) + b"\x00" * 50)
    await talk.until_closed()
    return False


async def _huge_head(talk: Talk) -> bool:
    await talk.read_body()
    await talk.end.send_all(b"HTTP/1.1 200 OK\r\n" + b"x-more: " + b"y" * 200_000)
    await talk.until_closed()
    return False


async def _interim(talk: Talk) -> bool:
    await talk.read_body()
    before = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * talk.draw.randint(1, 3)
    await talk.answer(talk.draw.choice((200, 500)), before=before)
    return True


async def _only_interim(talk: Talk) -> bool:
    await talk.read_body()
    await talk.end.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
    await trio.sleep(talk.draw.choice((0, 1)))
    return False


async def _plants(talk: Talk) -> bool:
    """An answer to a request that was never made stands behind the real one."""
    await talk.read_body()
    await talk.answer(talk.draw.choice((500, 200, 404)), behind=b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    return True


async def _plants_late(talk: Talk) -> bool:
    """It comes while the link is idle. Once there is another request it would be an answer to that one."""
    await talk.read_body()
    await talk.answer(talk.draw.choice((500, 404)))
    exchange = talk.exchange
    await trio.sleep(talk.draw.choice((0.001, 0.5)))
    if talk.exchange is exchange:
        await talk.end.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    return True


async def _closes(talk: Talk) -> bool:
    await talk.read_body()
    await talk.answer(talk.draw.choice((200, 200, 500)), fields=talk.draw.choice(("connection: close\r\n", "")))
    await trio.sleep(talk.draw.choice((0, 0.5)))
    return False


async def _answers_early(talk: Talk) -> bool:
    await talk.answer(talk.draw.choice((200, 200, 503)))
    await trio.sleep(talk.draw.choice((0, 0.2)))
    if talk.draw.random() < 0.3:
        talk.end.abort()
        return False
    await talk.read_body()
    return True


async def _resets_kept(talk: Talk) -> bool:
    """What a trouble with connecting is on a link that is there already."""
    talk.end.abort()
    return False


BEHAVIOURS: dict[str, Fault] = {
    "ok": _ok,
    "slow": _slow,
    "5xx": _status(500, 502, 504, 599),
    "4xx": _status(400, 401, 404, 301, 302),
    "429": _status(429, 503),
    "retry_after": _retry_after,
    HOLDS_LONG: _retry_after_long,
    "410": _status(410),
    "hangs": _hangs,
    "never_reads": _never_reads,
    "resets_in_request": _resets_in_request,
    "resets_in_answer": _resets_in_answer,
    "cuts_body": _cuts_body,
    "drips_head": _drips_head,
    "drips_body": _drips_body,
    "garbage": _garbage,
    "huge_head": _huge_head,
    "interim": _interim,
    "only_interim": _only_interim,
    "plants": _plants,
    "plants_late": _plants_late,
    "closes": _closes,
    "answers_early": _answers_early,
    # The look-up or dial was slow and then good.
    "dns_slow": _ok,
    "one_family": _ok,
    "connects_slowly": _ok,
    "other_family": _ok,
    "moves": _ok,
    **STRANGE_ANSWERS,
}
FAULTS = tuple(sorted({*BEHAVIOURS, *NETWORK} - {"ok"}))


class Receivers:
    """All of them; `wall` is the world's clock, which they share."""

    def __init__(self, seed: int, latency: dict[tuple[str, str], float], wall: Callable[[], float]) -> None:
        self._seed = seed
        self._latency = latency
        self._wall = wall

    async def receive(self, wired: Wired, end: End) -> None:
        draw = chance(self._seed, "receiver", wired.number)
        talk = Talk(wired, end, draw, self._latency.get(wired.host.key, 0.02), self._wall)
        try:
            if wired.host.is_tls:
                if wired.proxy is None or await tunnel(talk, wired.attempt.proxy_fault):
                    await _break_handshake(talk)
            else:
                while await talk.read_head() and await self._behave(talk):
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        end.close()

    async def _behave(self, talk: Talk) -> bool:
        attempt = talk.exchange.attempt
        if attempt.proxy_fault:
            return await PROXY_BEHAVIOURS[attempt.proxy_fault](talk)
        return await BEHAVIOURS.get(attempt.fault, _resets_kept if talk.wired.proxy is None else bad_gateway)(talk)


async def _break_handshake(talk: Talk) -> None:
    await talk.end.receive_some()
    match talk.draw.choice(("garbage", "reset", "end", "hang")):
        case "garbage":
            await talk.end.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        case "reset":
            talk.end.abort()
        case "hang":
            await talk.until_closed()
