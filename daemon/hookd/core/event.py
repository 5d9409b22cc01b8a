"""Owns the event: what a producer submits, how its body is read, and the row that the ledger keeps of it.

Rules: the payload is opaque and stays the bytes that came (`msgspec.Raw` finds its bounds without decoding it);
input is UTF-8, at most 1,000 levels deep (core/json_depth); nothing read here has changed anything.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from hookd.core.delivery import Delivery, Status, status_of_event
from hookd.core.ids import EventType, Id, is_event_type, is_id
from hookd.core.json_depth import DEPTH_MAX, depth, is_too_deep, may_be_deep
from hookd.core.json_scan import Unended, after_space, value_end
from hookd.core.mistakes import Mistake, pointer_to, suggestion
from hookd.core.quoting import cut, quoted
from hookd.core.recorder_rows import RowPlace
from hookd.core.refusal import InvalidEvent, Malformed, Refused, TooLarge
from hookd.core.surrogates import half_surrogate
from hookd.core.text_check import check_text
from hookd.core.timestamps import parse_rfc3339
from hookd.core.units import format_size

# A body deeper than this is not decoded at all: how deep a decoder goes is the interpreter's affair. Python 3.11's goes
# to the recursion limit, 3.12's to 1,498 levels, 3.13's to 9,999.
_DEPTH_READ_MAX = DEPTH_MAX + 200

_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)  # a name may hold anything
_PLACED = re.compile(r"(.*) - at `\$((?:\.[^.\[`]+|\[[0-9.]+\])*)`", re.DOTALL)
_ID_RULE = "must be 1 to 64 of A-Z a-z 0-9 _ -"
_TYPE_RULE = "must be 1 to 128 of A-Z a-z 0-9 _ . : / -"
_TIME_RULE = "is not an RFC 3339 time such as 2026-11-21T18:35:00Z"
_DEPTH_RULE = f"is nested deeper than {DEPTH_MAX:,} levels"
# A body with ten thousand unknown fields deserves an answer, not ten thousand comparisons on the event loop.
_UNKNOWN_FIELDS_SHOWN = 20
_FIELDS_COUNTED_MAX = 1000
# What an event may be long beside its payload: names and texts take 500 B at most, spaces may take the rest.
ENVELOPE_BYTES_MAX = 64 * 1024


class Submission(msgspec.Struct, frozen=True, gc=False):
    """One event as a producer submits it; without an id one is made when it is admitted."""

    client_id: str
    type: str
    payload: bytes
    id: str | None = None
    traceparent: str | None = None  # of its request, not of its body
    expires_at: float | None = None  # wall; later than that it is not attempted any more


OwnId = Annotated[Id, Meta(description="Yours, unique per client; else one is made")]


# Without an example: one that is pasted would lie in the past.
Expiry = Annotated[
    str, Meta(description="Later than that it is not attempted", extra_json_schema={"format": "date-time"})
]


# The patterns are for the schema, and so is EventBody: `read_event` decodes the laxer ClientEventBody and looks at what
# is in it by itself, so that it can name every mistake at once.
class ClientEventBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One event where the path names its client."""

    client_id: Annotated[Id, Meta(examples=["acme"])] | msgspec.UnsetType | None = msgspec.UNSET
    type: Annotated[EventType, Meta(examples=["invoice.paid"])]
    payload: Annotated[
        msgspec.Raw,
        Meta(
            description="Any JSON value, at most 1,000 levels deep; delivered byte for byte as it came",
            examples=[{"invoice": "in_1", "amount": 1999}],
        ),
    ]
    # Without an example: the same id with the payload laid out otherwise would be another event's.
    id: OwnId | msgspec.UnsetType | None = msgspec.UNSET
    expires_at: Expiry | msgspec.UnsetType | None = msgspec.UNSET


class EventBody(ClientEventBody, kw_only=True):
    """One event as a producer posts it."""

    client_id: Annotated[Id, Meta(examples=["acme"])]


class _Fields(msgspec.Struct):
    """Read loosely, of what is not an event: nothing is built, and what an event has not is passed over."""

    client_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    expires_at: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_body_decoder = msgspec.json.Decoder(ClientEventBody)
