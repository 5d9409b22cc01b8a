"""The Quart-Trio API: routes by noun, refusals as problems. The only package that imports quart."""

from hookd.edge.api.app import create_app
from hookd.edge.api.services import Services

__all__ = ["Services", "create_app"]
