"""Owns the reading of a client definition: the decoded object becomes a `Client`, or every mistake in it is told.

Two places take a definition: `PUT /v1/clients/{client}` and `[[clients]]` in the config file. core/client_schema says
what it may hold.

Rules:
 * Endpoints match by id. A single endpoint without an id is `default`.
 * null is the same as leaving the key out.
 * No message repeats a URL, a header's value or a secret: messages reach logs and error answers.

It makes no secrets: `new_secret` comes in, because core has no randomness.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from hookd.core.client import Client, Endpoint, Order
from hookd.core.client_schema import (
    CERTIFICATE_PATTERN,
    CONCURRENCY_MAX,
    DELAY_SECONDS_MAX,
    EVENT_TYPES_MAX,
    GIVE_UP_ON_MAX,
    HEADER_NAME_CHARS_MAX,
    HEADER_NAME_PATTERN,
    HEADER_VALUE_CHARS_MAX,
    KEY_PATTERN,
    PEM_CHARS_MAX,
    RESERVED_HEADER_PREFIXES,
    RESERVED_HEADERS,
    SCHEDULE_ENTRIES_MAX,
    SECRET_BYTES_MAX,
    SECRET_BYTES_MIN,
    SECRET_PATTERN,
    STATUS_CLASSES,
    STATUS_MAX,
    STATUS_MIN,
    SUBSCRIPTION_PATTERN,
    TIMEOUT_SECONDS_MAX,
    ClientDefinition,
    EndpointDefinition,
    ShortDefinition,
)
from hookd.core.endpoint_egress import DIRECT, EndpointEgress, ProveTls, Proxy, unproved
from hookd.core.ids import is_id
from hookd.core.mistakes import Mistake, pointer_to, suggestion
from hookd.core.proxy_url import proxy_from
from hookd.core.rate import Rate
from hookd.core.settings import Settings
from hookd.core.units import format_duration, parse_duration
from hookd.core.urls import denied_port, url_mistake

# A definition with ten thousand unknown keys deserves an answer, not ten thousand comparisons on the event loop.
_UNKNOWN_KEYS_SHOWN = 20

_SUBSCRIPTION = re.compile(SUBSCRIPTION_PATTERN)
_SECRET = re.compile(SECRET_PATTERN)
_HEADER_NAME = re.compile(HEADER_NAME_PATTERN)
_HEADER_VALUE = re.compile(r"[\x20-\x7e\xa0-\xff]*")

_CERTIFICATE = re.compile(CERTIFICATE_PATTERN)
_KEY = re.compile(KEY_PATTERN)

_ID_RULE = "id is 1 to 64 of the characters A-Z a-z 0-9 _ -"
_CLIENT_KEYS = ClientDefinition.__struct_fields__
_ENDPOINT_KEYS = EndpointDefinition.__struct_fields__
_SHORT_KEYS = ShortDefinition.__struct_fields__


class ClientRules(msgspec.Struct, frozen=True):
    """The part of the settings that decides what a definition may hold."""

    allow_http: bool
    endpoints_max: int
    headers_max: int
    deny_ports: tuple[int, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "ClientRules":
        registry, egress = settings.registry, settings.egress
        return cls(egress.allow_http, registry.endpoints_max, registry.headers_max, egress.deny_ports)


class InvalidClient(Exception):
    """Every mistake of a definition, in the order it was read."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("; ".join(f"{pointer or 'the definition'}: {detail}" for pointer, detail in self.mistakes))


def client_from(
    definition: object,
    *,
    client_id: str,
    rules: ClientRules,
    new_secret: Callable[[], str],
    secrets: Mapping[str, str] = {},
    managed_by_config: bool = False,
    prove_tls: ProveTls = unproved,
) -> Client:
    """The client a definition describes. `secrets`: endpoint id -> a registered endpoint's, kept if none is given."""
    reader = _Reader(rules, is_operators=managed_by_config, prove_tls=prove_tls)
    if not is_id(client_id):
        reader.note("", f"a client's {_ID_RULE}")
    drafts = reader.endpoints(definition)
    if reader.mistakes:
        raise InvalidClient(reader.mistakes)
    endpoints = []
    for draft in drafts:
        secret = draft.pop("secret") or secrets.get(draft["id"]) or new_secret()
        endpoints.append(Endpoint(secret=secret, **draft))
    return Client(id=client_id, endpoints=tuple(endpoints), managed_by_config=managed_by_config)


