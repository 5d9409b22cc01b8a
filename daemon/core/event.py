"""Owns the event: what a producer submits, how its body is read, and the row that the ledger keeps of it.

Rules: the payload is opaque and stays the bytes that came (`msgspec.Raw` finds its bounds without decoding it);
input is UTF-8, at most 1,000 levels deep; nothing read here has changed anything.
Limits: depth is counted by the bracket, 13 ms for the 256 KiB worst case, and only where a payload opens more
than 1,000 brackets at all.
"""

import itertools
import re
from hashlib import blake2b
from typing import Annotated

import msgspec
from msgspec import Meta

from daemon.core.client import Mistake, is_event_type, is_id
from daemon.core.definition import EventType, Id
from daemon.core.delivery import Delivery, Status, status_of_event
from daemon.core.refusal import InvalidEvent, Malformed

DEPTH_MAX = 1000

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)  # a name may hold anything
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class Submission(msgspec.Struct, frozen=True, gc=False):
    """One event as a producer submits it; without an id one is made when it is admitted."""

    client_id: str
    type: str
    payload: bytes
    id: str | None = None


# The patterns are for the schema, and so is EventBody: `read_event` decodes the laxer ClientEventBody and looks at what
# is in it by itself, so that it can name every mistake at once.
class ClientEventBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One event where the path names its client."""

    client_id: Annotated[Id, Meta(examples=["acme"])] | None = None
    type: Annotated[EventType, Meta(examples=["invoice.paid"])]
    payload: Annotated[
        msgspec.Raw,
        Meta(
            description="Any JSON value, at most 1,000 levels deep; delivered byte for byte as it came",
            examples=[{"invoice": "in_1", "amount": 1999}],
        ),
    ]
    # Without an example: the same id with the payload laid out otherwise would be another event's.
    id: Annotated[Id, Meta(description="Yours, unique per client; else one is made")] | None = None


class EventBody(ClientEventBody, kw_only=True):
    """One event as a producer posts it."""

    client_id: Annotated[Id, Meta(examples=["acme"])]


_body_decoder = msgspec.json.Decoder(ClientEventBody)
_array_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class Event(msgspec.Struct, gc=False, eq=False):
    """One row; only core/ledger changes it. 559 B with its delivery, over its payload (measured at a million)."""

    sequence: int  # order of admission
    id: str
    client_id: str
    type: str
    payload: bytes | None  # None once dropped by retention; `digest` then stands for it
    accepted_at: float  # wall
    since: float  # monotonic: when it came into its present class (unsettled, delivered, exhausted)
    deliveries: tuple[Delivery, ...]
    settled_at: float | None = None  # wall
    digest: bytes | None = None

    @property
    def status(self) -> Status:
        return status_of_event(self.deliveries)

    @property
    def is_unrouted(self) -> bool:
        return not self.deliveries

    def delivery_to(self, endpoint_id: str) -> Delivery | None:
        for delivery in self.deliveries:
            if delivery.endpoint_id == endpoint_id:
                return delivery
        return None

    def has_payload(self, payload: bytes) -> bool:
        """Whether this is the event's payload, byte for byte, also once the bytes were dropped."""
        if self.payload is not None:
            return self.payload == payload
        return self.digest == payload_digest(payload)


def payload_digest(payload: bytes) -> bytes:
    """16 bytes that stand for a dropped payload: enough to tell a repeat from another under the same id."""
    return blake2b(payload, digest_size=16).digest()


