"""Owns how a report's lines are read: what resending and recovery need of each, and every mistake in them.

Rules: the summary line is passed over. Lines are checked as a whole before any of them is taken up.
"""

import base64
import binascii
import sys
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from hookd.core.client_schema import URL_CHARS_MAX
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import read_error
from hookd.core.ids import is_event_type, is_id
from hookd.core.json_depth import DEPTH_MAX, is_too_deep
from hookd.core.mistakes import Mistake
from hookd.core.refusal import InvalidEvent, TooLarge
from hookd.core.text_check import check_text
from hookd.core.timestamps import parse_rfc3339

UNDELIVERED = "undelivered"
KINDS = (UNDELIVERED, "exhausted")
SUMMARY = "summary"
# No schedule comes near it, and the recorder's 32 bits hold what is counted on from it.
ATTEMPT_COUNT_MAX = 2**31 - 1
# A line has the payload twice at most, once of them in base64; both are looked at in one go, 40 ms for the worst.
LINE_BYTES_MAX = 2**20
LINE_PAYLOADS = 4


class ReportLine(msgspec.Struct, frozen=True):
    """What resending needs of a report's line; the summary line is passed over."""

    kind: Annotated[str, Meta(extra_json_schema={"enum": [*KINDS, SUMMARY]}, examples=["undelivered"])]
    event_id: Annotated[str, Meta(examples=["in_0-paid"])] = ""
    client_id: Annotated[str, Meta(examples=["acme"])] = ""
    endpoint_id: Annotated[str, Meta(examples=["default"])] = ""
    url: Annotated[str, Meta(examples=["https://acme.example/hook"])] = ""
    type: Annotated[str, Meta(examples=["invoice.paid"])] = ""
    accepted_at: Annotated[str, Meta(examples=["2026-11-21T18:35:00.123Z"])] = ""
    attempt_count: Annotated[
        int, Meta(extra_json_schema={"minimum": 0, "maximum": ATTEMPT_COUNT_MAX}, examples=[1])
    ] = 0
    class_: Annotated[str, Meta(examples=["attempted_failed"])] = msgspec.field(default="", name="class")
    maybe_received: bool = False
    crash_count: Annotated[int, Meta(description="At how many crashes it was in flight", examples=[0])] = 0
    unscheduled_attempts: Annotated[
        int, Meta(description="Attempts that took nothing from the schedule", examples=[0])
    ] = 0
    traceparent: Annotated[str, Meta(description="Of the trace that it belongs to; ignored where it is not valid")] = ""
    expires_at: Annotated[str, Meta(description="The event's own expiry", examples=["2026-11-21T19:35:00.123Z"])] = ""
    cancelled: Annotated[bool, Meta(description="It was cancelled before it settled: it is not attempted")] = False
    payload: Annotated[msgspec.Raw, Meta(examples=[{"invoice": "in_0"}])] | msgspec.UnsetType = msgspec.UNSET
    payload_base64: str | None = None

    @property
    def may_have_been_received(self) -> bool:
        return self.maybe_received or self.class_ == "outcome_unknown"

    def original_payload(self) -> bytes | None:
        """The bytes that were posted; raises ValueError where the base64 is none."""
        if self.payload_base64 is not None:
            return base64.b64decode(self.payload_base64, validate=True)
        return None if isinstance(self.payload, msgspec.UnsetType) else bytes(self.payload)


_decoder = msgspec.json.Decoder(ReportLine)


def read_report_lines(lines: Iterable[bytes]) -> list[ReportLine]:
    """The deliveries among the lines of a report of our own. Raises Malformed or InvalidEvent, pointers from /0."""
    found = ReportLines(line_bytes_max=sys.maxsize)
    for index, line in enumerate(lines):
        found.add(line, index)
    return found.checked()


def line_bytes_max(effective: EffectiveSettings) -> int:
    """Of a line that is posted."""
    return max(LINE_BYTES_MAX, LINE_PAYLOADS * effective.settings.intake.payload_bytes_max)


class ReportLines:
    """The deliveries among a report's lines, as they are added; and what is wrong with them."""

    def __init__(self, *, line_bytes_max: int) -> None:
        self._bytes_max = line_bytes_max
        self._lines: list[ReportLine] = []
        self._mistakes: list[Mistake] = []

    def add(self, line: bytes, index: int) -> None:
        """Raises Malformed, InvalidEvent or TooLarge, with the pointer /index."""
        if len(line) > self._bytes_max:
            detail = f"line {index:,} has {len(line):,} bytes and at most {self._bytes_max:,} are read"
            raise TooLarge(f"{detail}; with a larger intake.payload_bytes_max it can be sent")
        report_line = _read(line, index)
        if report_line.kind != SUMMARY:
            self._mistakes += [Mistake(f"/{index}{at}", detail) for at, detail in _mistakes(report_line)]
            self._lines.append(report_line)

    def checked(self) -> list[ReportLine]:
        """Raises InvalidEvent where anything is wrong with any of them."""
        if self._mistakes:
            first = self._mistakes[0]
            detail = f"not lines of a report: {first.pointer} {first.detail}"
            raise InvalidEvent(detail, mistakes=self._mistakes)
        return self._lines


def _read(line: bytes, index: int) -> ReportLine:
    check_text(line)
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise read_error(error, line, f"/{index}") from None


def _mistakes(line: ReportLine) -> list[tuple[str, str]]:
    found = []
    if line.kind not in KINDS:
        found.append(("/kind", 'must be "undelivered", "exhausted" or "summary"'))
    for name in ("event_id", "client_id", "endpoint_id"):
        if not is_id(getattr(line, name)):
            found.append((f"/{name}", "must be 1 to 64 of A-Z a-z 0-9 _ -"))
    if not is_event_type(line.type):
        found.append(("/type", "must be 1 to 128 of A-Z a-z 0-9 _ . : / -"))
    if len(line.url) > URL_CHARS_MAX:
        found.append(("/url", f"is longer than {URL_CHARS_MAX:,} characters"))
    if line.attempt_count < 0:
        found.append(("/attempt_count", "must not be negative"))
    if line.attempt_count > ATTEMPT_COUNT_MAX:
        found.append(("/attempt_count", f"must be at most {ATTEMPT_COUNT_MAX:,}"))
    if not 0 <= line.crash_count <= max(0, line.attempt_count):
        found.append(("/crash_count", "must be from 0 to attempt_count"))
    if not 0 <= line.unscheduled_attempts <= max(0, line.attempt_count):
        found.append(("/unscheduled_attempts", "must be from 0 to attempt_count"))
    if line.payload_base64 is not None and (detail := _payload_mistake(line)):
        found.append(("/payload_base64", detail))
    for name in ("accepted_at", "expires_at"):
        try:
            if text := getattr(line, name):
                parse_rfc3339(text)
        except ValueError:
            found.append((f"/{name}", "is not an RFC 3339 time"))
    return found


def _payload_mistake(line: ReportLine) -> str | None:
    """What stands in base64 is checked as a payload that is posted: the next report has to hold it."""
    try:
        payload = line.original_payload() or b""
    except (ValueError, binascii.Error):
        return "is not base64"
    try:
        payload.decode()
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return "is not JSON in UTF-8"
    return f"is nested deeper than {DEPTH_MAX:,} levels" if is_too_deep(payload) else None
