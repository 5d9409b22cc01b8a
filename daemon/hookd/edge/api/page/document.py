"""Owns how a page becomes HTML: templates, the one style and the one script, and the policy that allows these alone.

Rules: whatever is put into a template is escaped, and made harmless as for a terminal (core/printable): ids, URLs and
error words are other people's. Nothing is loaded from elsewhere. Style and script stand in each page, and the policy
names them by their hashes; so no other script can run, whatever got into the markup.
"""

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from quart import Response

from hookd.core.plurals import counted
from hookd.core.printable import printable
from hookd.core.time_text import ago, ahead, moment, span, took
from hookd.core.units import approximate_size

HTML = "text/html; charset=utf-8"
PACKAGE = "hookd.edge.api.page"


class Document:
    """Makes pages; what they are made of is read once, at the start."""

    def __init__(self) -> None:
        self._environment = _environment()
        self._headers = {
            "content-security-policy": policy(_file("page.css"), _file("page.js")),
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "x-frame-options": "DENY",
            "vary": "authorization",
        }

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        return Response(self.text(template, **values), status, headers=self._headers, content_type=HTML)

    def text(self, template: str, **values: Any) -> str:
        """`values` are what the template names. One that is missing is an error."""
        return self._environment.get_template(template).render(values)


@cache  # 60 ms, of which most is Jinja's compiler; so it is done at the start, and once for a process
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_harmless,
    )
    made.filters |= {
        "number": "{:,}".format,
        "counted": counted,
        "percent": _percent,
        "span": span,
        "took": took,
        "size": approximate_size,
        "moment": moment,
        "ago": ago,
        "ahead": ahead,
    }
    made.globals = {name: Markup(_file(file)) for name, file in (("style", "page.css"), ("script", "page.js"))}
    for name in made.list_templates():
        made.get_template(name)
    return made


def _file(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy that allows what the page does, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {_hash_of(style)}",
            f"script-src {_hash_of(script)}",
            "connect-src 'self'",
            "img-src data:",  # the empty icon, without which browsers ask for /favicon.ico
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _harmless(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _percent(share: float) -> str:
    return "< 1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"
