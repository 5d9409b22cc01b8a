"""Owns how a request's body is read: media type, size and time, before anything in it is looked at."""

import trio
from quart import g, request

from daemon.core.client import Mistake
from daemon.core.live import Live
from daemon.core.refusal import BodyTimeout, TooLarge, UnsupportedMediaType
from daemon.core.units import format_size

JSON = "application/json"
NDJSON = "application/x-ndjson"
# A body that takes longer is not worth a connection: 16 MiB in it is 280 kB/s.
BODY_TIMEOUT_SECONDS = 60.0
# Of a body that no route reads: more costs more than another connection.
DISCARD_BYTES_MAX = 64 * 1024
DISCARD_SECONDS_MAX = 1.0


async def read_body(live: Live, *media_types: str) -> bytes:
    """The whole body. Raises UnsupportedMediaType, TooLarge or BodyTimeout."""
    _check_media_type(media_types)
    bytes_max = live.settings.intake.body_bytes_max
    announced = request.content_length
    if announced is not None and announced > bytes_max:
        raise _too_large(bytes_max)
    body = bytearray()
    with trio.move_on_after(BODY_TIMEOUT_SECONDS) as scope:
        async for chunk in request.body:
            body += chunk
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
    if scope.cancelled_caught:
        raise BodyTimeout(f"the body did not arrive within {BODY_TIMEOUT_SECONDS:g} s")
    g.body_is_in = True
    return bytes(body)


async def discard_rest() -> bool:
    """Reads on over what a route did not read of a body, for a while; False where there is still more.

    An answer that goes out before the body is in makes the server close the connection, and a producer that was told
    404 would find its next request cut.
    """
    if "body_is_in" in g or not ("content-length" in request.headers or "transfer-encoding" in request.headers):
        return True
    announced = request.content_length
    if announced is not None and announced > DISCARD_BYTES_MAX:
        return False
    discarded = 0
    with trio.move_on_after(DISCARD_SECONDS_MAX) as scope:
        async for chunk in request.body:
            discarded += len(chunk)
            if discarded > DISCARD_BYTES_MAX:
                return False
    return not scope.cancelled_caught


def check_payload_size(live: Live, payload: bytes, pointer: str) -> None:
    """Raises TooLarge."""
    bytes_max = live.settings.intake.payload_bytes_max
    if len(payload) > bytes_max:
        detail = f"the payload has {len(payload):,} bytes; intake.payload_bytes_max is {format_size(bytes_max)}"
        raise TooLarge(detail, mistakes=[Mistake(f"{pointer}/payload", f"is larger than {format_size(bytes_max)}")])


def _check_media_type(media_types: tuple[str, ...]) -> None:
    if request.headers.get("content-type") in media_types and "content-encoding" not in request.headers:
        return  # as nearly everyone sends it; the rest takes it apart
    given = request.mimetype
    if given not in media_types:
        wanted = " or ".join(media_types)
        raise UnsupportedMediaType(f"content-type is {given or 'missing'}; send {wanted}")
    charset = request.mimetype_params.get("charset", "utf-8")
    if charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"charset is {charset!r}; hookd takes UTF-8 only")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaType(f"content-encoding is {encoding!r}; send the body as it is")


def _too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"the body is larger than intake.body_bytes_max, {format_size(bytes_max)}")