_fields_decoder = msgspec.json.Decoder(_Fields)
_text_decoder = msgspec.json.Decoder(str)
_TEXT_DECODERS = {
    "client_id": msgspec.json.Decoder(str | None),
    "type": msgspec.json.Decoder(str),
    "id": msgspec.json.Decoder(str | None),
    "expires_at": msgspec.json.Decoder(str | None),
}
_FIELDS = ClientEventBody.__struct_fields__


class Event(msgspec.Struct, gc=False, eq=False):
    """One row; only core/ledger changes it. 439 B with its delivery and what finds it, over its payload."""

    is_operational: ClassVar[bool] = False  # hookd's own: core/column
    sequence: int  # order of admission
    id: str
    client_id: str
    type: str
    payload: bytes | None  # None once dropped by retention; `digest` then stands for it
    accepted_at: float  # wall
    since: float  # monotonic: when it came into its present class (unsettled, delivered, exhausted)
    bundle: Delivery | tuple[Delivery, ...]  # its deliveries; the only one by itself: a tuple takes 64 B
    settled_at: float | None = None  # wall
    digest: bytes | None = None
    row: RowPlace | None = None  # in the flight recorder, which keeps it
    traceparent: str | None = None

    @property
    def expires_at(self) -> float | None:
        """Wall; as few events have one, those are of another kind: core/expiring_event."""
        return None

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        bundle = self.bundle
        return bundle if type(bundle) is tuple else (bundle,)  # type: ignore[return-value]

    @deliveries.setter
    def deliveries(self, deliveries: Sequence[Delivery]) -> None:
        self.bundle = bundled(deliveries)

    @property
    def status(self) -> Status:
        bundle = self.bundle
        if type(bundle) is Delivery:  # as nearly all events have, and it is asked six times on an event's way
            return bundle.status
        return status_of_event(self.deliveries)

    @property
    def is_unrouted(self) -> bool:
        return not self.bundle

    def delivery_to(self, endpoint_id: str) -> Delivery | None:
        bundle = self.bundle
        if type(bundle) is Delivery:
            return bundle if bundle.endpoint_id == endpoint_id else None
        for delivery in self.deliveries:
            if delivery.endpoint_id == endpoint_id:
                return delivery
        return None

    def has_payload(self, payload: bytes) -> bool:
        """Whether this is the event's payload, byte for byte, also once the bytes were dropped."""
        if self.payload is not None:
            return self.payload == payload
        return self.digest == payload_digest(payload)


def bundled(deliveries: Sequence[Delivery]) -> Delivery | tuple[Delivery, ...]:
    """As an event holds them."""
    return deliveries[0] if len(deliveries) == 1 else tuple(deliveries)


def payload_digest(payload: bytes) -> bytes:
    """16 bytes that stand for a dropped payload: enough to tell a repeat from another under the same id."""
    return blake2b(payload, digest_size=16).digest()


def read_event(body: bytes, *, client_id: str | None, pointer: str = "") -> Submission:
    """One event's JSON object; `client_id` is the path's, where the path names one.

    Raises Malformed (not JSON, not UTF-8) or InvalidEvent (wrong shape, too deep).
    """
    check_text(body)
    is_suspect = may_be_deep(body)
    if is_suspect and depth(body) > _DEPTH_READ_MAX:
        raise _too_deep(pointer)
    try:
        read = _body_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _misshapen(error, body, client_id, pointer) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise read_error(error, body, pointer) from None
    payload = bytes(read.payload)
    given_client_id, event_id = _or_none(read.client_id), _or_none(read.id)
    mistakes = _client_mistakes(given_client_id, client_id, pointer)
    if not is_event_type(read.type):
        mistakes.append(Mistake(f"{pointer}/type", _TYPE_RULE))
    if event_id is not None and not is_id(event_id):
        mistakes.append(Mistake(f"{pointer}/id", _ID_RULE))
    expires_at = None
    if read.expires_at is not msgspec.UNSET and read.expires_at is not None:
        expires_at = _expiry(read.expires_at, pointer, mistakes)
    if is_suspect and is_too_deep(payload):
        mistakes.append(Mistake(f"{pointer}/payload", _DEPTH_RULE))
    if not mistakes and _names_a_field_twice(read, body, payload):
        mistakes.append(Mistake(pointer, "names a field twice"))
    if mistakes:
        raise InvalidEvent(f"the event is not valid: {_sentence(mistakes)}", mistakes=mistakes)
    return Submission(client_id or given_client_id or "", read.type, payload, event_id, expires_at=expires_at)


