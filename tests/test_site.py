"""The documents as a site: Sphinx builds it without a warning, and no page loads anything from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What a browser would fetch by itself; a link that somebody follows is none.
FETCHED = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)="([^"]+)"')
STYLED = re.compile(r"@import\s+[^;]+|url\(\s*['\"]?(?:https?:)?//[^)]*\)")


@pytest.fixture(name="site", scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once; warnings are errors, a link that leads nowhere among them."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", "-d", str(site / "trees")]
    built = subprocess.run(
        [*command, ".", str(site / "pages")], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert built.returncode == 0, built.stderr
    return site / "pages"


def test_site_has_every_document_and_loads_nothing_from_elsewhere(site: Path) -> None:
    """Each page of docs/ is there, is listed on the start page, and fetches from beside itself alone."""
    start = (site / "docs" / "README.html").read_text(encoding="utf-8")
    documents = sorted((ROOT / "docs").glob("*.md"))
    assert [one.stem for one in documents if not (site / "docs" / f"{one.stem}.html").exists()] == []
    assert [one.stem for one in documents if one.stem != "README" and f'href="{one.stem}.html"' not in start] == []
    pages = list(site.rglob("*.html"))
    fetched = {link for page in pages for link in FETCHED.findall(page.read_text(encoding="utf-8"))}
    assert any(link.endswith(".css") or ".css?" in link for link in fetched)
    assert sorted(link for link in fetched if re.match(r"(?:https?:)?//", link)) == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert [found for style in styles for found in STYLED.findall(style)] == []
