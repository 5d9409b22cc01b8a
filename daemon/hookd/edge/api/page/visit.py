"""Owns who looks at a page, from where, and what that person may do."""

import shlex
from typing import NamedTuple

from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.services import Services


class Visit(NamedTuple):
    """`root` leads from the page to the API's root, so that pages work under a proxy's path as well."""

    root: str
    url: str  # the daemon's, as the browser has it
    is_stranger: bool  # there are tokens, and the request has none: it gets no data
    has_tokens: bool
    sees_all: bool  # its token is held to no clients
    may_act: bool  # as an admin; without tokens everyone on this machine may
    now: float  # wall

    @classmethod
    def of(cls, services: Services, *, root: str) -> "Visit":
        request = this_request()
        return cls(
            root=root,
            url=f"{request.scheme}://{request.host}",
            is_stranger=not request.exchange.is_granted,
            has_tokens=bool(services.effective.settings.http.tokens),
            sees_all=request.exchange.clients is None,
            may_act=request.exchange.may_administer,
            now=services.clock.now().wall,
        )

    def resume(self, client_id: str, endpoint_id: str) -> str:
        return self.curl(f"/v1/clients/{client_id}/endpoints/{endpoint_id}/resume")

    def retry(self, client_id: str, event_id: str) -> str:
        return self.curl(f"/v1/clients/{client_id}/events/{event_id}/retry")

    def explain(self, name: str) -> str:
        return shlex.join(["hookd", "explain", name, "--url", self.url])

    def curl(self, path: str, body: str = "") -> str:
        """A POST to it as a command to paste; `body` is JSON. The token stays in its file."""
        token = ' -H "authorization: Bearer $(cat "$HOOKD_TOKEN_FILE")"' if self.has_tokens else ""
        sent = f" -H 'content-type: application/json' -d {shlex.quote(body)}" if body else ""
        return f"curl -X POST {shlex.quote(self.url + path)}{token}{sent}"
