"""Owns the tokens in force, and how the one that a request brings is compared with them.

Rules: what a request brings is compared with every token, by digests of one length, to the end: how long that takes
tells nothing of which token it was near to, nor whether it was near to any. A header that holds no token is compared
like one that holds a wrong one, and nobody is told which part of it was wrong.
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

    def may(self, operation: Operation) -> bool:
        if self.scope is Scope.ADMIN or operation.scope in (None, self.scope):
            return True
        return operation.producers_too and self.scope is Scope.PRODUCE


class Tokens:
    def __init__(self, settings: Sequence[TokenSettings], *, compare: Compare = hmac.compare_digest) -> None:
        self._known = [(_digest(token.token), Holder(token.name, Scope(token.scope))) for token in settings]
        self._compare = compare

    def holder(self, headers: Sequence[str]) -> Holder | None:
        """Whose token the request's `Authorization` headers hold; None: nobody's."""
        given = _digest(_token(headers))
        found = None
        for digest, holder in self._known:
            if self._compare(digest, given):
                found = holder  # and on to the last: the names and values are unique
        return found


def _token(headers: Sequence[str]) -> str:
    """The empty text where there is not exactly one header, of our scheme and of a length that a token has."""
    if len(headers) != 1:
        return ""
    scheme, _, token = headers[0].partition(" ")
    token = token.strip(" ")
    return token if scheme.lower() == SCHEME and len(token) <= TOKEN_CHARACTERS_MAX else ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
