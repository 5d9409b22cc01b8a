"""Two small proxies: one that can hang, as a partition does, and one that chooses by the client's name."""

import http.client
import selectors
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

READ_BYTES = 65536


class HangingProxy:
    """Before one port. While it hangs it takes connections and bytes, and passes nothing on."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._ends = False
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        self._flows.set()
        with socket.create_connection(("127.0.0.1", self.port)):
            pass  # wakes the one that accepts
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def hang(self) -> None:
        self._flows.clear()

    def go_on(self) -> None:
        self._flows.set()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._ends:
                connection.close()
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):  # either side has gone: so does the connection
            self._flows.wait()
            with socket.create_connection(("127.0.0.1", self._to)) as far:
                self._pass_on(near, far)

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while not self._ends:
                for key, _ in selector.select(0.1):
                    self._flows.wait()
                    data = key.fileobj.recv(READ_BYTES)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)


class ShardingProxy:
    """Before several daemons: the last digit of the client's name in a request's path chooses. 503 where it is away."""

    def __init__(self, ports: Sequence[int]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30
            disable_nagle_algorithm = True

            def _pass_on(self) -> None:
                name = self.path.split("?")[0].split("/")[3]
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                connection = http.client.HTTPConnection("127.0.0.1", ports[int(name[-1:]) % len(ports)], timeout=30)
                try:
                    connection.request(self.command, self.path, body, {"content-type": "application/json"})
                    response = connection.getresponse()
                    status, content = response.status, response.read()
                    media_type = response.getheader("content-type", "")
                except OSError:
                    status, content, media_type = 503, b"away", "text/plain"
                finally:
                    connection.close()
                self.send_response(status)
                self.send_header("content-type", media_type)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PUT = do_GET = _pass_on  # noqa: N815 - the base class names them so

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
