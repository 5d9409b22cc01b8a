"""Owns the form of ids and event types: their patterns, their checks, and their types for the schema.

Clients, endpoints and events share one form of id.
"""

import re
from typing import Annotated

from msgspec import Meta

ID_PATTERN = "^[A-Za-z0-9_-]{1,64}$"
EVENT_TYPE_PATTERN = r"^[A-Za-z0-9_.:/-]{1,128}$"

Id = Annotated[str, Meta(description="1 to 64 of A-Z a-z 0-9 _ -", extra_json_schema={"pattern": ID_PATTERN})]
EventType = Annotated[
    str, Meta(description="1 to 128 of A-Z a-z 0-9 _ . : / -", extra_json_schema={"pattern": EVENT_TYPE_PATTERN})
]

_ID = re.compile(ID_PATTERN)
_EVENT_TYPE = re.compile(EVENT_TYPE_PATTERN)


def is_id(text: object) -> bool:
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def is_event_type(text: object) -> bool:
    return isinstance(text, str) and _EVENT_TYPE.fullmatch(text) is not None
