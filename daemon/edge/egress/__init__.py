"""How a request leaves: the only package that imports httpx."""

from daemon.edge.egress.sender import HttpxSender

__all__ = ["HttpxSender"]
