"""What all POSTs to one endpoint have in common, made once: where they go, whose connections they use, their head.

To parse a URL and write a whole head takes as much as half of a request.

Rules:
 * One is found by all that it was made of, so none is ever stale: another URL or another header is another one.
 * They take `held_bytes_max` together; over that the one made first goes, and is made anew when it is wanted.

Worst-case memory: `held_bytes_max`, a kibibyte for each client that may be registered (core/sizing).
"""

from typing import NamedTuple

import httpx

from hookd.edge.egress.request_head import RequestHead
from hookd.edge.egress.transport import UrlParts, url_parts

OVERHEAD_BYTES = 1200  # of each, over the bytes of its head and the text that it was made of

# Client, endpoint, URL, and the headers that are the same at each attempt.
Made = tuple[str, str, str, tuple[tuple[str, str], ...]]


class PreparedPost(NamedTuple):
    parts: UrlParts
    key: str  # whose connections
    head: RequestHead
    held_bytes: int  # about, what it was made of included


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
        client_id, endpoint_id, url, headers = made_of
        parts = url_parts(httpx.URL(url))
        fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        # A string knows its hash, and no id holds a blank.
        key = f"{client_id} {endpoint_id} {parts.scheme}://{parts.host}:{parts.port}"
        head = RequestHead(b"POST", parts.path, parts.authority, fields)
        made_of_bytes = len(url) + sum(len(name) + len(value) for name, value in headers)
        made = PreparedPost(parts, key, head, OVERHEAD_BYTES + len(head) + made_of_bytes)
        self._posts[made_of] = made
        self.held_bytes += made.held_bytes
        while self.held_bytes > self.held_bytes_max:
            self.held_bytes -= self._posts.pop(next(iter(self._posts))).held_bytes
        return made
