"""Owns who may ask. Each request is judged by the settings in force.

With tokens: a caller needs one whose scope opens the route, wherever it calls from. A path without a route takes a
token as well, so that strangers do not learn which routes there are. A token that is held to clients opens what speaks
of those alone (held_tokens.py).

Without tokens: only programs on this machine may ask, and never a web page in a browser here. A page can make a
browser post to a loopback address; its `Origin` and `Sec-Fetch-Site` show that. A page can also point a name of its own
at a loopback address; its `Host` shows that. No name leads to a unix socket, so any `Host` is answered there.

Routes without a scope are open to everyone. A browser (its `Accept` names HTML) gets a page without data that asks for
a token; programs get 401 there as everywhere. Refused requests
are logged, at most one line a second, with the number of them since the last line. No token is ever shown.
"""

import functools
import ipaddress
import math
import re

from hookd.core.bind import UNIX_PEER
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.quoting import cut, quoted
from hookd.core.refusal import Forbidden, NotAcceptable, Refused, Unauthorized
from hookd.edge.api.held_tokens import not_held
from hookd.edge.api.negotiation import names
from hookd.edge.api.operations import Operation, Scope
from hookd.edge.api.request_exchange import ApiRequest
from hookd.edge.api.tokens import Holder, Tokens
from hookd.flow.ports import Clock, Log

OWN_SITES = (None, "same-origin", "none")
LINE_EVERY_SECONDS = 1.0
_HOST = re.compile(r"(localhost|[0-9.]{7,15}?|\[[0-9a-f:.]{2,45}\])\.?(?::[0-9]{0,5})?")


class Auth:
    def __init__(self, effective: EffectiveSettings, clock: Clock, log: Log) -> None:
        self._effective = effective
        self._clock = clock
        self._log = log
        self._settings = effective.settings.http.tokens
        self._tokens = Tokens(self._settings)
        self._refused = 0  # since the last line
        self._next_line_at = -math.inf

    def judge(self, request: ApiRequest, operation: Operation | None) -> None:
        """Grants the request. `operation` is the route's; None where there is no such route.

        Raises Unauthorized or Forbidden, and ClientFull where the token has as many in progress as it may.
        """
        if operation is not None and (operation.scope is None or self._gets_shell(request, operation)):
            return
        try:
            if self._effective.settings.http.tokens:
                holder = self._holder(request, operation)
                is_admin = holder.scope is Scope.ADMIN
                request.exchange.grant(holder.name, holder.clients, may_administer=is_admin)
            else:
                refuse_foreign_request(request)
                request.exchange.grant(None)
        except Refused as refused:
            self._note(request, refused)
            raise

    def _gets_shell(self, request: ApiRequest, operation: Operation) -> bool:
        """A browser that shows no token gets a page without data where there is one; it asks for a token."""
        has_tokens = bool(self._effective.settings.http.tokens)
        is_stranger = operation.has_shell and has_tokens and b"authorization" not in request.first
        try:
            return is_stranger and names(request, "text/html")
        except NotAcceptable:
            return False  # a stranger hears of the token first

    def _holder(self, request: ApiRequest, operation: Operation | None) -> Holder:
        holder = self._in_force().holder(request.headers.getlist("authorization"))
        if holder is None:
            raise Unauthorized("this takes a token that is known here, as `Authorization: Bearer TOKEN`")
        # OPTIONS tells only the methods of a route, and those may have different scopes.
        if operation is None or request.method == "OPTIONS":
            return holder
        if not holder.may(operation):
            assert operation.scope is not None
            needed = operation.scope.value
            raise Forbidden(f"this takes a token of scope {needed}; {holder.name!r} has scope {holder.scope.value}")
        if holder.clients is not None:
            _refuse_beyond(holder.clients, request, operation)
        return holder

    def _in_force(self) -> Tokens:
        settings = self._effective.settings.http.tokens
        if settings is not self._settings:
            self._settings, self._tokens = settings, Tokens(settings)
        return self._tokens

    def _note(self, request: ApiRequest, refused: Refused) -> None:
        self._refused += 1
        now = self._clock.now().monotonic
        if now < self._next_line_at:
            return
        self._log(
            "request.refused",
            level="warning",
            problem=refused.slug,
            peer=request.remote_addr,
            method=cut(request.method),
            path=cut(request.path),
            requests=self._refused,
        )
        self._refused, self._next_line_at = 0, now + LINE_EVERY_SECONDS


def _refuse_beyond(clients: frozenset[str], request: ApiRequest, operation: Operation) -> None:
    """Raises Forbidden for another client's path, and for what speaks of no client at all."""
    client_id = (request.view_args or {}).get("client_id")
    if client_id is not None:
        if client_id not in clients:
            raise not_held(client_id)
    elif not operation.names_clients:
        raise Forbidden("this speaks of the whole daemon, and the token is held to certain clients")


def refuse_foreign_request(request: ApiRequest) -> None:
    """Raises Forbidden for what comes, or may come, from a page of another site."""
    host = request.first.get(b"host", "").lower()
    if not is_loopback_name(host) and request.scope.get("client") != UNIX_PEER:
        raise Forbidden(f"without tokens only loopback names are answered, not {quoted(host)} in Host")
    for origin in request.headers.getlist("origin") if b"origin" in request.first else ():
        if origin.lower() not in (f"http://{host}", f"https://{host}"):  # `null` is a page's too
            raise Forbidden("without tokens no page of another site is answered; this has a foreign Origin")
    if request.first.get(b"sec-fetch-site") not in OWN_SITES:
        raise Forbidden("without tokens no page of another site is answered; Sec-Fetch-Site says it is one")


@functools.lru_cache(maxsize=64)  # a producer's Host is the same in each request; 64 of those that a head may hold
def is_loopback_name(host: str) -> bool:
    """Whether it is `localhost`, in 127.0.0.0/8 or [::1], with or without a dot or a port behind it."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    if found[1] == "localhost":
        return True
    try:
        address = ipaddress.ip_address(found[1].strip("[]"))
    except ValueError:
        return False
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None  # which Python 3.13 calls loopback too