def read_event(body: bytes, *, client_id: str | None, pointer: str = "") -> Submission:
    """One event's JSON object; `client_id` is the path's, where the path names one.

    Raises Malformed (not JSON, not UTF-8) or InvalidEvent (wrong shape, too deep).
    """
    check_text(body)
    try:
        read = _body_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise read_error(error, pointer) from None
    mistakes = []
    if client_id is None and read.client_id is None:
        mistakes.append(Mistake(f"{pointer}/client_id", "is required"))
    elif client_id is not None and read.client_id not in (None, client_id):
        mistakes.append(Mistake(f"{pointer}/client_id", f"is not {client_id!r}, the client in the path"))
    elif client_id is None and not is_id(read.client_id):
        mistakes.append(Mistake(f"{pointer}/client_id", "must be 1 to 64 of A-Z a-z 0-9 _ -"))
    if not is_event_type(read.type):
        mistakes.append(Mistake(f"{pointer}/type", "must be 1 to 128 of A-Z a-z 0-9 _ . : / -"))
    if read.id is not None and not is_id(read.id):
        mistakes.append(Mistake(f"{pointer}/id", "must be 1 to 64 of A-Z a-z 0-9 _ -"))
    payload = bytes(read.payload)
    if is_too_deep(payload):
        mistakes.append(Mistake(f"{pointer}/payload", f"is nested deeper than {DEPTH_MAX:,} levels"))
    if mistakes:
        raise InvalidEvent(f"the event is not valid: {_sentence(mistakes)}", mistakes=mistakes)
    return Submission(client_id or read.client_id or "", read.type, payload, read.id)


def read_array(body: bytes) -> list[bytes]:
    """The raw items of a JSON array. Raises Malformed or InvalidEvent."""
    check_text(body)
    try:
        return [bytes(raw) for raw in _array_decoder.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise read_error(error, "") from None


def read_lines(body: bytes) -> list[bytes]:
    """The lines of NDJSON; empty lines are passed over. Raises Malformed."""
    check_text(body)
    return [line for line in body.split(b"\n") if line.strip()]


def check_text(body: bytes) -> None:
    """Raises Malformed unless the body is UTF-8: `msgspec.Raw` does not look inside the payload."""
    if body.isascii():
        return
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8: byte {error.start} is {body[error.start]:#04x}") from None


def is_too_deep(payload: bytes) -> bool:
    """Whether valid JSON is nested deeper than `DEPTH_MAX`."""
    if payload.count(b"[") + payload.count(b"{") <= DEPTH_MAX:
        return False
    brackets = _STRINGS.sub(b"", payload).translate(None, _NOT_BRACKETS)
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEPTH_MAX


def read_error(error: Exception, pointer: str) -> Malformed | InvalidEvent:
    """What msgspec raises, in our words: a wrong shape is the event's, anything else is not JSON."""
    match error:
        case RecursionError():
            mistake = Mistake(pointer, f"is nested deeper than {DEPTH_MAX:,} levels")
            return InvalidEvent(f"the body is nested deeper than {DEPTH_MAX:,} levels", mistakes=[mistake])
        case msgspec.ValidationError():
            mistake = _mistake(str(error), pointer)
            return InvalidEvent(f"the event is not valid: {_sentence([mistake])}", mistakes=[mistake])
        case _:
            said = str(error)
            if said == "Input data was truncated":  # also what it says of half a surrogate pair
                said += ", or a \\ud800 to \\udfff escape stands without its other half"
            return Malformed(f"the body is not JSON: {said}", mistakes=[Mistake(pointer, said)] if pointer else [])


def _mistake(message: str, pointer: str) -> Mistake:
    """msgspec's `Expected `str`, got `int` - at `$.type`` as a pointer and a detail."""
    field = _FIELD.fullmatch(message)
    if field:
        detail = "is required" if field[1] == "missing required" else "is not a field of an event"
        return Mistake(f"{pointer}/{field[2].replace('~', '~0').replace('/', '~1')}", detail)
    detail, _, path = message.partition(" - at `$")
    steps = re.findall(r"\.([^.\[`]+)|\[(\d+)\]", path)
    at = pointer + "".join(f"/{name or index}" for name, index in steps)
    return Mistake(at, detail)


def _sentence(mistakes: list[Mistake]) -> str:
    return "; ".join(f"{mistake.pointer or 'it'} {mistake.detail}" for mistake in mistakes)
