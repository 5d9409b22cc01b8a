"""Every route, and what is asked of all of them alike: methods, media types, queries, bodies, paths that lead nowhere."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.recorded.recording import Recording

GETS = (
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/",
    "/problems",
    "/problems/draining",
    "/v1/status",
    "/v1/clients",
    "/v1/clients/acme",
    "/v1/events",
    "/v1/events/none",
    "/v1/clients/acme/events/none",
    "/v1/settlements",
)
POSTS = (
    "/v1/events",
    "/v1/events/batch",
    "/v1/clients/acme/events",
    "/v1/resend",
    "/v1/clients/acme/events/none/retry",
    "/v1/clients/acme/replay",
    "/v1/clients/acme/endpoints/billing/pause",
    "/v1/clients/acme/endpoints/billing/resume",
    "/v1/clients/acme/endpoints/billing/test",
    "/v1/clients/acme/endpoints/billing/rotate-secret",
)
TAKING_BODIES = (*POSTS[:4], "/v1/clients/acme/replay")
SLUGS = (
    "malformed-json unauthorized forbidden unknown-client unknown-event not-found method-not-allowed not-acceptable "
    "body-timeout id-conflict ambiguous-id managed-by-config unsettled-deliveries endpoint-disabled registry-full "
    "too-large unsupported-media-type invalid-event invalid-client invalid-query client-full internal full draining"
).split()


def all_routes(it: "Recording") -> None:
    for path in GETS:
        it.get(path)
        it.ask("HEAD", path)
    for path in dict.fromkeys((*GETS, *POSTS)):
        it.ask("OPTIONS", path)
        it.ask("PATCH", path)
        it.get(path, accept="image/png")
    for path in GETS:
        if path not in POSTS and path != "/v1/clients/acme":
            it.post(path, {})
    for path in POSTS:
        it.get(path)
        it.post(f"{path}?nonsense=1", {})
    for slug in SLUGS:
        it.get(f"/problems/{slug}")


def odd_paths(it: "Recording") -> None:
    for path in ("/nothing", "/v1", "/v1/", "/v1/events/", "//v1/events", "/v1//events", "/V1/events", "/v1/events/a/b"):
        it.get(path)
    for path in ("/problems/none", "/v1/clients/a%2Fb", "/v1/clients/%00", "/v1/clients/%FF", "/v1/clients/" + "x" * 200):
        it.get(path)
    it.get("/v1/clients/none")
    it.get("/v1/clients/none/events/x")
    for path in ("/livez?verbose", "/readyz?verbose=1", "/readyz?loud", "/livez?verbose&verbose"):
        it.get(path)
    for query in ("limit=0", "limit=1001", "limit=ten", "limit=1&limit=2", "cursor=!", "status=lost", "type=a%20b", "x=1"):
        it.get(f"/v1/events?{query}")
    for query in ("limit=0", "limit=5", "cursor=-", "cursor=a.b", "client_id=acme"):
        it.get(f"/v1/clients?{query}")
    for query in ("wait_seconds=61", "wait_seconds=-1", "wait_seconds=x", "cursor=x", "cursor=czphOjE", "limit=1"):
        it.get(f"/v1/settlements?{query}")
    it.post("/v1/events/batch?partial=yes", [])


def odd_bodies(it: "Recording") -> None:
    for path in TAKING_BODIES:
        it.post(path, b"{", type=None)
        it.post(path, b"{}", type="text/plain")
        it.post(path, b"{")
        it.post(path, b"{}", type="application/json; charset=latin-1")
        it.post(path, b"{}", content_encoding="gzip")
        it.post(path, b"\xff\xfe")
        it.post(path, b"")
        it.post(path, b"x" * 9000)
    it.put("sketch", b"{", type="text/plain")
    it.put("sketch", b"{")
    it.put("sketch", b"[]")
    it.post("/v1/events", b'{"a":' * 2000)
    it.post("/v1/events", b'\xef\xbb\xbf{"client_id":"acme","type":"a","payload":1}')


def odd_requests(it: "Recording") -> None:
    """What is decided before any route: the head's form, where it ends, who may ask."""
    get = b"GET /livez HTTP/1.1\r\nhost: HOST\r\n"
    it.get("/v1/status", host="example.com")
    it.get("/v1/status", host="localhost:1")
    it.get("/v1/status", host="[::1]")
    it.get("/v1/status", origin="http://example.com")
    it.get("/v1/status", origin="null")
    it.get("/v1/status", sec_fetch_site="cross-site")
    it.get("/v1/status", sec_fetch_site="same-origin")
    it.get("/livez", host="example.com")
    it.get("/v1/clients/none", accept="text/html;q=0.9, application/*;q=0.1")
    it.get("/v1/clients/none", accept="*/*;q=0")
    it.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    it.get("/metrics", accept="text/html")
    it.raw("without host", b"GET /livez HTTP/1.1\r\n\r\n")
    it.raw("HTTP/1.0", b"GET /livez HTTP/1.0\r\nhost: HOST\r\n\r\n")
    it.raw("HTTP/2.0", b"GET /livez HTTP/2.0\r\nhost: HOST\r\n\r\n")
    it.raw("connection: close", get + b"connection: close\r\n\r\n")
    it.raw("three at once", (get + b"\r\n") * 3, answers=3)
    it.raw("no HTTP", b"hello\r\n\r\n")
    it.raw("a bare LF", b"GET /livez HTTP/1.1\nhost: HOST\n\n")
    it.raw("two lengths", get + b"content-length: 0\r\ncontent-length: 0\r\n\r\n")
    it.raw("length and chunks", get + b"content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
    it.raw("a bad length", get + b"content-length: x\r\n\r\n")
    it.raw("folded header", get + b"x-a: b\r\n c\r\n\r\n")
    it.raw("a long head", get + b"x-long: " + b"x" * 20000 + b"\r\n\r\n")
    it.raw("many headers", get + b"x: y\r\n" * 200 + b"\r\n")
    it.raw("websocket", get + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
    it.raw("CONNECT", b"CONNECT example.com:443 HTTP/1.1\r\nhost: HOST\r\n\r\n")
    it.raw("absolute target", b"GET http://HOST/livez HTTP/1.1\r\nhost: HOST\r\n\r\n")
    it.raw("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nhost: HOST\r\n\r\n")
    post = b"POST /v1/events HTTP/1.1\r\nhost: HOST\r\ncontent-type: application/json\r\n"
    body = json.dumps({"client_id": "none", "type": "a", "payload": 1}).encode()
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    it.raw("chunks", post + b"transfer-encoding: chunked\r\n\r\n" + chunks)
    it.raw("bad chunks", post + b"transfer-encoding: chunked\r\n\r\nzz\r\n")
    announced = b"content-length: %d\r\nexpect: 100-continue\r\n\r\n" % len(body)
    it.raw("expect: 100-continue", post + announced + body, answers=2)
    it.raw("a body announced too large", post + b"content-length: 100000000\r\n\r\n")
