"""Owns what a client definition may say: its fields, their forms and their limits.

It has two readers. core/client_definition checks a definition by these numbers and patterns and finds every mistake at
once. edge/api/openapi publishes the Structs as the schema.

The Structs are not decoded into, because msgspec stops at the first mistake. No schema can say everything: the host of
a URL, the bounds of a duration, two header names that differ in case only, limits from the settings. The descriptions
say it, and core/client_definition checks it.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hookd.core.ids import ID_PATTERN
from hookd.core.rate import RATE_PATTERN
from hookd.core.units import DURATION_PATTERN

TIMEOUT_SECONDS_MAX = 3600.0
DELAY_SECONDS_MAX = 30 * 86400.0
SCHEDULE_ENTRIES_MAX = 50
CONCURRENCY_MAX = 1000
GIVE_UP_ON_MAX = 100
STATUS_MIN, STATUS_MAX = 300, 599
STATUS_CLASSES = ("3xx", "4xx", "5xx")
EVENT_TYPES_MAX = 100
URL_CHARS_MAX = 2048
HEADER_NAME_CHARS_MAX = 128
HEADER_VALUE_CHARS_MAX = 4096
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
PEM_CHARS_MAX = 16 * 1024
PROXY_URL_CHARS_MAX = 2048

# A type has 128 characters; `.*` behind it was always allowed.
ENTRY_CHARS_MAX = 130
SUBSCRIPTION_PATTERN = rf"^!?[A-Za-z0-9_.:/*-]{{1,{ENTRY_CHARS_MAX}}}$"
HEADER_NAME_PATTERN = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
# Printable Latin-1 without a space (or a no-break one) at either end.
HEADER_VALUE_PATTERN = r"^(?:[\x21-\x7e\xa1-\xff](?:[\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa1-\xff])?)?$"
URL_PATTERN = r"^[Hh][Tt][Tt][Pp][Ss]?://[\x21-\x5b\x5d-\x7e]+$"
CERTIFICATE_PATTERN = "-----BEGIN CERTIFICATE-----"
KEY_PATTERN = "-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
PROXY_URL_PATTERN = r"^(?:[Hh][Tt][Tt][Pp]://[\x21-\x5b\x5d-\x7e]+:[0-9]{1,5}/?)?$"
# 24 to 64 bytes in standard base64. That is eight to twenty whole groups and a rest, or twenty-one groups and at most
# one byte. The last character before the padding has no stray bits: other libraries refuse them.
SECRET_PATTERN = (
    "^whsec_(?:"
    "(?:[A-Za-z0-9+/]{4}){8,20}(?:[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?"
    "|(?:[A-Za-z0-9+/]{4}){21}(?:[A-Za-z0-9+/][AQgw]==)?)$"
)

# The sender or the connection writes these. An endpoint's own value would break the framing or forge our identity.
RESERVED_HEADERS = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "host", "accept-encoding"}
    | {"user-agent", "http2-settings"}
)
RESERVED_HEADER_PREFIXES = ("proxy-", "content-", "webhook-", "hookd-")


def _in_any_case(name: str) -> str:
    """A pattern for the name in any case: JSON Schema's patterns have no flags."""
    return "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in name)


_RESERVED_PATTERN = (
    f"^(?:(?:{'|'.join(map(_in_any_case, sorted(RESERVED_HEADERS)))})$"
    f"|{'|'.join(map(_in_any_case, RESERVED_HEADER_PREFIXES))})"
)


def _said(description: str, **schema: Any) -> Meta:
    return Meta(description=description, extra_json_schema=schema)


