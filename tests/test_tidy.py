"""The shape of the code, read from its source: who may import whom, and what every module owes its reader."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import hookd
import pytest
from hookd.cli import command_line

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "daemon" / "hookd"
PATHS = sorted(SOURCE.rglob("*.py"))

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 40
README_LINES_MAX = 400

# Layer -> the layers it may import besides itself. What is not named here (demo) is the top: it may import anything,
# and cli alone may import it, to start it. "" is the package itself, which holds the version alone.
LAYERS: dict[str, set[str]] = {
    "": set(),
    "core": set(),
    "config": {"core"},
    "flow": {"core"},
    "edge": {"", "core", "flow"},
    "process": {"", "config", "core", "flow", "edge"},
    "relay": {"core", "edge"},
    "cli": {"", "config", "core", "flow", "edge", "process", "relay", "demo"},
}

# Modules of the edge that work together without being one package.
TOGETHER = {
    "hookd.edge.logs": {"hookd.edge.log_room"},
    "hookd.edge.reports_watch": {"hookd.edge.reports"},
    "hookd.edge.recorder_files": {"hookd.edge.own_folder", "hookd.edge.recorder_segments"},
}

# Functions that may be longer: whoever reads one wants the whole list, and there is no decision in it.
LONG_FUNCTIONS = {
    ("hookd.edge.api.admission", "admission_routes"): "a list of routes",
    ("hookd.edge.api.client_routes", "client_routes"): "a list of routes",
    ("hookd.edge.api.endpoint_routes", "endpoint_routes"): "a list of routes",
    ("hookd.edge.api.event_routes", "event_routes"): "a list of routes",
    ("hookd.edge.api.page.routes", "page_routes"): "a list of routes",
    ("hookd.process.supervisor", "__init__"): "the wiring of the whole daemon",
}

# A command's file is named for the command, and so may share its name with the noun that it shows (report, resend).
COMMANDS = "hookd.cli.commands"

# The glossary's "do not say", as far as a machine can tell: no name of ours has one of these words in it.
NOT_SAID = {
    "backpressure", "blacklist", "breaker", "broker", "bus", "callback", "circuit", "consumer", "customer",
    "destination", "dlq", "enqueue", "filter", "inbox", "ingest", "job", "journal", "outbound", "outbox",
    "overload", "publisher", "queue", "reject", "requeue", "router", "runner",
    "session", "stats", "subscriber", "target", "tenant", "topic", "tracker", "transfer", "wal", "worker",
}  # fmt: skip
# Names that are somebody else's, or that mean something of another field.
FOREIGN_NAMES = {
    "request_queue_size": "socketserver's",
    "filters": "Jinja's",
    "_TARGET": "the request target of RFC 9112",
    "target": "the request target of RFC 9112",
    "_inbox": "what ASGI's lifespan receives",
}

# Core takes time, ids and chance as values, and does no I/O.
NOT_IN_CORE = {"trio", "time", "random", "secrets", "uuid", "os", "socket", "ssl", "logging", "asyncio", "threading"}
NOT_IN_CORE |= {"subprocess", "pathlib", "tempfile", "io", "signal", "httpx", "quart", "quart_trio", "hypercorn"}

# The relay's own core, which is as pure.
RELAY_CORE = {f"hookd.relay.{name}" for name in ("entry", "lanes", "owed", "parking")}

# Library -> the only places that know it, as module or package.
ONLY_IN = {
    "quart": "hookd.edge.api",
    "quart_trio": "hookd.edge.api",
    "werkzeug": "hookd.edge.api",
    "prometheus_client": "hookd.edge.api.metrics",
    "hypercorn": "hookd.edge.server",
    "opentelemetry": "hookd.edge.open_telemetry",
    "httpx": "hookd.edge.egress",
    "httpcore": "hookd.edge.egress",
    "coredis": "hookd.relay.redis_log",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in PATHS}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """Every module imported anywhere in this one, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                assert alias.name != "*", f"{module} line {node.lineno}: no import *"
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "hookd"}


