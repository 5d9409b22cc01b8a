"""Who is answered: with tokens whoever has one, as far as its scope goes; without, only programs on this machine."""

import hmac
import socket
from typing import Any

import msgspec
import pytest
import trio
from hookd.core.settings import HttpSettings, Settings, TokenSettings
from hookd.edge.api import create_app
from hookd.edge.api.auth import is_loopback_name
from hookd.edge.api.operations import Operation, Scope, operation_of
from hookd.edge.api.tokens import Tokens
from hookd.edge.exposure import exposed

from tests.edge.test_api import refused_as, started
from tests.flow.harness import Flow, at

LOOPBACK = "127.0.0.1:8080"
PAUSE = "/v1/clients/acme/endpoints/default/pause"


def token_of(name: str, scope: str = "admin") -> TokenSettings:
    return TokenSettings(name=name, scope=scope, token=f"token-of-{name}-0123456789")


PLATFORM, DASHBOARD, OPS = token_of("platform", "produce"), token_of("dashboard", "read"), token_of("ops", "admin")
HANDLER = token_of("handler", "register")
ALL = (PLATFORM, HANDLER, DASHBOARD, OPS)


def with_tokens(*tokens: TokenSettings) -> Settings:
    return Settings(http=HttpSettings(tokens=tokens))


def bearer(token: TokenSettings) -> dict[str, str]:
    return {"authorization": f"Bearer {token.token}"}


# Every route there is, read off the application, so that a new one is held to the same rules


async def _routes() -> list[tuple[str, str, Operation]]:
    """Method, path and operation."""
    app = create_app(Flow().services())
    return [
        (method, rule.rule, operation_of(app.view_functions[rule.endpoint]))
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods or ())
        if method != "OPTIONS"
    ]


ROUTES = trio.run(_routes)
IDS = [f"{method} {path}" for method, path, _ in ROUTES]


def filled(path: str) -> str:
    parts = ("x" if part.startswith("<") else part for part in path.split("/"))
    return "/".join(parts)


def is_let_in(scope: Scope, operation: Operation) -> bool:
    """Contract section 5, written anew."""
    may = {
        Scope.ADMIN: set(Scope),
        Scope.REGISTER: {Scope.REGISTER, Scope.PRODUCE},
        Scope.READ: {Scope.READ},
        Scope.PRODUCE: {Scope.PRODUCE},
    }
    return operation.scope in may[scope] or (Scope.PRODUCE in may[scope] and operation.producers_too)


def test_every_kind_of_route_is_among_them():
    """The matrix below is not empty by accident."""
    assert {operation.scope for _, _, operation in ROUTES} == {None, *Scope}
    assert any(operation.producers_too for _, _, operation in ROUTES)
    assert len(ROUTES) >= 20


@pytest.mark.parametrize("token", ALL, ids=lambda token: token.scope)
@pytest.mark.parametrize(("method", "path", "operation"), ROUTES, ids=IDS)
async def test_route_lets_in_whose_scope_allows_it(
    autojump_clock, nursery, method: str, path: str, operation: Operation, token: TokenSettings
) -> None:
    """No token or a wrong one 401, one of another scope 403, one of this scope anything else."""
    api = await started(nursery, with_tokens(*ALL))
    for headers in ({}, {"authorization": f"Bearer {token.token}x"}):
        answer = await api.client.open(filled(path), method=method, headers=headers)
        is_refused = operation.scope is not None
        assert (answer.status_code == 401) == is_refused
        assert answer.headers.get("www-authenticate") == ("Bearer" if is_refused else None)
    answer = await api.client.open(filled(path), method=method, headers=bearer(token))
    if operation.scope is None or is_let_in(Scope(token.scope), operation):
        assert answer.status_code not in (401, 403)
    else:
        assert answer.status_code == 403
        if method != "HEAD":
            detail = (await answer.get_json(force=True))["detail"]
            assert f"scope {operation.scope.value};" in detail
            assert f"'{token.name}' has scope {token.scope}" in detail


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/v1/nothing/here"),
        ("BREW", "/v1/status"),
        ("DELETE", "/v1/events"),
        ("OPTIONS", "/v1/events"),
    ],
)
async def test_strangers_are_not_told_which_routes_there_are(autojump_clock, nursery, method: str, path: str) -> None:
    """401 before 404 and 405, and before the methods; any token is told."""
    api = await started(nursery, with_tokens(*ALL))
    refused_as(await api.call(method, path), 401, "unauthorized")
    assert (await api.call(method, path, authorization=f"Bearer {DASHBOARD.token}")).status != 401


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        [OPS.token],
        [f"Basic {OPS.token}"],
        [f"Token {OPS.token}"],
        [f"Bearer {OPS.token} x"],
        [f"Bearer {OPS.token}, Bearer {OPS.token}"],
        [f"Bearer\t{OPS.token}"],
        [f"Bearer {OPS.token[:-1]}"],
        [f"Bearer {OPS.token.upper()}"],
        ["Bearer " + "x" * 100_000],
        ["Bearer t\xf6ken-\xff\x80"],
        ["Bearer \udcff"],
        ["Bearer \x00"],
        [f"Bearer {OPS.token}", f"Bearer {OPS.token}"],
    ],
    ids=repr,
)
def test_header_that_holds_no_known_token_is_nobodys(headers: list[str]):
    """Malformed, of another scheme, too long, not ASCII, twice: None, never an exception."""
    assert Tokens(ALL).holder(headers) is None


