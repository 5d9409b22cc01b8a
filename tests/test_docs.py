"""The documents against the repository: links lead somewhere, files that are named exist, no module is left out."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "daemon" / "hookd"
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
DOCUMENTS += [ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", ROOT / "tests" / "README.md"]
# Where a file's name in backticks is a promise that it is there.
NAMING_FILES = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md", ROOT / "docs" / "testing.md"]
NAMING_FILES += [ROOT / "docs" / "benchmarks.md", ROOT / "README.md"]
# Names of our own, for which the field has no word: each stands in the glossary.
OWN_WORDS = {"ledger", "lane", "courier", "pacer", "intake", "dispatch", "outcome", "verdict", "drain", "recorder"}
OWN_WORDS |= {"claim"}

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FILE = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml|yml|service|lock)|\.ci/[\w-]+)`")
TERM = re.compile(r"^\| \*\*([a-z ]+)\*\* \| (.+) \|$", re.MULTILINE)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors that a repository's host makes of a document's headings."""
    headings = HEADING.findall(FENCE.sub("", text(path)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> Iterator[str]:
    yield from LINK.findall(FENCE.sub("", text(path)))


def named_files(path: Path) -> set[str]:
    return set(FILE.findall(FENCE.sub("", text(path))))


def candidates(named: str) -> list[Path]:
    """A name is relative to the repository, to the package, or to the tests."""
    return [ROOT / named, PACKAGE / named, ROOT / "tests" / named]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    """Within the repository: the file is there, and so is the heading."""
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), f"{name(path)} links to {link}"
        if anchor:
            assert anchor in anchors(found), f"{name(path)} links to {link}"


@pytest.mark.parametrize("path", NAMING_FILES, ids=name)
def test_files_that_are_named_exist(path: Path) -> None:
    """Whoever follows a worked example opens the file that it names."""
    files = {named for named in named_files(path) if "/" in named}
    assert files
    missing = sorted(named for named in files if not any(one.exists() for one in candidates(named)))
    assert not missing


def test_architecture_has_every_module_and_no_other() -> None:
    """One row for each module of the package, in the table of its layer."""
    document = text(ROOT / "docs" / "architecture.md")
    table = document[document.index("## Modules") :]
    rows = re.findall(r"^\| `([\w/]+\.py)` \| (.+) \|$", table, re.MULTILINE)
    modules = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    assert sorted(module for module, _ in rows) == modules


def test_glossary_has_a_sentence_for_each_word() -> None:
    """Words are in order and stand once; the names that are ours alone are among them."""
    rows = TERM.findall(text(ROOT / "docs" / "glossary.md"))
    words = [word for word, _ in rows]
    assert words == sorted(set(words))
    assert set(words) >= OWN_WORDS
    for word, meaning in rows:
        assert meaning.endswith("."), word
        assert meaning.count(". ") == 0, word


def test_words_that_are_ours_name_something() -> None:
    """Each of them stands in the architecture or names a module: a word that nobody uses is dropped."""
    used = text(ROOT / "docs" / "architecture.md").lower()
    assert [word for word in sorted(OWN_WORDS) if word not in used] == []


def test_decisions_are_indexed_by_subject() -> None:
    """Every entry is in the index once, under some subject, and stays as short as the document says."""
    document = text(ROOT / "docs" / "decisions.md")
    (lines_max,) = re.findall(r"At most (\d+) lines an entry, its heading not counted", document)
    index, _, entries = document.partition("## By subject\n")[2].partition("\n## ")
    indexed = re.findall(r"^\* \[(.+)\]\(#", index, re.MULTILINE)
    parts = re.split(r"^## ", entries, flags=re.MULTILINE)
    titles = [part.partition("\n")[0] for part in parts]
    assert sorted(indexed) == sorted(titles)
    for part in parts:
        assert part.strip().count("\n") <= int(lines_max), part.partition("\n")[0]


def test_contract_has_the_sections_that_the_code_names() -> None:
    """A comment that says "contract section N" finds it."""
    numbers = set(re.findall(r"^## (\d+)\. ", text(ROOT / "docs" / "contract.md"), re.MULTILINE))
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    named = {found for path in sources for found in re.findall(r"[Cc]ontract,? section (\d+)", text(path))}
    assert named
    assert named <= numbers


def test_contract_names_every_problem_and_route() -> None:
    """What the API answers with is on the page that promises it."""
    from hookd.edge.api.problems import PROBLEMS

    contract = text(ROOT / "docs" / "contract.md")
    assert [slug for slug in PROBLEMS if f"`{slug}`" not in contract] == []
    routes = (PACKAGE / "edge" / "api").glob("*.py")
    paths = {found for path in routes for found in re.findall(r'@routes\.\w+\("(/[^"]*)"\)', text(path))}
    shown = {re.sub(r"<(\w+)>", lambda match: match[1].removesuffix("_id").upper(), path) for path in paths}
    for path in shown:
        last = f"/{path.rpartition('/')[2]}"
        spoken = path.replace("/EVENT", "/ID")
        assert f"{spoken}`" in contract or f"{spoken}?" in contract or f"`{last}`" in contract, path


def test_changelog_tells_of_this_version() -> None:
    """Unreleased stands first, and the version that the package says it is has an entry."""
    from hookd import __version__

    versions = re.findall(r"^## (.+)$", text(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert __version__ in versions


def test_lock_names_no_index_and_no_path() -> None:
    """It installs anywhere, and each package has its hashes."""
    lock = text(ROOT / "requirements.lock")
    assert not re.search(r"^--|://|file:| @ ", re.sub(r"^#.*$", "", lock, flags=re.MULTILINE), re.MULTILINE)
    pins = re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:]
    assert pins
    for pin in pins:
        assert "--hash=sha256:" in pin, pin.partition("\n")[0]


def test_lock_has_every_package_that_the_project_names() -> None:
    """A dependency that was added without a new lock would be missed on the other Python only."""
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    wanted = {re.split(r"[<>=!~; \[]", requirement)[0] for requirement in named}
    locked = set(re.findall(r"^([\w.-]+)==", text(ROOT / "requirements.lock"), re.MULTILINE))
    assert wanted <= locked
