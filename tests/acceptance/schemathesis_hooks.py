"""What schemathesis has to be told of hookd: NDJSON, the forms that no pattern can hold, and whom not to post to.

Loaded by schemathesis itself, in its own process. Every URL that it makes up becomes the test's receiver, a proxy's
too: generated hosts may be someone's.
"""

import json
import os
import re
from typing import Any

import schemathesis
from hookd.core.client_schema import PROXY_URL_PATTERN
from hypothesis import strategies as st

from tests.core import pem

RECEIVER = os.environ["HOOKD_TEST_RECEIVER"]
PROXY = RECEIVER.rpartition("/")[0]

schemathesis.openapi.format("uri", st.just(RECEIVER))
schemathesis.openapi.format("hookd-rate", st.sampled_from(["1/s", "1000/s", "30/m", "5/h"]))
schemathesis.openapi.format("hookd-timeout", st.sampled_from(["1ms", "0.5s", "15s", "1h"]))
schemathesis.openapi.format("hookd-delay", st.sampled_from(["0s", "5s", "2m", "30d"]))
schemathesis.openapi.format("hookd-ca", st.just(pem.ca_of()))
schemathesis.openapi.format("hookd-client-certificate", st.just(pem.CERTIFICATE))
schemathesis.openapi.format("hookd-client-key", st.just(pem.KEY))
schemathesis.openapi.format("hookd-proxy", st.sampled_from(["", PROXY]))


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """An array is one item a line; what is no array is a line by itself, and an example is text already."""
    if isinstance(value, str | bytes):
        return value.encode() if isinstance(value, str) else value
    items = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    case.body = with_our_receiver(case.body)


MAY_HAVE_NO_BODY = ("/rotate-secret", "/events/{event_id}/cancel", "/events/{event_id}/redeliver")


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """False for none. With `?partial=true` a batch's bad event is refused in its place, under a 202. What posts to
    /v1/events/batch and /v1/events/lookup also takes GET, because an event may have this id. And a rotation,
    a cancel and a redelivery of one event take no body at all, which is how schemathesis sends some that it thinks are
    bad."""
    if failure.code == "ST205":  # an Allow header with methods that the path does not have
        return case.operation.path not in ("/v1/events/batch", "/v1/events/lookup")
    if failure.code == "ST201" and case.operation.path.endswith(MAY_HAVE_NO_BODY):
        return bool(response.request.body)
    if failure.code != "ST201" or (case.query or {}).get("partial") not in (True, "true"):  # bad data that was taken
        return True
    return response.status_code != 202 or not any("problem" in item for item in response.json()["events"])


def with_our_receiver(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: with_our_receiver(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_our_receiver(inner, name) for inner in value]
    if name == "proxy" and isinstance(value, str) and value and re.search(PROXY_URL_PATTERN, value):
        return PROXY
    return RECEIVER if name == "url" and isinstance(value, str) and "://" in value else value