def layer_of(module: str) -> str:
    return [*module.split("."), ""][1]


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_source_is_found() -> None:
    """The rules below hold for something: every layer is there, and every import of ours names a module of ours."""
    assert {*LAYERS, "demo"} <= {layer_of(module) for module in MODULES}
    for module in MODULES:
        assert own_imports(module) <= set(MODULES), module


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    """core -> flow -> edge -> process -> cli; config knows core alone, and process and cli alone may import it."""
    layer = layer_of(module)
    if layer not in LAYERS and layer != "__main__":
        assert layer == "demo", f"{module}: no layer is called {layer}"
        return
    allowed = LAYERS.get(layer, {"cli", "edge"}) | {layer}
    wrong = [name for name in own_imports(module) if layer_of(name) not in allowed]
    assert not wrong, f"{module} may not import {wrong}"


def test_imports_have_no_cycle() -> None:
    """Each module can be read after those that it imports."""
    graph = {module: own_imports(module) - {module} for module in MODULES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as cycle:
        pytest.fail(" -> ".join(cycle.args[1]))
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("module", [module for module in MODULES if layer_of(module) == "core" or module in RELAY_CORE])
def test_core_knows_no_clock_chance_or_io(module: str) -> None:
    """The standard library without those, and msgspec."""
    roots = {name.split(".")[0] for name in imports(module)}
    assert not roots & NOT_IN_CORE
    assert roots - sys.stdlib_module_names <= {"hookd", "msgspec"}
    assert not [name for name in own_imports(module) if layer_of(name) != "core" and name not in RELAY_CORE]


@pytest.mark.parametrize("module", MODULES)
def test_libraries_are_known_in_one_place(module: str) -> None:
    """Whoever replaces the web framework, the server or the HTTP client edits one package."""
    for name in imports(module):
        home = ONLY_IN.get(name.split(".")[0])
        assert home is None or is_inside(module, home), f"{module} imports {name}, which is {home}'s"


def test_daemon_and_relay_know_nothing_of_each_other() -> None:
    """Whoever runs the daemon alone needs no Redis, and no library for one: the command alone imports the relay."""
    importing = {module for module in MODULES if any(layer_of(name) == "relay" for name in own_imports(module))}
    assert {module for module in importing if layer_of(module) != "relay"} == {"hookd.cli.commands.relay"}
    program = "import sys, hookd.cli.command_line, hookd.process.main; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "hookd.process.main" in loaded
    assert not [name for name in loaded if name.startswith(("coredis", "hookd.relay"))]


def test_command_that_runs_no_loop_imports_none() -> None:
    """`hookd status` is asked for by hand, again and again: trio alone is a fourth of what its start took."""
    program = "import sys, hookd.cli.command_line; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"trio", "httpx", "quart", "coredis", "rich"} & set(loaded)


@pytest.mark.parametrize("module", [module for module in MODULES if layer_of(module) == "edge"])
def test_edge_modules_do_not_know_each_other(module: str) -> None:
    """Adapters meet in the supervisor; only the modules of one package of the edge work together."""
    package = ".".join(module.split(".")[:3])
    others = [name for name in own_imports(module) if layer_of(name) == "edge" and not is_inside(name, package)]
    assert not [name for name in others if name not in TOGETHER.get(module, set())]


@pytest.mark.parametrize("module", MODULES)
def test_module_is_not_named_like_the_standard_librarys(module: str) -> None:
    """A reader who sees `signals` knows it is ours."""
    assert module.split(".")[-1] not in sys.stdlib_module_names - {"__main__"}


@pytest.mark.parametrize("module", MODULES)
def test_module_opens_with_a_docstring(module: str) -> None:
    """What it owns, its rules, what it does not do."""
    assert ast.get_docstring(tree(module)), module


@pytest.mark.parametrize("module", MODULES)
def test_file_is_at_most_400_lines_long(module: str) -> None:
    """Where it gets longer, a second noun has moved in."""
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("module", MODULES)
def test_function_is_at_most_40_lines_long(module: str) -> None:
    """Counted from its def to its end; 5 to 15 are usual."""
    long = {
        node.name: lines
        for node in functions(module)
        if node.end_lineno is not None and (lines := node.end_lineno - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert not {name: lines for name, lines in long.items() if (module, name) not in LONG_FUNCTIONS}
    missing = {name for of, name in LONG_FUNCTIONS if of == module} - {node.name for node in functions(module)}
    assert not missing, "an exemption is for a function that is there"


def test_no_two_modules_have_one_name() -> None:
    """A name leads to one file. Packages are named by their folder; of two files of one name, one is a command's."""
    seen: dict[str, str] = {}
    for module in MODULES:
        if not is_inside(module, COMMANDS):
            other = seen.setdefault(module.split(".")[-1], module)
            assert other == module, f"{module} and {other}"
    assert all(module.split(".")[1] in {*LAYERS, "demo", "__main__"} for module in MODULES if "." in module)


def test_each_command_has_a_file_of_its_name() -> None:
    """And every file of the folder is a command's."""
    files = {module.removeprefix(f"{COMMANDS}.") for module in MODULES if module.startswith(f"{COMMANDS}.")}
    assert files == set(command_line.hookd.commands)


def own_names(module: str) -> Iterator[str]:
    """Every name that the module gives to something: functions, classes, arguments, variables, attributes, itself."""
    yield module.split(".")[-1]
    for node in ast.walk(tree(module)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def words_of(name: str) -> set[str]:
    """`ReportDirectory` and `report_directory` have the same, each in the singular."""
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}
    return words | {word.removesuffix("s") for word in words}


def test_words_of_a_name_are_told_apart() -> None:
    """The rule below sees through the ways in which names are written."""
    assert {"retry", "queue", "max"} <= words_of("RETRY_QUEUES_MAX") & words_of("_retry_queue_max") & words_of(
        "RetryQueueMax"
    )
    assert "bus" not in words_of("business_hours")


@pytest.mark.parametrize("module", MODULES)
def test_name_is_the_glossarys(module: str) -> None:
    """One word for one thing: what the glossary does not say is in no name."""
    wrong = {name for name in own_names(module) if not words_of(name).isdisjoint(NOT_SAID)}
    assert not wrong - FOREIGN_NAMES.keys()


def test_foreign_name_is_used() -> None:
    """An exemption that nobody needs any more is taken back."""
    assert FOREIGN_NAMES.keys() <= {name for module in MODULES for name in own_names(module)}


@pytest.mark.parametrize("module", MODULES)
def test_except_names_what_it_catches(module: str) -> None:
    """A bare one would catch Trio's Cancelled; one for BaseException has to raise again."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{module} line {node.lineno}"
            if "BaseException" in ast.dump(node.type):
                assert isinstance(node.body[-1], ast.Raise), f"{module} line {node.lineno}"


def test_version_is_said_once() -> None:
    """pyproject takes it from the package, or says the same."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if "version" in pyproject["project"]:
        assert pyproject["project"]["version"] == hookd.__version__
        return
    assert pyproject["project"]["dynamic"] == ["version"]
    source = (ROOT / pyproject["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE) == [hookd.__version__]
    assert re.fullmatch(r"\d+\.\d+\.\d+", hookd.__version__)


def test_shown_configuration_exists() -> None:
    """The file that the README and the contract name."""
    assert (ROOT / "config" / "hookd.toml").is_file()


def test_readme_is_short_enough_to_be_read() -> None:
    """At most 400 lines; what is longer belongs into docs."""
    readme = ROOT / "README.md"
    if readme.exists():
        assert len(readme.read_text(encoding="utf-8").splitlines()) <= README_LINES_MAX
