"""The HTTP server: sockets, TLS, connections, and an end that is bounded whatever the peers do.

Hypercorn brings HTTP/1.1 and ASGI (`H11Protocol`, its streams, its task group); the connection and the accept loop are
ours, because those of hypercorn 0.18 on Trio let one peer end the whole daemon, never close a connection under
Quart-Trio, and wait for ever for a peer that does not read. The only package that imports hypercorn; pinned to 0.18,
whose inner names it uses.

Does not do: HTTP/2 (an h2c upgrade is ignored, as RFC 9110 allows, and answered in HTTP/1.1; prior knowledge gets 505),
websockets (400), CONNECT (400), signals.

Known limits: whether a peer that has ended its sending is gone altogether shows only when its answer is written; until
then its handler goes on. Over TLS an end without a goodbye (close_notify) does count as gone. A head that comes too
slowly is closed without a 408. A handler that shields itself from cancellation without a deadline holds the stop.
"""

from hookd.edge.server.api_server import Server, Statistics
from hookd.edge.server.lifespan import AppFailed
from hookd.edge.server.sockets import CannotBind, addresses_of, bound_sockets
from hookd.edge.server.tls import BadCertificate, Tls

__all__ = [
    "AppFailed",
    "BadCertificate",
    "CannotBind",
    "Server",
    "Statistics",
    "Tls",
    "addresses_of",
    "bound_sockets",
]