Url = Annotated[
    str,
    _said(
        "Where events are posted: https, or http where egress.allow_http says so; a host name or an IP address, "
        "without a user name. Its address is judged at every connect.",
        format="uri",
        pattern=URL_PATTERN,
        maxLength=URL_CHARS_MAX,
        examples=["https://example.com/hook"],
    ),
]
Secret = Annotated[
    str,
    _said(
        "`whsec_` and then 24 to 64 bytes in base64. Without one an endpoint keeps the one it has; a new one is made "
        "one, which that answer alone returns.",
        pattern=SECRET_PATTERN,
        examples=["whsec_aG9va2QgZXhhbXBsZSBzZWNyZXQgMTIzNA=="],
    ),
]
_EndpointId = Annotated[str, _said("Needed where there are several; else `default`", pattern=ID_PATTERN)]
_Subscriptions = Annotated[
    list[
        Annotated[
            str,
            _said(
                "A type; `*` stands for any run of characters; with a leading `!` what is not wanted",
                pattern=SUBSCRIPTION_PATTERN,
            ),
        ]
    ],
    _said("The event types it wants; all without", maxItems=EVENT_TYPES_MAX, examples=[["invoice.*", "!*.draft"]]),
]
_Headers = Annotated[
    dict[str, Annotated[str, _said("", pattern=HEADER_VALUE_PATTERN, maxLength=HEADER_VALUE_CHARS_MAX)]],
    _said(
        "Sent with every attempt; at most registry.headers_max, no name twice in different case",
        propertyNames={
            "pattern": HEADER_NAME_PATTERN,
            "maxLength": HEADER_NAME_CHARS_MAX,
            "not": {"pattern": _RESERVED_PATTERN},
        },
        examples=[{"x-team": "billing"}],
    ),
]
_Timeout = Annotated[
    str,
    _said(
        "Of one whole attempt, more than 0s and at most 1h; delivery.timeout without",
        pattern=DURATION_PATTERN,
        format="hookd-timeout",
        examples=["10s"],
    ),
]
_Delay = Annotated[str, _said("At most 30d", pattern=DURATION_PATTERN, format="hookd-delay")]
_Schedule = Annotated[
    list[_Delay],
    _said(
        "The waits between attempts; retry.schedule without",
        maxItems=SCHEDULE_ENTRIES_MAX,
        examples=[["5s", "2m", "1h"]],
    ),
]
_Concurrency = Annotated[
    int,
    _said("Attempts in flight at most; delivery.concurrency without", minimum=1, maximum=CONCURRENCY_MAX, examples=[4]),
]
_Certificates = Annotated[
    str,
    _said(
        "Authorities in PEM, trusted beside the public ones; egress.ca_file without",
        pattern=CERTIFICATE_PATTERN,
        format="hookd-ca",
        maxLength=PEM_CHARS_MAX,
    ),
]
_ClientCertificate = Annotated[
    str,
    _said(
        "What it is shown in TLS, in PEM with its chain; needs client_key. egress.client_certificate_file without",
        pattern=CERTIFICATE_PATTERN,
        format="hookd-client-certificate",
        maxLength=PEM_CHARS_MAX,
    ),
]
_ClientKey = Annotated[
    str,
    _said(
        "The key of client_certificate, in PEM and not encrypted. No answer shows it",
        pattern=KEY_PATTERN,
        format="hookd-client-key",
        maxLength=PEM_CHARS_MAX,
    ),
]
_ProxyUrl = Annotated[
    str,
    _said(
        "The forward proxy that leads to it: http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT, percent-encoded. "
        "No answer shows user or password. Empty: none. egress.proxy without",
        pattern=PROXY_URL_PATTERN,
        format="hookd-proxy",
        maxLength=PROXY_URL_CHARS_MAX,
    ),
]


_GiveUpOn = Annotated[
    list[Annotated[int, Meta(ge=STATUS_MIN, le=STATUS_MAX)] | Literal["3xx", "4xx", "5xx"]],
    _said(
        "Statuses, and classes of them, that exhaust a delivery at once as `refused`; none without",
        maxItems=GIVE_UP_ON_MAX,
        examples=[[400, "3xx"]],
    ),
]
_TraceContext = Annotated[
    bool, _said("true: it gets the `traceparent` that came with an event, never its tracestate or baggage")
]
_Paused = Annotated[bool, _said("true: held as by an operator; false: no longer; as it is without")]


_Order = Annotated[
    Literal["any", "strict"],
    _said("strict: one at a time, in the order of acceptance, each settled before the next begins; any without"),
]
_Rate = Annotated[
    str,
    _said(
        "Attempts begin no faster; one second's worth may begin at once. At most 1000/s; no limit without",
        pattern=RATE_PATTERN,
        format="hookd-rate",
        examples=["10/s"],
    ),
]


class EndpointDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """One endpoint. null is the same as leaving the field out."""

    url: Url
    id: _EndpointId | None = None
    secret: Secret | None = None
    event_types: _Subscriptions | None = None
    headers: _Headers | None = None
    timeout: _Timeout | None = None
    concurrency: _Concurrency | None = None
    schedule: _Schedule | None = None
    order: _Order | None = None
    rate: _Rate | None = None
    give_up_on: _GiveUpOn | None = None
    paused: _Paused | None = None
    trace_context: _TraceContext | None = None
    ca: _Certificates | None = None
    client_certificate: _ClientCertificate | None = None
    client_key: _ClientKey | None = None
    proxy: _ProxyUrl | None = None


class ClientDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """A client with one endpoint or more."""

    endpoints: Annotated[
        list[EndpointDefinition], _said("At most registry.endpoints_max; their ids are unique", minItems=1)
    ]


class ShortDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """Short for a client with one endpoint, `default`."""

    url: Url
    secret: Secret | None = None
