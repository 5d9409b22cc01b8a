"""The documents as a site, by Sphinx: `sphinx-build -W -c docs . build/site`. Begin at build/site/docs/README.html.

The sources are the plain files as they stand, so links work there as in a checkout. Nothing is loaded from elsewhere:
the theme has no foreign font and no foreign script.
"""

import posixpath
import re

from pygments.lexers.shell import BashLexer
from sphinx.application import Sphinx

project = "hookd"
extensions = ["myst_parser"]
root_doc = "docs/README"
include_patterns = ["docs/*.md", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md"]
exclude_patterns = [".*", "build", "dist", "daemon", "reports", "config", "tests/*/**"]
myst_heading_anchors = 4  # links name headings as a repository's host does
html_theme = "alabaster"
html_theme_options = {
    "description": "Webhook delivery from memory",
    "page_width": "1240px",
    "body_max_width": "960px",
    "font_size": "15px",
    "code_font_size": "0.85em",
}
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
pygments_style = "friendly"


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """The start page's tables are for readers; the site's list of pages is made of them, in their order."""
    if page == root_doc:
        linked = [posixpath.normpath(f"docs/{link}") for link in re.findall(r"\]\(([\w./-]+)\.md", source[0])]
        known = sorted(app.env.found_docs - {root_doc})
        names = "\n".join(f"/{one}" for one in dict.fromkeys([*linked, *known]) if one in known)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{names}\n```\n"


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_contents)
    app.add_lexer("console", BashLexer)  # our blocks are to be pasted: no prompt stands before a command
