"""Owns a proxy's URL as text: `http://HOST:PORT`, with a user and a password or without.

Rule: no message repeats what stands before the `@`. The host is judged as an endpoint's is (core/urls).
"""

import re
from urllib.parse import quote, unquote

from hookd.core.client_schema import PROXY_URL_CHARS_MAX, PROXY_URL_PATTERN
from hookd.core.endpoint_egress import Proxy
from hookd.core.urls import host_and_port, host_mistake, port_mistake

CREDENTIALS_CHARS_MAX = 512

_FORM = 'must be "http://HOST:PORT"'
_TEXT = re.compile(PROXY_URL_PATTERN.removesuffix("$"))
_CREDENTIALS = re.compile(r"[^\x00-\x1f\x7f:]*:[^\x00-\x1f\x7f]*")


def proxy_from(url: object, *, is_judged: bool) -> Proxy:
    """Raises ValueError, which says what is wrong with it."""
    if not isinstance(url, str):
        raise ValueError(f"{_FORM}, as a string")
    if len(url) > PROXY_URL_CHARS_MAX:
        raise ValueError(f"has {len(url)} characters; at most {PROXY_URL_CHARS_MAX} are taken")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() != "http":
        raise ValueError(f"{_FORM}: a proxy is spoken to in plain http, and TLS goes through it")
    userinfo, at, authority = rest.removesuffix("/").rpartition("@")
    host, port = host_and_port(authority)
    if not _TEXT.fullmatch(url) or not port:
        raise ValueError(f"{_FORM}, in printable ASCII, with its port and nothing behind it")
    if detail := port_mistake(port) or host_mistake(host):
        raise ValueError(detail)
    credentials = _credentials(userinfo) if at else ""
    return Proxy(host.strip("[]").lower(), int(port), credentials, is_judged)


def with_credentials(url: str, credentials: str) -> str:
    """The same URL with what a file says, `user:password`, in it. Raises ValueError."""
    if detail := credentials_mistake(credentials):
        raise ValueError(detail)
    if "@" in url:
        raise ValueError("the proxy's URL has a user and a password already")
    user, _, password = credentials.partition(":")
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def credentials_mistake(credentials: str) -> str:
    """What is wrong with `user:password`, or ""."""
    if len(credentials) > CREDENTIALS_CHARS_MAX or not _CREDENTIALS.fullmatch(credentials):
        return f"must be USER:PASSWORD on one line, at most {CREDENTIALS_CHARS_MAX} characters"
    return ""


def _credentials(userinfo: str) -> str:
    user, _, password = userinfo.partition(":")
    try:
        credentials = f"{unquote(user, errors='strict')}:{unquote(password, errors='strict')}"
    except UnicodeDecodeError:
        raise ValueError("the user and the password must be UTF-8, percent-encoded") from None
    if "%3a" in user.lower():
        raise ValueError("the user and the password cannot be told apart: a user has no colon")
    if detail := credentials_mistake(credentials):
        raise ValueError(f"the user and the password {detail}")
    return credentials