def _client_mistakes(given: str | None, client_id: str | None, pointer: str) -> list[Mistake]:
    at = f"{pointer}/client_id"
    if client_id is not None:
        is_other = given not in (None, client_id)
        return [Mistake(at, f"is not {quoted(client_id)}, the client in the path")] if is_other else []
    if given is None:
        return [Mistake(at, "is required")]
    return [] if is_id(given) else [Mistake(at, _ID_RULE)]


def _misshapen(error: msgspec.ValidationError, body: bytes, client_id: str | None, pointer: str) -> Refused:
    """Every mistake at once of an object with a wrong field; msgspec knows the first one alone."""
    try:
        read = _fields_decoder.decode(body)
        mistakes, texts = _unknown_fields(body, pointer), {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Unended):
        return read_error(error, body, pointer)
    fields = {name: raw for name in _FIELDS if not isinstance(raw := getattr(read, name), msgspec.UnsetType)}
    for name, decoder in _TEXT_DECODERS.items():
        try:
            texts[name] = decoder.decode(fields[name]) if name in fields else None
        except (msgspec.DecodeError, RecursionError) as wrong:
            mistakes.append(Mistake(f"{pointer}/{name}", cut(str(wrong))))
    if "client_id" in texts:
        mistakes += _client_mistakes(texts["client_id"], client_id, pointer)
    mistakes += [Mistake(f"{pointer}/{name}", "is required") for name in ("type", "payload") if name not in fields]
    if texts.get("type") is not None and not is_event_type(texts["type"]):
        mistakes.append(Mistake(f"{pointer}/type", _TYPE_RULE))
    if texts.get("id") is not None and not is_id(texts["id"]):
        mistakes.append(Mistake(f"{pointer}/id", _ID_RULE))
    if expires_at := texts.get("expires_at"):
        _expiry(expires_at, pointer, mistakes)
    if "payload" in fields and is_too_deep(bytes(fields["payload"])):
        mistakes.append(Mistake(f"{pointer}/payload", _DEPTH_RULE))
    return InvalidEvent(f"the event is not valid: {_sentence(mistakes)}", mistakes=mistakes)


def _unknown_fields(body: bytes, pointer: str) -> list[Mistake]:
    """Of an object that is JSON. Names are built one at a time."""
    names, count = _unknown_names(body)
    mistakes = [
        Mistake(pointer_to(pointer, name), f"is not a field of an event{suggestion(name, _FIELDS)}") for name in names
    ]
    if count > len(names):
        many = f"more than {count:,}" if count == _FIELDS_COUNTED_MAX else f"{count:,}"
        mistakes.append(Mistake(pointer, f"has {many} fields that an event has not; the first {len(names)} are listed"))
    return mistakes


def _unknown_names(body: bytes) -> tuple[list[str], int]:
    """The first of them, without those given twice, and how many there are, as far as they are counted."""
    names: dict[str, None] = {}
    count, at = 0, after_space(body, 0)
    while body[at] != ord("}") and count < _FIELDS_COUNTED_MAX:
        at = after_space(body, at + 1)  # past the brace, or the comma
        if body[at] == ord("}"):  # there is no field at all
            break
        colon = value_end(body, at, bytes_max=len(body))
        name = _text_decoder.decode(memoryview(body)[at:colon])
        at = value_end(body, after_space(body, colon + 1), bytes_max=len(body))
        if name in _FIELDS or name in names:
            continue
        count += 1
        if len(names) < _UNKNOWN_FIELDS_SHOWN:
            names[name] = None
    return list(names), count


def without_spaces(body: bytes, payload_bytes_max: int, pointer: str) -> bytes:
    """The event, without spaces around it where it is long. Raises TooLarge where it is too long to be looked at."""
    bytes_max = payload_bytes_max + ENVELOPE_BYTES_MAX
    if len(body) <= bytes_max:
        return body
    body = body.strip()
    if len(body) > bytes_max:
        detail = f"the event has {len(body):,} bytes; with intake.payload_bytes_max at "
        detail += f"{format_size(payload_bytes_max)} it has at most {bytes_max:,}"
        raise TooLarge(detail, mistakes=[Mistake(pointer, f"is larger than {bytes_max:,} bytes")])
    return body


