"""What all POSTs to one endpoint have in common, made once: where they go, whose connections they use, their head.

To parse a URL and write a whole head takes as much as half of a request.

Rules:
 * One is found by all that it was made of, so none is ever stale: another URL or another header is another one.
 * They take HELD_BYTES_MAX together; over that the one that was made first goes, and is made anew when it is wanted.

Worst-case memory: HELD_BYTES_MAX, which is 10,000 endpoints with heads as usual.
"""

from typing import NamedTuple

import httpx

from hookd.edge.egress.request_head import RequestHead
from hookd.edge.egress.transport import UrlParts, url_parts

HELD_BYTES_MAX = 20 * 1024 * 1024
OVERHEAD_BYTES = 1200  # of each, over the bytes of its head and the text that it was made of

# Client, endpoint, URL, and the headers that are the same at each attempt.
Made = tuple[str, str, str, tuple[tuple[str, str], ...]]


class PreparedPost(NamedTuple):
    parts: UrlParts
    key: str  # whose connections
    head: RequestHead
    held_bytes: int  # about, what it was made of included


class PreparedPosts:
    def __init__(self, held_bytes_max: int = HELD_BYTES_MAX) -> None:
        self._held_bytes_max = held_bytes_max
        self._posts: dict[Made, PreparedPost] = {}  # the first made first
        self._held_bytes = 0

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
        self._held_bytes += made.held_bytes
        while self._held_bytes > self._held_bytes_max:
            self._held_bytes -= self._posts.pop(next(iter(self._posts))).held_bytes
        return made
