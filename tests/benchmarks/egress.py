"""What one POST costs, in CPU time of the sending process: `python -m tests.benchmarks egress [ROUNDS | --quick]`.

Stock `httpx.AsyncClient`, our transport behind httpx types, and a bare trio socket loop that posts prepared bytes, all
over one kept connection to a canned server in another process; each in turn, so that they see the same machine, and
the median of the rounds. Then our transport again with more and more other endpoints idle.

Trust the ratios: on a loaded machine all figures drift together.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx
import trio
from hookd.core.outcome import Exchange
from hookd.edge.egress.addresses import AddressPolicy
from hookd.edge.egress.request_head import RequestHead
from hookd.edge.egress.response import ResponseStream
from hookd.edge.egress.transport import Transport, client_ssl_context, open_transport, post_request

POSTS = 400  # a round
ROUNDS = 9
IDLE_ENDPOINTS = (0, 1, 100, 1000)
BODY = b'{"invoice":"in_1234567890","amount":1999,"currency":"eur"}' * 4
FIELDS = [
    (b"content-type", b"application/json"),
    (b"user-agent", b"hookd/0"),
    (b"webhook-id", b"evt_0123456789abcdefghij"),
    (b"webhook-timestamp", b"1614265330"),
    (b"webhook-signature", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    (b"hookd-event-type", b"invoice.paid"),
    (b"hookd-attempt", b"1"),
]
HEADERS = [(name.decode(), value.decode()) for name, value in FIELDS]
SERVER = r"""
import selectors, socket
ANSWER = (b"HTTP/1.1 200 OK\r\nserver: canned\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
          b"content-type: text/plain\r\ncontent-length: 2\r\n\r\nok")
listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
print(listener.getsockname()[1], flush=True)
selector, kept = selectors.DefaultSelector(), {}
selector.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fileobj is listener:
            peer, _ = listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(peer, selectors.EVENT_READ)
            continue
        peer, data = key.fileobj, key.fileobj.recv(65536)
        if not data:
            selector.unregister(peer)
            peer.close()
            continue
        data = kept.pop(peer, b"") + data
        head, end, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        if end and len(body) >= length:
            peer.send(ANSWER)
        else:
            kept[peer] = data
"""

Post = Callable[[], Awaitable[None]]


async def main(rounds: int, posts: int) -> None:
    with canned_server() as port:
        policy = AddressPolicy(allow_private=True)
        context = client_ssl_context()
        async with (
            open_transport(policy=policy, ssl_context=context, idle_seconds=3600, idle_max=2000) as transport,
            httpx.AsyncClient(verify=context, trust_env=False) as client,
            await trio.open_tcp_stream("127.0.0.1", port) as stream,
        ):
            url = f"http://127.0.0.1:{port}/hooks/in?tenant=1"
            ways = {
                "bare trio socket loop, prepared bytes": bare(stream, port),
                "our transport, prepared request": ours(transport, url),
                "our transport, httpx.Request of text": ours_of_text(transport, url),
                "stock httpx.AsyncClient.post": stock(client, url),
            }
            await compare(ways, rounds, posts)
            await with_idle_endpoints(transport, url, bare(stream, port), rounds, posts)


async def compare(ways: dict[str, Post], rounds: int, posts: int) -> None:
    measured = await microseconds(ways, rounds, posts)
    stock_microseconds = list(measured.values())[-1]
    print(f"CPU of one POST, median of {rounds} rounds of {posts}:")
    for name, each in measured.items():
        print(f"  {name:40} {each:7.0f} us   1/{stock_microseconds / each:.1f} of stock")


async def with_idle_endpoints(transport: Transport, url: str, control: Post, rounds: int, posts: int) -> None:
    print("CPU of one POST while other endpoints are idle, beside the bare loop's for the machine's drift:")
    for count in IDLE_ENDPOINTS:
        for endpoint in range(transport.statistics().connections_idle - 1, count):
            await ours(transport, url, endpoint)()
        measured = await microseconds({"ours": ours(transport, url), "bare": control}, rounds, posts)
        idle = transport.statistics().connections_idle - 1
        print(f"  {idle:6} idle {measured['ours']:7.0f} us, bare loop {measured['bare']:5.0f} us")


async def microseconds(ways: dict[str, Post], rounds: int, posts: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for post in ways.values():
        await post()
    for _ in range(rounds):
        for name, post in ways.items():
            began_at = time.process_time()
            for _ in range(posts):
                await post()
            seconds[name].append(time.process_time() - began_at)
    return {name: statistics.median(each) / posts * 1e6 for name, each in seconds.items()}


def bare(stream: trio.SocketStream, port: int) -> Post:
    (data,) = RequestHead(b"POST", b"/hooks/in?tenant=1", b"127.0.0.1:%d" % port, FIELDS).request((), BODY)

    async def post() -> None:
        await stream.send_all(data)
        assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 200")

    return post


def ours(transport: Transport, text: str, endpoint: object = "measured") -> Post:
    url = httpx.URL(text)

    async def post() -> None:
        request = post_request(url, FIELDS, BODY, endpoint=endpoint, exchange=Exchange())
        await finish(await transport.handle_async_request(request))

    return post


def ours_of_text(transport: Transport, text: str) -> Post:
    async def post() -> None:
        extensions = {"endpoint": "measured", "exchange": Exchange()}
        request = httpx.Request("POST", text, headers=HEADERS, content=BODY, extensions=extensions)
        await finish(await transport.handle_async_request(request))

    return post


async def finish(response: httpx.Response) -> None:
    stream = response.stream
    assert isinstance(stream, ResponseStream)
    try:
        assert (response.status_code, await stream.read()) == (200, b"ok")
    finally:
        stream.close()


def stock(client: httpx.AsyncClient, url: str) -> Post:
    async def post() -> None:
        response = await client.post(url, headers=HEADERS, content=BODY)
        assert (response.status_code, response.content) == (200, b"ok")

    return post


@contextmanager
def canned_server() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--quick"]:  # whether it runs
            trio.run(main, 1, 20)
        case given:
            trio.run(main, int(given[0]) if given else ROUNDS, POSTS)
