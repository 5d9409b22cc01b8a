"""What all POSTs to one endpoint have in common, made once: where they go, whose connections they use, their head.

To parse a URL and write a whole head takes as much as half of a request.

Rules:
 * One is found by all that it was made of, so none is ever stale: another URL, another header, another proxy or
   another certificate is another one. Connections are shared within one endpoint, one place and one way there.
 * With a proxy, a plain http request has the absolute form, and the proxy's credentials. Over https the endpoint gets
   neither: they are CONNECT's (tunnel.py).
 * They take `held_bytes_max` together; over that the one made first goes, and is made anew when it is wanted.

Worst-case memory: `held_bytes_max`, a kibibyte for each client that may be registered (core/sizing).
"""

import hashlib
from typing import NamedTuple

import httpx

from hookd.core.endpoint_egress import EndpointEgress
from hookd.edge.egress.request_head import RequestHead
from hookd.edge.egress.transport import UrlParts, url_parts
from hookd.edge.egress.tunnel import Way, credentials_field

OVERHEAD_BYTES = 1200  # of each, over the bytes of its head and the text that it was made of
WAY_BYTES = 1024  # of one that does not go straight, besides; its texts are the endpoint's

# Client, endpoint, URL, the headers that are the same at each attempt, and how it is reached if that is not straight.
Made = tuple[str, str, str, tuple[tuple[str, str], ...], EndpointEgress | None]


class PreparedPost(NamedTuple):
    parts: UrlParts
    key: str  # whose connections
    head: RequestHead
    held_bytes: int  # about, what it was made of included
    way: Way | None = None  # None: straight

    @property
    def is_absolute(self) -> bool:
        """Whether a proxy reads the request, and not only who is behind its tunnel."""
        return self.way is not None and self.way.proxy is not None and self.parts.scheme == "http"


class PreparedPosts:
    def __init__(self, held_bytes_max: int) -> None:
        self.held_bytes_max = held_bytes_max  # may be assigned at any time
        self._posts: dict[Made, PreparedPost] = {}  # the first made first
        self.held_bytes = 0

    @property
    def count(self) -> int:
        return len(self._posts)

    def post(self, made_of: Made) -> PreparedPost:
        """Raises httpx.InvalidURL, httpx.TransportError and UnicodeError for what cannot be sent."""
        return self._posts.get(made_of) or self._prepare(made_of)

    def _prepare(self, made_of: Made) -> PreparedPost:
        client_id, endpoint_id, url, headers, egress = made_of
        parts = url_parts(httpx.URL(url))
        fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        # A string knows its hash, and no id holds a blank.
        key = f"{client_id} {endpoint_id} {parts.scheme}://{parts.host}:{parts.port}"
        way = None if egress is None else _way(egress)
        target = parts.path
        if way is not None:
            key = f"{key} {_fingerprint(way)}"
            if way.proxy is not None and parts.scheme == "http":
                target = b"http://" + parts.authority + parts.path
                field = credentials_field(way.proxy)
                fields += [field] if field is not None else []
        head = RequestHead(b"POST", target, parts.authority, fields)
        made_of_bytes = len(url) + sum(len(name) + len(value) for name, value in headers)
        made_of_bytes += 0 if way is None else WAY_BYTES
        made = PreparedPost(parts, key, head, OVERHEAD_BYTES + len(head) + made_of_bytes, way)
        self._posts[made_of] = made
        self.held_bytes += made.held_bytes
        while self.held_bytes > self.held_bytes_max:
            self.held_bytes -= self._posts.pop(next(iter(self._posts))).held_bytes
        return made


def _way(egress: EndpointEgress) -> Way:
    proxy = egress.proxy if egress.proxy is not None and egress.proxy.host else None
    return Way(egress.tls, proxy)


def _fingerprint(way: Way) -> str:
    """Who is reached another way, or shown another certificate, is handed no connection of this one."""
    parts = (*(way.tls or ("", "", "")), way.proxy and (way.proxy.host, way.proxy.port, way.proxy.credentials))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
