"""Owns an entry of the stream: how its fields become the event that is posted, and what makes one that never can be.

Rules: `client`, `type`, `id` and `payload` are needed, `expires_at` may be there, other fields are passed over. The
payload's bytes go into the request as they are. So they are proved to be one JSON value first: a bracket too many would
spoil a whole batch. What else may be wrong with an event (its depth, its size) is the daemon's to say.
"""

from collections.abc import Mapping

import msgspec

from hookd.core.ids import is_event_type, is_id
from hookd.core.quoting import cut
from hookd.core.refusal import Refused
from hookd.core.text_check import check_text

INVALID, MALFORMED, TOO_LARGE = "invalid-event", "malformed-json", "too-large"
# The largest body that a daemon may take is made of one event: larger ones are not read out of Redis at all.
ENTRY_BYTES_MAX = 16 * 2**20
_TEXTS = ("client", "type", "id")

_raw_decoder = msgspec.json.Decoder(msgspec.Raw)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One that can be posted. `item` is its event as JSON, or None where it is fetched when it is needed."""

    id: str  # the stream's, not the event's
    client_id: str
    event_id: str
    item: bytes | None = None


class Unpostable(msgspec.Struct, frozen=True, gc=False):
    """One that never can be; `problem` is a slug of the daemon's problems."""

    id: str
    problem: str
    detail: str
    client_id: str = ""
    event_id: str = ""


def read_entry(entry_id: str, fields: Mapping[str, bytes | None]) -> Entry | Unpostable:
    """What is to be posted, or why it cannot be."""
    texts = {name: None if (value := fields.get(name)) is None else value.decode(errors="replace") for name in _TEXTS}
    client_id, event_id, payload = texts["client"] or "", texts["id"] or "", fields.get("payload")
    mistake = _mistake(texts, payload)
    if mistake is None and payload is not None:
        problem, detail = _payload_mistake(payload)
        if not problem:
            return Entry(entry_id, client_id, event_id, _item(event_id, texts["type"] or "", payload, fields))
        return Unpostable(entry_id, problem, detail, client_id, event_id)
    return Unpostable(entry_id, INVALID, mistake or "", client_id, event_id)


def _mistake(texts: Mapping[str, str | None], payload: bytes | None) -> str | None:
    if payload is None or None in texts.values():
        missing = [name for name, value in (*texts.items(), ("payload", payload)) if value is None]
        return f"the entry has no field {', '.join(missing)}"
    for name in ("client", "id"):
        if not is_id(texts[name]):
            return f"{name}: must be 1 to 64 of A-Z a-z 0-9 _ -"
    return None if is_event_type(texts["type"]) else "type: must be 1 to 128 of A-Z a-z 0-9 _ . : / -"


def _payload_mistake(payload: bytes) -> tuple[str, str]:
    try:
        check_text(payload)
        _raw_decoder.decode(payload)
    except Refused as refused:
        return refused.slug, refused.detail
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return MALFORMED, f"the payload is not JSON: {cut(str(error))}"
    return "", ""


def _item(event_id: str, event_type: str, payload: bytes, fields: Mapping[str, bytes | None]) -> bytes:
    """The ids and the type have no letter that JSON would write otherwise."""
    expires_at = fields.get("expires_at")
    expiry = b""
    if expires_at:
        expiry = b',"expires_at":%b' % msgspec.json.encode(expires_at.decode(errors="replace"))
    return b'{"id":"%b","type":"%b"%b,"payload":%b}' % (event_id.encode(), event_type.encode(), expiry, payload)


def position_of(entry_id: str) -> tuple[int, int]:
    """Of an entry's id, to be compared."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def text_of(position: tuple[int, int]) -> str:
    return f"{position[0]}-{position[1]}"
