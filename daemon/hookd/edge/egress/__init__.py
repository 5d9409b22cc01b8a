"""How a request leaves: the only package that imports httpx."""

from hookd.edge.egress.sender import HttpSender, open_sender
from hookd.edge.egress.tls_identity import tls_mistakes

__all__ = ["HttpSender", "open_sender", "tls_mistakes"]
