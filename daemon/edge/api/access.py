"""Owns who may ask: without tokens, only programs on this machine, never a web page that a browser here shows.

A page can make a browser post to a loopback address (its `Origin` and `Sec-Fetch-Site` tell), and a name of its own
can be pointed at one (its `Host` tells). Routes without a scope are open to everyone.
"""

import ipaddress
from urllib.parse import urlsplit

from quart import current_app, request

from daemon.core.refusal import Forbidden
from daemon.edge.api.operations import operation_of

OWN_SITES = (None, "same-origin", "none")


def refuse_foreign_request() -> None:
    """Raises Forbidden for what comes, or may come, from a page of another site."""
    if request.endpoint is not None and operation_of(current_app.view_functions[request.endpoint]).scope is None:
        return
    host = request.headers.get("host", "")
    if not is_loopback_name(host):
        raise Forbidden(f"without tokens only loopback names are answered, not {host[:100]!r} in Host")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Forbidden("without tokens no page of another site is answered; this has a foreign Origin")
    if request.headers.get("sec-fetch-site") not in OWN_SITES:
        raise Forbidden("without tokens no page of another site is answered; Sec-Fetch-Site says it is one")


def is_loopback_name(host: str) -> bool:
    """`localhost`, 127.0.0.0/8 or [::1], with or without a port; what is no host at all is none."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
