"""How a request leaves: the only package that imports httpx."""

from hookd.edge.egress.sender import HttpSender, open_sender

__all__ = ["HttpSender", "open_sender"]
