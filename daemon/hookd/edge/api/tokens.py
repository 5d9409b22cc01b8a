"""Owns the tokens in force, and the comparison of a request's token with them.

Rules: a request's token is compared with every token, by digests of one length, and to the end. So the time does not
tell which token it came near to, or whether it came near to any. A header without a token is compared like one with a
wrong token, and the answer does not say which part was wrong.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hookd.core.settings import TOKEN_CHARACTERS_MAX, TokenSettings
from hookd.edge.api.operations import Operation, Scope

SCHEME = "bearer"

Compare = Callable[[bytes, bytes], bool]


class Holder(NamedTuple):
    """Whose token it is."""

    name: str
    scope: Scope
    clients: frozenset[str] | None  # held to these alone; None: to none

    def may(self, operation: Operation) -> bool:
        return operation.scope is None or self.scope in operation.tokens()


class Tokens:
    def __init__(self, settings: Sequence[TokenSettings], *, compare: Compare = hmac.compare_digest) -> None:
        self._known = [(_digest(token.token), _holder(token)) for token in settings]
        self._compare = compare

    def holder(self, headers: Sequence[str]) -> Holder | None:
        """Whose token stands in the request's `Authorization` headers; None where it is nobody's."""
        given = _digest(_token(headers))
        found = None
        for digest, holder in self._known:
            if self._compare(digest, given):
                found = holder  # no break: all are compared; tokens are unique
        return found


def _holder(token: TokenSettings) -> Holder:
    return Holder(token.name, Scope(token.scope), frozenset(token.clients) or None)


def _token(headers: Sequence[str]) -> str:
    """The header's token; "" unless there is exactly one header, of our scheme, with a token of a possible length."""
    if len(headers) != 1:
        return ""
    scheme, _, token = headers[0].partition(" ")
    token = token.strip(" ")
    return token if scheme.lower() == SCHEME and len(token) <= TOKEN_CHARACTERS_MAX else ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