def refuse_long_payload(length: int, payload_bytes_max: int, pointer: str) -> None:
    """Raises TooLarge."""
    if length > payload_bytes_max:
        detail = f"the payload has {length:,} bytes; intake.payload_bytes_max is {format_size(payload_bytes_max)}"
        raise TooLarge(
            detail, mistakes=[Mistake(f"{pointer}/payload", f"is larger than {format_size(payload_bytes_max)}")]
        )


def read_ids(body: bytes) -> tuple[str | None, str | None]:
    """The id and client id of an event that is refused, as far as they can be read: its producer looks for them."""
    try:
        read = _fields_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    return _id_in(read.id), _id_in(read.client_id)


def _id_in(raw: msgspec.Raw | msgspec.UnsetType) -> str | None:
    try:
        text = None if isinstance(raw, msgspec.UnsetType) else _text_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return text if text is not None and is_id(text) else None


def _too_deep(pointer: str) -> InvalidEvent:
    return InvalidEvent(
        f"the body is nested deeper than {DEPTH_MAX:,} levels", mistakes=[Mistake(pointer, _DEPTH_RULE)]
    )


def read_error(error: Exception, body: bytes, pointer: str) -> Malformed | InvalidEvent:
    """What msgspec raises of a body, in our words: a wrong shape is the event's, anything else is not JSON."""
    match error:
        case RecursionError():
            return _too_deep(pointer)
        case msgspec.ValidationError():
            mistake = mistake_of(str(error), pointer)
            return InvalidEvent(f"the event is not valid: {_sentence([mistake])}", mistakes=[mistake])
        case _:
            said = half_surrogate(str(error), body) or cut(str(error))
            if body.startswith(BOM_UTF8):
                said = "it begins with a byte order mark; send UTF-8 without one"
            return Malformed(f"the body is not JSON: {said}", mistakes=[Mistake(pointer, said)] if pointer else [])


def _names_a_field_twice(read: ClientEventBody, body: bytes, payload: bytes) -> bool:
    """Of such, decoders disagree which one counts: a proxy may have checked another payload than is sent.

    Told by the quotes outside the payload, two for each name and each text: valid ones hold none themselves, and a
    client id that does is unknown anyway.
    """
    quotes = 6  # "type", its text, "payload"
    if read.client_id is not msgspec.UNSET:
        quotes += 2 if read.client_id is None else 4
    if read.id is not msgspec.UNSET:
        quotes += 2 if read.id is None else 4
    if read.expires_at is not msgspec.UNSET:
        quotes += 2 if read.expires_at is None else 4
    at = body.find(b'"payload"') + len(b'"payload":')
    if not body.startswith(payload, at):
        at += 1  # a space after the colon
    if body.startswith(payload, at):  # any place where these bytes stand will do: their quotes are not counted
        found = body.count(b'"', 0, at) + body.count(b'"', at + len(payload))
    else:
        found = body.count(b'"') - payload.count(b'"')
    return found > quotes and '"' not in (read.client_id or "")


def _expiry(text: str, pointer: str, mistakes: list[Mistake]) -> float | None:
    try:
        return parse_rfc3339(text)
    except ValueError:
        mistakes.append(Mistake(f"{pointer}/expires_at", _TIME_RULE))
        return None


def _or_none(text: str | msgspec.UnsetType | None) -> str | None:
    return None if isinstance(text, msgspec.UnsetType) else text


def mistake_of(message: str, pointer: str, *, of: str = "an event") -> Mistake:
    """msgspec's `Expected `str`, got `int` - at `$.type`` as a pointer and a detail."""
    placed = _PLACED.fullmatch(message)
    said, path = (message, "") if placed is None else placed.groups()
    steps = re.findall(r"\.([^.\[`]+)|\[(\d+)\]", path)
    at = pointer + "".join(f"/{name or index}" for name, index in steps)
    field = _FIELD.fullmatch(said)
    if field:
        detail = "is required" if field[1] == "missing required" else f"is not a field of {of}"
        return Mistake(pointer_to(at, field[2]), detail)
    return Mistake(at, cut(said))


def _sentence(mistakes: list[Mistake]) -> str:
    return "; ".join(f"{mistake.pointer or 'it'} {mistake.detail}" for mistake in mistakes)
