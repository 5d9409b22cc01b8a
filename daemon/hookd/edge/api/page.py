"""Owns the status page: one file with its style and script in it, read at the start and served unchanged.

Rules: it holds no data and loads nothing from elsewhere. It may run only its own script and style, which the policy
names by their hashes. It asks the API for what it shows, with the reader's own token.
"""

import base64
import hashlib
import re
from importlib import resources

from quart import Blueprint, Response

from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.services import Services

HTML = "text/html; charset=utf-8"


def page_routes(_services: Services) -> Blueprint:
    routes = Blueprint("page", __name__)
    page = resources.files("hookd.edge.api").joinpath("page.html").read_bytes()
    headers = {
        "content-security-policy": policy(page),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
    }

    @routes.get("/")
    @operation("The status page", scope=Scope.READ, answers={200: HTML})
    async def get_page() -> Response:
        return Response(page, headers=headers, content_type=HTML)

    return routes


def policy(page: bytes) -> str:
    """The Content-Security-Policy that allows what this page does, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {_hash_of('style', page)}",
            f"script-src {_hash_of('script', page)}",
            "connect-src 'self'",
            "img-src data:",  # the empty icon, without which browsers ask for /favicon.ico
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _hash_of(element: str, page: bytes) -> str:
    [text] = re.findall(rf"<{element}>(.*?)</{element}>".encode(), page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
