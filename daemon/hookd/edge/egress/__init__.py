"""How a request leaves: the only package that imports httpx."""

import sys

# httpx would load its command line, and with that rich: 3 MB and 0.07 s of CPU at each start. It does without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # the import system's sign for "there is none"

from hookd.edge.egress.sender import HttpSender, open_sender  # noqa: E402 - the line above comes first
from hookd.edge.egress.tls_identity import tls_mistakes  # noqa: E402

__all__ = ["HttpSender", "open_sender", "tls_mistakes"]