class _Reader:
    """Reads one definition and collects its mistakes; a part with a mistake yields some harmless value."""

    def __init__(self, rules: ClientRules, *, is_operators: bool, prove_tls: ProveTls) -> None:
        self.rules = rules
        self.is_operators = is_operators
        self.prove_tls = prove_tls
        self.mistakes: list[Mistake] = []

    def note(self, pointer: str, detail: str) -> None:
        self.mistakes.append(Mistake(pointer, detail))

    def endpoints(self, definition: object) -> list[dict[str, Any]]:
        if not isinstance(definition, dict):
            self.note("", 'must be an object such as {"url": "https://example.com/hook"}')
            return []
        if "endpoints" not in definition:
            return self.short_form(definition)
        for key in self.unknown_keys("", definition, _CLIENT_KEYS):
            where = " here; it belongs into an entry of endpoints" if key in _ENDPOINT_KEYS else ""
            self.note(pointer_to("", key), f"unknown key{where or suggestion(key, _CLIENT_KEYS)}")
        entries = definition["endpoints"]
        if not isinstance(entries, list) or not entries:
            self.note("/endpoints", "must be an array of at least one endpoint")
            return []
        if len(entries) > self.rules.endpoints_max:
            self.note("/endpoints", f"{len(entries)} endpoints; a client has at most {self.rules.endpoints_max}")
            return []
        drafts = [
            self.endpoint(f"/endpoints/{index}", entry, alone=len(entries) == 1) for index, entry in enumerate(entries)
        ]
        self.unique_ids(drafts)
        return drafts

    def short_form(self, definition: dict[Any, Any]) -> list[dict[str, Any]]:
        if "url" not in definition:
            self.note("", "must have endpoints, or url for a client with one endpoint")
        for key in self.unknown_keys("", definition, _SHORT_KEYS):
            where = "; next to a bare url only secret may stand, write endpoints" if key in _ENDPOINT_KEYS else ""
            self.note(pointer_to("", key), f"unknown key{where or suggestion(key, (*_SHORT_KEYS, *_CLIENT_KEYS))}")
        if "url" not in definition:
            return []
        return [
            self.endpoint_fields("", {key: definition[key] for key in _SHORT_KEYS if key in definition}, alone=True)
        ]

    def endpoint(self, at: str, entry: object, *, alone: bool) -> dict[str, Any]:
        if not isinstance(entry, dict):
            self.note(at, 'must be an object with at least "url"')
            return {"id": None}
        for key in self.unknown_keys(at, entry, _ENDPOINT_KEYS):
            self.note(pointer_to(at, key), f"unknown key{suggestion(key, _ENDPOINT_KEYS)}")
        return self.endpoint_fields(at, entry, alone=alone)

    def endpoint_fields(self, at: str, entry: dict[Any, Any], *, alone: bool) -> dict[str, Any]:
        if "url" not in entry:
            self.note(at, 'has no "url"')
        else:
            self.url(f"{at}/url", entry["url"])
        return {
            "id": self.endpoint_id(at, entry.get("id"), alone=alone),
            "url": entry.get("url"),
            "secret": self.secret(f"{at}/secret", entry.get("secret")),
            "event_types": self.event_types(f"{at}/event_types", entry.get("event_types")),
            "headers": self.headers(f"{at}/headers", entry.get("headers")),
            "timeout_seconds": self.timeout(f"{at}/timeout", entry.get("timeout")),
            "concurrency": self.concurrency(f"{at}/concurrency", entry.get("concurrency")),
            "schedule_seconds": self.schedule(f"{at}/schedule", entry.get("schedule")),
            "order": self.order(f"{at}/order", entry.get("order")),
            "rate": self.rate(f"{at}/rate", entry.get("rate")),
            "give_up_on": self.give_up_on(f"{at}/give_up_on", entry.get("give_up_on")),
            "paused": self.flag(f"{at}/paused", entry.get("paused")),
            "trace_context": self.trace_context(f"{at}/trace_context", entry),
            "egress": self.egress(at, entry),
        }

    def unknown_keys(self, at: str, entry: dict[Any, Any], known: tuple[str, ...]) -> list[object]:
        unknown = [key for key in entry if key not in known]
        if len(unknown) > _UNKNOWN_KEYS_SHOWN:
            self.note(at, f"{len(unknown)} unknown keys; the first {_UNKNOWN_KEYS_SHOWN} are listed")
        return unknown[:_UNKNOWN_KEYS_SHOWN]

    def unique_ids(self, drafts: list[dict[str, Any]]) -> None:
        seen: dict[str, int] = {}
        for index, draft in enumerate(drafts):
            first = seen.setdefault(draft["id"], index) if draft["id"] is not None else index
            if first != index:
                self.note(f"/endpoints/{index}/id", f"endpoint {first} has this id already")

    def endpoint_id(self, at: str, value: object, *, alone: bool) -> str | None:
        if value is None:
            if alone:
                return "default"
            self.note(at, 'needs an "id", because the client has several endpoints')
            return None
        if not is_id(value):
            self.note(f"{at}/id", f"an endpoint's {_ID_RULE}")
            return None
        return str(value)

    def url(self, at: str, value: object) -> None:
        detail = url_mistake(value, allow_http=self.rules.allow_http, deny_ports=self.rules.deny_ports)
        if detail:
            self.note(at, detail)

    def secret(self, at: str, value: object) -> str | None:
        if value is None:
            return None
        if not (isinstance(value, str) and _SECRET.fullmatch(value)):
            size = f"{SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}"
            self.note(at, f'must be "whsec_" and then {size} bytes in standard base64 with its padding')
            return None
        return str(value)

    def event_types(self, at: str, value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > EVENT_TYPES_MAX:
            self.note(at, f'must be an array of at most {EVENT_TYPES_MAX} types such as "invoice.paid" or "invoice.*"')
            return ()
        for index, entry in enumerate(value):
            if not (isinstance(entry, str) and _SUBSCRIPTION.fullmatch(entry)):
                detail = "must be 1 to 130 of A-Z a-z 0-9 _ . : / - and * for any run of them, behind ! if not wanted"
                self.note(f"{at}/{index}", detail)
        return tuple(value)

    def headers(self, at: str, value: object) -> tuple[tuple[str, str], ...]:
        if value is None:
            return ()
        if not isinstance(value, dict):
            self.note(at, 'must be an object of names and values such as {"x-team": "billing"}')
            return ()
        if len(value) > self.rules.headers_max:
            self.note(at, f"{len(value)} headers; an endpoint has at most {self.rules.headers_max}")
            return ()
        seen: set[str] = set()
        for name, content in value.items():
            detail = _header_mistake(name, content)
            if not detail and name.lower() in seen:
                detail = "stands twice, in different case"
            if detail:
                self.note(pointer_to(at, name), detail)
            seen.add(str(name).lower())
        return tuple(value.items())

    def timeout(self, at: str, value: object) -> float | None:
        if value is None:
            return None
        return self.duration(at, value, seconds_max=TIMEOUT_SECONDS_MAX, zero=False)

    def concurrency(self, at: str, value: object) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= CONCURRENCY_MAX:
            self.note(at, f"must be a whole number from 1 to {CONCURRENCY_MAX}")
            return None
        return value

    def schedule(self, at: str, value: object) -> tuple[float, ...] | None:
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > SCHEDULE_ENTRIES_MAX:
            self.note(at, f'must be an array of at most {SCHEDULE_ENTRIES_MAX} delays such as ["5s", "2m"]')
            return None
        delays = [
            self.duration(f"{at}/{i}", entry, seconds_max=DELAY_SECONDS_MAX, zero=True) for i, entry in enumerate(value)
        ]
        return tuple(delay for delay in delays if delay is not None)

    def order(self, at: str, value: object) -> Order:
        if value not in (None, "any", "strict"):
            self.note(at, 'must be "any" or "strict"')
        return "strict" if value == "strict" else "any"

    def rate(self, at: str, value: object) -> Rate | None:
        if value is None:
            return None
        try:
            return Rate.of(value if isinstance(value, str) else "")
        except ValueError as error:
            self.note(at, str(error))
            return None

    def give_up_on(self, at: str, value: object) -> tuple[int | str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > GIVE_UP_ON_MAX:
            self.note(at, f'must be an array of at most {GIVE_UP_ON_MAX} statuses such as [400, "3xx"]')
            return ()
        for index, entry in enumerate(value):
            is_status = isinstance(entry, int) and not isinstance(entry, bool) and STATUS_MIN <= entry <= STATUS_MAX
            if not is_status and entry not in STATUS_CLASSES:
                classes = ", ".join(f'"{one}"' for one in STATUS_CLASSES)
                self.note(f"{at}/{index}", f"must be a status from {STATUS_MIN} to {STATUS_MAX}, or one of {classes}")
        return tuple(value)

    def trace_context(self, at: str, entry: dict[Any, Any]) -> bool:
        is_wanted, headers = bool(self.flag(at, entry.get("trace_context"))), entry.get("headers")
        if is_wanted and isinstance(headers, dict) and any(str(name).lower() == "traceparent" for name in headers):
            self.note(at, "the endpoint's own headers have a traceparent; leave out one of them")
        return is_wanted

    def flag(self, at: str, value: object) -> bool | None:
        if value is not None and not isinstance(value, bool):
            self.note(at, "must be true or false")
            return None
        return value

    def egress(self, at: str, entry: dict[Any, Any]) -> EndpointEgress | None:
        """None where it is reached as all are."""
        known = len(self.mistakes)
        certificate, key = entry.get("client_certificate"), entry.get("client_key")
        if (certificate is None) != (key is None):
            self.note(f"{at}/client_{'certificate' if key is None else 'key'}", "client_certificate needs client_key")
        egress = EndpointEgress(
            ca=self.pem(f"{at}/ca", entry.get("ca"), _CERTIFICATE, "certificates"),
            client_certificate=self.pem(f"{at}/client_certificate", certificate, _CERTIFICATE, "a certificate"),
            client_key=self.pem(f"{at}/client_key", key, _KEY, "a private key"),
            proxy=self.proxy(f"{at}/proxy", entry.get("proxy")),
        )
        if egress == EndpointEgress():
            return None
        if len(self.mistakes) == known:
            for part, detail in self.prove_tls(egress):
                self.note(f"{at}/{part}", detail)
        return egress

    def pem(self, at: str, value: object, pattern: re.Pattern[str], noun: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > PEM_CHARS_MAX or not pattern.search(value):
            self.note(at, f"must be {noun} in PEM, as a string of at most {PEM_CHARS_MAX:,} characters")
            return ""
        return value

    def proxy(self, at: str, value: object) -> Proxy | None:
        if value is None:
            return None
        if value == "":
            return DIRECT
        try:
            proxy = proxy_from(value, is_judged=not self.is_operators)
        except ValueError as error:
            self.note(at, str(error))
            return None
        if proxy.is_judged and (detail := denied_port(proxy.port, self.rules.deny_ports)):
            self.note(at, detail)
        return proxy

    def duration(self, at: str, value: object, *, seconds_max: float, zero: bool) -> float | None:
        if not isinstance(value, str):
            self.note(at, 'must be a duration with its unit, as a string such as "15s"')
            return None
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.note(at, str(error))
            return None
        if seconds > seconds_max or (seconds == 0 and not zero):
            least = "at most" if zero else "more than 0s and at most"
            self.note(at, f"must be {least} {format_duration(seconds_max)}")
            return None
        return seconds


def _header_mistake(name: object, content: object) -> str:
    if not isinstance(name, str) or len(name) > HEADER_NAME_CHARS_MAX or not _HEADER_NAME.fullmatch(name):
        return f"a header's name is 1 to {HEADER_NAME_CHARS_MAX} letters, digits or any of !#$%&'*+-.^_`|~"
    if name.lower() in RESERVED_HEADERS or name.lower().startswith(RESERVED_HEADER_PREFIXES):
        return "this header is set by hookd or by the connection; leave it out"
    if not isinstance(content, str):
        return "a header's value must be a string"
    if len(content) > HEADER_VALUE_CHARS_MAX:
        return f"a header's value has at most {HEADER_VALUE_CHARS_MAX} characters"
    if not _HEADER_VALUE.fullmatch(content):
        return "a header's value is printable Latin-1, without line breaks or control characters"
    return "a header's value has no space at either end" if content != content.strip(" \xa0") else ""
