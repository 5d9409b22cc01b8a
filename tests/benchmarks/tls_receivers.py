"""The receivers of `send_path --tls`: two ports that speak TLS, one keeps its connections, the other closes each.

Writes its authority's certificate to the file that it is given, and says both ports on one line.
"""

import socket
import ssl
import sys
from functools import partial

import trio
import trustme

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n%b\r\nok"


async def answer(context: ssl.SSLContext, fields: bytes, stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    buffer = b""
    try:
        while data := await secured.receive_some(65536):
            buffer += data
            head, end, body = buffer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
            if end and len(body) >= length:
                buffer = body[length:]
                await secured.send_all(ANSWER % fields)
                if fields:
                    break
    except trio.BrokenResourceError:
        pass
    await trio.aclose_forcefully(stream)


async def serve(authority_file: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(authority_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with trio.open_nursery() as nursery:
        ports = []
        for fields in (b"", b"connection: close\r\n"):
            handler = partial(answer, context, fields)
            (listener, *_) = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
            ports.append(listener.socket.getsockname()[1])
        print(*ports, flush=True)


if __name__ == "__main__":
    trio.run(serve, sys.argv[1])
