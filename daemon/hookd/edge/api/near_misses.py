"""Owns what a request without a route probably meant: a few words for the paths and methods that strangers try first.

Rules: a hint follows the refusal and changes nothing of it. The first row that fits is said, unless it names the very
path that refused the method. A path is matched as it came, by patterns that look at each character once.

Does not: guess by likeness. `/openapi.json` lists every route, which the refusal says where no row fits.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

_CLIENT = r"/v1/clients/[^/]+"
_ANY: frozenset[str] = frozenset()


class _NearMiss(NamedTuple):
    methods: Collection[str]  # none: every one
    path: re.Pattern[str]
    hint: str


def _row(methods: Collection[str], path: str, hint: str) -> _NearMiss:
    return _NearMiss(methods, re.compile(path, re.IGNORECASE), hint)


_NEAR_MISSES = (
    _row({"POST"}, f"{_CLIENT}/events/batch", "a batch goes to /v1/clients/CLIENT/events or to /v1/events/batch"),
    _row({"POST"}, f"{_CLIENT}/events/lookup", "events are looked up at /v1/events/lookup"),
    _row({"GET", "HEAD"}, f"{_CLIENT}/events", "GET /v1/events?client_id=CLIENT lists a client's events"),
    _row({"DELETE"}, f"{_CLIENT}/events/[^/]+", "POST /v1/clients/CLIENT/events/ID/cancel ends what waits of it"),
    _row({"POST", "PATCH"}, "/v1/clients", "PUT /v1/clients/CLIENT registers one client"),
    _row(_ANY, f"{_CLIENT}/endpoints(/[^/]+)?", "GET and PUT /v1/clients/CLIENT have its endpoints"),
    _row(_ANY, f"{_CLIENT}/endpoints/[^/]+/(enable|disable|unpause)", "an endpoint takes pause and resume"),
    _row(
        _ANY,
        "/v1/events/[^/]+/(retry|redeliver|cancel|payload)",
        "the client stands in the path: /v1/clients/CLIENT/events/ID/…",
    ),
    _row(_ANY, "/v1/(replay|cancel)", "the client stands in the path: /v1/clients/CLIENT/…"),
    _row(_ANY, "(/api)?(/v1)?/(events?|messages?)(/batch)?", "events go to /v1/events, a batch to /v1/events/batch"),
    _row(_ANY, "(/api)?(/v1)?/clients?", "clients are at /v1/clients"),
    _row(_ANY, "(/api)?(/v1)?/status", "the daemon's totals are at /v1/status"),
    _row(_ANY, "(/v1)?/(health|healthz|health/live|health/ready|ping|live|ready)", "ask /livez or /readyz"),
)


def hint(method: str, path: str) -> str:
    """`; WORDS`, or nothing where nothing like it is known."""
    for one in _NEAR_MISSES:
        if (not one.methods or method in one.methods) and one.path.fullmatch(path):
            return "" if path in one.hint.replace(",", "").split() else f"; {one.hint}"
    return ""