@pytest.mark.parametrize("header", [f"Bearer {OPS.token}", f"bearer {OPS.token}", f"BEARER  {OPS.token} "])
def test_scheme_is_read_in_any_case(header: str):
    """As RFC 9110 has it."""
    assert Tokens(ALL).holder([header]) == ("ops", Scope.ADMIN, None)


@pytest.mark.parametrize("authorization", ["Bearer t\xf6ken", "Bearer " + "x" * 100_000, "\xff", "Bearer"])
async def test_header_of_any_shape_is_401_and_never_500(autojump_clock, nursery, authorization: str) -> None:
    """And always with the same words: nothing says which part of it was wrong."""
    api = await started(nursery, with_tokens(*ALL))
    plain = refused_as(await api.get("/v1/status"), 401, "unauthorized")
    answer = refused_as(await api.call("GET", "/v1/status", authorization=authorization), 401, "unauthorized")
    assert answer.body == plain.body


@pytest.mark.parametrize("given", [*(token.token for token in ALL), "", "x", ALL[0].token[:-1], "\xff" * 5000])
def test_every_token_is_compared_to_the_end_whatever_was_given(given: str):
    """An instrumented comparison sees each token's digest once, of one length, whichever matches and if none does."""
    seen: list[tuple[bytes, bytes]] = []

    def compare(known: bytes, digest: bytes) -> bool:
        seen.append((known, digest))
        return hmac.compare_digest(known, digest)

    holder = Tokens(ALL, compare=compare).holder([f"Bearer {given}"])
    assert (holder is None) == (given not in [token.token for token in ALL])
    assert len({known for known, _ in seen}) == len(seen) == len(ALL)
    assert {len(part) for pair in seen for part in pair} == {32}


def test_comparison_is_the_constant_time_one_unless_a_test_says_otherwise():
    """hmac.compare_digest, on bytes."""
    assert Tokens.__init__.__kwdefaults__ == {"compare": hmac.compare_digest}


async def test_tokens_change_without_a_restart(autojump_clock, nursery) -> None:
    """From none to some, from old and new to new alone, and back to the loopback rule."""
    api = await started(nursery)

    async def status(**headers: str) -> int:
        return (await api.call("GET", "/v1/status", **headers)).status

    old, new = bearer(token_of("old")), bearer(token_of("new"))
    assert await status() == 200
    api.flow.set(http=HttpSettings(tokens=(token_of("old"),)))
    assert [await status(), await status(**old), await status(**new)] == [401, 200, 401]
    api.flow.set(http=HttpSettings(tokens=(token_of("old"), token_of("new"))))
    assert [await status(), await status(**old), await status(**new)] == [401, 200, 200]
    api.flow.set(http=HttpSettings(tokens=(token_of("new"),)))
    assert [await status(), await status(**old), await status(**new)] == [401, 401, 200]
    api.flow.set(http=HttpSettings())
    assert [await status(), await status(host="evil.example")] == [200, 403]


async def test_refused_requests_are_logged_once_a_second_with_their_number(autojump_clock, nursery) -> None:
    """A thousand guesses are a line at once and a line with the rest; no line has a token in it."""
    api = await started(nursery, with_tokens(*ALL))
    for number in range(1000):
        await api.call("GET", f"/v1/clients/c{number}?token=guess", authorization=f"Bearer guess-{number}")
    assert [line["requests"] for line in api.flow.log.of("request.refused")] == [1]
    await at(1)
    await api.post("/v1/resend", b"", authorization=f"Bearer {PLATFORM.token}")
    first, second = api.flow.log.of("request.refused")
    assert (first["problem"], first["method"], first["path"]) == ("unauthorized", "GET", "/v1/clients/c0")
    assert (second["problem"], second["path"], second["requests"]) == ("forbidden", "/v1/resend", 1000)
    assert "guess" not in str([first, second])
    assert PLATFORM.token not in str(second)


