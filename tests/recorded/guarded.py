"""The story of a daemon with tokens: every route with every scope, and headers that are nearly right."""

from typing import Any

from tests.recorded.opened import endpoint, event, register
from tests.recorded.placeholders import Placeholders
from tests.recorded.program import Daemon, Program
from tests.recorded.receivers import SECRET, Receivers
from tests.recorded.recording import NDJSON, Recording, command
from tests.recorded.routes import GETS, POSTS

TOKENS = {scope: f"{scope}-token-of-the-set" for scope in ("admin", "produce", "read")}
CONFIG = """
[[clients]]
id = "acme"

[[clients.endpoints]]
id = "billing"
url = "http://REFUSING/hook"
secret_file = "secret"
schedule = ["10m"]

[egress]
allow_http = true
allow_networks = ["127.0.0.0/8"]

[retry]
jitter = 0.0

[http]
"""


def guarded(program: Program, names: Placeholders) -> dict[str, Any]:
    folder = program.folder
    for name, text in {**TOKENS, "secret": SECRET}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    tables = "".join(
        f'[[http.tokens]]\nname = "the-{scope}"\nscope = "{scope}"\ntoken_file = "{scope}"\n' for scope in TOKENS
    )
    (folder / "recorder").mkdir()
    with Receivers() as receivers:
        names.add(receivers.url.removeprefix("http://"), "RECEIVER")
        names.add(receivers.refusing_url.removeprefix("http://"), "REFUSING")
        config = folder / "hookd.toml"
        config.write_text(CONFIG.replace("http://REFUSING", receivers.refusing_url) + tables)
        environment = {"RUNTIME_DIRECTORY": str(folder / "recorder"), "HOOKD_DRAIN__TIMEOUT": "1s"}
        with Daemon(program, "guarded", "--config", str(config), **environment) as daemon:
            it = Recording(daemon, names, receivers)
            headers(it)
            scopes(it)
            it.token = TOKENS["admin"]
            writes(it)
            url = f"http://127.0.0.1:{daemon.port}"
            commands = [
                command(program, names, *arguments, HOOKD_URL=url, **more)
                for arguments, more in (
                    (("status", "--json"), {}),
                    (("status", "--json", "--token-file", "produce"), {}),
                    (("status", "--json", "--token-file", "read"), {}),
                    (("send", "late", "t", "--token-file", "read"), {}),
                    (("send", "late", "t"), {"HOOKD_TOKEN_FILE": "produce"}),
                    (("explain", "late", "--token-file", "read", "--json"), {}),
                )
            ]
            daemon.process.terminate()
            found = it.ended(daemon.wait(), folder / "reports")
    return {**found, "commands": commands}


def headers(it: Recording) -> None:
    """On one route, and on none."""
    admin = TOKENS["admin"]
    for value in (
        "Bearer wrong-token-of-the-set",
        f"Bearer {admin}x",
        f"bearer {admin}",
        f"Bearer  {admin}",
        f"Basic {admin}",
        admin,
        "Bearer",
        f"Bearer {admin}, Bearer {admin}",
        f"Bearer {admin}",
    ):
        it.get("/v1/status", authorization=value)
        it.get("/nothing", authorization=value)
    it.get("/v1/status", authorization=f"Bearer {admin}", host="example.com", origin="http://example.com")
    twice = f"authorization: Bearer {admin}\r\nauthorization: Bearer {admin}\r\n".encode()
    it.raw("two tokens", b"GET /v1/status HTTP/1.1\r\nhost: HOST\r\n" + twice + b"\r\n")


def scopes(it: Recording) -> None:
    routes = [("GET", path) for path in GETS] + [("POST", path) for path in POSTS]
    routes += [("PUT", "/v1/clients/acme"), ("DELETE", "/v1/clients/acme"), ("OPTIONS", "/v1/events"), ("PATCH", "/v1/events")]
    for method, path in (*routes, ("GET", "/nothing")):
        if path.endswith("/test"):
            continue  # its attempt's id is a time
        for scope in (None, "produce", "read", "admin"):
            if scope == "admin" and path in ("/metrics", "/openapi.json", "/"):
                continue
            given = {} if scope is None else {"authorization": f"Bearer {TOKENS[scope]}"}
            it.ask(method, path, b"" if method in ("POST", "PUT") else None, **given)


def writes(it: Recording) -> None:
    """What needs no more than a token, once each; one event is left undelivered."""
    register(it, "late", "/well")
    it.post("/v1/events", event("late", "l1"), authorization=f"Bearer {TOKENS['produce']}")
    it.settle("late", "l1")
    it.post("/v1/events", event("acme", "a1"))
    it.settle("acme", "a1")
    it.post("/v1/events", event("acme", "a2", {"left": True}))
    it.settle("acme", "a2")
    it.post("/v1/clients/acme/endpoints/billing/pause")
    it.post("/v1/events", event("acme", "a3", "never"))
    it.post("/v1/resend", b"", type=NDJSON)
    it.put("late", {"endpoints": [endpoint(it, "/well"), endpoint(it, "/gone")]})
    it.get("/v1/clients?limit=10")
    it.get("/v1/events/a1")
    it.get("/v1/status")
