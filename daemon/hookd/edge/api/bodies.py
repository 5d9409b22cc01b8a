"""Owns how a request's body is read: its media type, size and time are checked before its content."""

import trio
from quart import Response

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.quoting import cut, quoted
from hookd.core.refusal import BodyTimeout, UnsupportedMediaType
from hookd.edge.api.body_budget import DISCARD_BYTES_MAX, too_large, too_large_here
from hookd.edge.api.request_exchange import ApiRequest, this_request

JSON = "application/json"
NDJSON = "application/x-ndjson"
# 16 MiB in this time are 280 kB/s; a slower body is not worth a connection.
BODY_TIMEOUT_SECONDS = 60.0


async def read_body(effective: EffectiveSettings, *media_types: str, bytes_max: int | None = None) -> bytes:
    """The whole body, of at most `bytes_max` where the route takes no more.

    Raises UnsupportedMediaType, TooLarge, ClientFull, Full or BodyTimeout.
    """
    request = this_request()
    _check_media_type(request, media_types)
    of_all = effective.settings.intake.body_bytes_max
    announced = request.content_length or 0
    if announced > of_all:
        raise too_large(of_all)
    if bytes_max is not None and announced > bytes_max:
        raise too_large_here(bytes_max)
    with trio.move_on_after(BODY_TIMEOUT_SECONDS):
        body = await request.exchange.read_body()
        if bytes_max is not None and len(body) > bytes_max:
            raise too_large_here(bytes_max)
        return body
    raise BodyTimeout(f"the body did not arrive within {BODY_TIMEOUT_SECONDS:g} s")


def has_body() -> bool:
    """Whether this request announces one: a length over 0, or pieces of a length that is not known yet."""
    request = this_request()
    return bool(request.content_length) or b"transfer-encoding" in request.first


async def finish_body(request: ApiRequest, response: Response) -> None:
    """Frees the body, and reads for a while what no route read of it.

    The server closes the connection where an answer goes out before the whole body is in. A producer that was told 404
    would then find its next request cut. A body that is too large or too slow, or whose caller is over its share, is
    read no further.
    """
    body = request.exchange.body
    if not body.is_complete:
        announced = request.content_length
        is_long = announced is not None and announced - body.arrived_bytes > DISCARD_BYTES_MAX
        is_hopeless = is_long or response.status_code in (408, 413, 429)
        if is_hopeless or not await request.exchange.discard_body():
            response.headers["connection"] = "close"
    body.drop()


def _check_media_type(request: ApiRequest, media_types: tuple[str, ...]) -> None:
    if request.first.get(b"content-type") in media_types and b"content-encoding" not in request.first:
        return  # as nearly everyone sends it; the rest takes it apart
    given = request.mimetype
    if given not in media_types:
        wanted = " or ".join(media_types)
        raise UnsupportedMediaType(f"content-type is {cut(given) or 'missing'}; send {wanted}")
    charset = request.mimetype_params.get("charset", "utf-8")
    if charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"charset is {quoted(charset)}; hookd takes UTF-8 only")
    encoding = ", ".join(request.headers.getlist("content-encoding"))
    if any(one.strip().lower() not in ("", "identity") for one in encoding.split(",")):
        raise UnsupportedMediaType(f"content-encoding is {quoted(encoding)}; send the body as it is")
