"""Owns the trace context of an event: what of a `traceparent` field is taken over (W3C Trace Context).

Rules:
 1. What is not valid is ignored: a trace is no reason to refuse an event.
 2. What is passed on is of version 00, the one that is known here. Of a later version its known part is taken.
`tracestate` and `baggage` are not read: they may hold anything, and endpoints are other people's.
Limit: 55 characters, which the events of one request share.
"""

import re

TRACEPARENT_CHARS = 55
# What an event takes for it at most: a text of its own.
TRACEPARENT_BYTES = 112

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01


def traceparent_from(value: str) -> str | None:
    """The field's value as it goes on; None where it is not valid."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    if version == "00":
        return None if more else value
    return f"00-{trace_id}-{parent_id}-{int(flags, 16) & _SAMPLED:02x}"  # no other flag of a later version is known