# Without tokens: programs on this machine, no web page


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "localhost.",
        "localhost.:8080",
        "localhost:",
        "127.0.0.1.",
        "127.0.0.1:",
        "127.0.0.1",
        "127.9.9.9:1",
        "[::1]:8080",
        "[::1]",
    ],
)
def test_loopback_names_are_known(host: str):
    """The names by which a program on this machine asks, with and without a port."""
    assert is_loopback_name(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":8080",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io",
        "localhost@evil.example",
        "evil@localhost",
        "localhost/evil",
        "localhost:8080:1",
        "localhost:x",
        "localhost..",
        "127.0.0.1..",
        ".localhost",
        "localhost.:x",
        "10.0.0.1",
        "0.0.0.0",
        "[::2]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "::1",
        "[",
        "[::1",
        "0",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "127.0.0.256",
        "localhost, evil.example",
        "localhost\n",
    ],
)
def test_other_names_are_foreign(host: str):
    """Names of others, even where they resolve to this machine, and what is no name at all."""
    assert not is_loopback_name(host)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost"},
        {"host": "LOCALHOST:8080"},
        {"host": "[::1]:8080"},
        {"host": LOOPBACK, "origin": f"http://{LOOPBACK}"},
        {"host": "[::1]:8080", "origin": "http://[::1]:8080"},
        {"host": "localhost", "origin": "https://localhost"},
        {"host": LOOPBACK, "sec-fetch-site": "same-origin", "origin": f"http://{LOOPBACK}"},
        {"host": LOOPBACK, "sec-fetch-site": "none"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_own_programs_and_own_page_are_answered(autojump_clock, nursery, method: str, headers: Any) -> None:
    """curl, a producer on this machine, the daemon's own page, an address typed into a browser."""
    api = await started(nursery)
    assert (await api.client.open("/v1/events", method=method, headers=headers)).status_code != 403


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},  # DNS rebinding: the name of a page, pointed at this machine
        {"host": "evil.example:8080", "origin": "http://evil.example:8080", "sec-fetch-site": "same-origin"},
        {"host": "127.0.0.1.nip.io:8080"},
        {"host": "192.0.2.1:8080"},
        {"host": ""},
        {"origin": "https://evil.example"},  # a form or fetch of a web page
        {"origin": "null"},  # a sandboxed frame, a file, a redirect
        {"origin": ""},
        {"origin": "http://127.0.0.1:3000"},  # another program's page on this machine
        {"origin": "http://localhost:8080"},  # the same daemon by another name is another origin
        {"origin": "http://["},
        {"origin": f"http://{LOOPBACK}@evil.example"},
        {"origin": f"http://{LOOPBACK}.evil.example"},
        {"origin": f"chrome-extension://{LOOPBACK}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},  # another port of localhost
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "nonsense"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/status"), ("POST", "/v1/clients/acme/endpoints/default/pause"), ("GET", "/no")]
)
async def test_web_pages_are_refused_without_tokens(
    autojump_clock, nursery, method: str, path: str, headers: Any
) -> None:
    """They may neither read nor pause; with tokens configured the same request only needs one."""
    api = await started(nursery)
    given = {"host": LOOPBACK} | headers
    answer = await api.client.open(path, method=method, headers=given)
    assert answer.status_code == 403
    assert (await api.client.open("/livez", headers=given)).status_code == 200
    api.flow.set(http=HttpSettings(tokens=ALL))
    assert (await api.client.open(path, method=method, headers=given)).status_code == 401
    answer = await api.client.open(path, method=method, headers=given | bearer(OPS))
    assert answer.status_code == (404 if path == "/no" else 200)


# Which sockets others reach


def bound(family: socket.AddressFamily, address: Any) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    one.bind(address)
    return one


def test_socket_is_judged_by_its_address(tmp_path):
    """Loopback and unix sockets are this machine's; what is bound to all interfaces is not."""
    local = [
        bound(socket.AF_INET, ("127.0.0.1", 0)),
        bound(socket.AF_INET6, ("::1", 0)),
        bound(socket.AF_UNIX, str(tmp_path / "s")),
    ]
    others = [bound(socket.AF_INET, ("0.0.0.0", 0)), bound(socket.AF_INET6, ("::", 0))]
    try:
        assert exposed(local) == ()
        assert [text[:5] for text in exposed(local + others)] == ["('0.0", "('::'"]
    finally:
        for one in local + others:
            one.close()


def test_token_settings_hide_the_token():
    """They are printed with the settings."""
    assert OPS.token not in repr(msgspec.structs.replace(with_tokens(OPS)))
