"""The status page: what on-call looks at and presses, made by the server from the daemon's own objects.

Does not: decide or change anything. What a button does is a route of the API.
"""

from hookd.edge.api.page.routes import page_routes

__all__ = ["page_routes"]
