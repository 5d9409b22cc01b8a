"""Owns an endpoint's URL as text: what is wrong with it, and how much of it is shown.

Rule: the raw text is judged, because parsers repair a URL in different ways. In the end the standard parser must agree
on the host, so that the host that was judged is the host that is connected to.

It does not resolve names or judge addresses: edge/egress does that at every connect.
"""

import ipaddress
import re
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from hookd.core.client_schema import URL_CHARS_MAX

_URL_TEXT = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
_HOST_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PORT = re.compile(r"[0-9]{1,5}")
_PORTS = {"https": 443, "http": 80}


def shown_url(url: str) -> str:
    """For people who may read events: query names stay, their values, bare parts and the fragment go."""
    base, _, query = url.partition("#")[0].partition("?")
    names = [part.partition("=")[0] for part in query.split("&") if "=" in part]
    return f"{base}?{'&'.join(f'{name}=' for name in names)}" if names else base


def logged_url(url: str) -> str:
    """For logs: no query and no fragment, since either may carry a token."""
    return url.partition("#")[0].partition("?")[0]


def url_mistake(value: object, *, allow_http: bool, deny_ports: Collection[int] = ()) -> str:
    """What is wrong with a URL before any look-up, or ""."""
    if not isinstance(value, str):
        return 'must be a string such as "https://example.com/hook"'
    if len(value) > URL_CHARS_MAX:
        return f"has {len(value)} characters; at most {URL_CHARS_MAX} are taken"
    if not _URL_TEXT.fullmatch(value):
        return "must be printable ASCII without spaces and backslashes (percent-encode them; a host in its xn-- form)"
    scheme, separator, rest = value.partition("://")
    if not separator or scheme.lower() not in ("https", "http"):
        return 'must begin with "https://"'
    if scheme.lower() == "http" and not allow_http:
        return 'must begin with "https://"; plain http is for development: egress.allow_http = true, or --dev'
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return 'must not carry a user name or password; use "headers" for credentials'
    host, port = host_and_port(authority)
    detail = port_mistake(port) or host_mistake(host) or _parser_mistake(value, host)
    return detail or denied_port(int(port or _PORTS[scheme.lower()]), deny_ports)


def denied_port(port: int, deny_ports: Collection[int]) -> str:
    """What is wrong with the port by `egress.deny_ports`, or ""."""
    return f"port {port} is not allowed (egress.deny_ports)" if port in deny_ports else ""


def host_and_port(authority: str) -> tuple[str, str | None]:
    """None where no colon announces a port, so that an empty one can be told apart."""
    head, bracket, tail = authority.rpartition("]")
    host, colon, port = tail.partition(":")
    return head + bracket + host, port if colon else None


def port_mistake(port: str | None) -> str:
    if port is None or (_PORT.fullmatch(port) and 1 <= int(port) <= 65535):
        return ""
    return "the port must be a number from 1 to 65535"


def host_mistake(host: str) -> str:
    if not host:
        return "has no host"
    if host.startswith("["):
        return "" if host.endswith("]") and _is_ip(host[1:-1], ipaddress.IPv6Address) else "is no IPv6 address in []"
    name = host.removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        return "the host must be labels of 1 to 63 letters, digits, - or _, joined by dots, at most 253 characters"
    # `127.1`, `0x7f.1` and `2130706433` are names to some parsers and loopback to glibc; no real name ends in a number.
    if _NUMERIC_LABEL.fullmatch(labels[-1]) and not _is_ip(host, ipaddress.IPv4Address):
        return "an IPv4 address is written as four decimal numbers, such as 192.0.2.1"
    return ""


def _is_ip(text: str, kind: Callable[[str], object]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return "%" not in text  # a zone names an interface of this machine


def _parser_mistake(value: str, host: str) -> str:
    """The standard parser must agree with our reading of the host: what we judged is then what anyone connects to."""
    try:
        parsed = urlsplit(value).hostname
    except ValueError:
        return "is not a URL"
    return "" if parsed == host.strip("[]").lower() else "is not a URL"
