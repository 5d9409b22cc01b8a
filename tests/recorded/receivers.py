"""The clients' side: one real receiver whose manners depend on the path, and a port that refuses.

It keeps what came, head and body, so that outgoing requests are part of what is compared.
"""

import base64
import hashlib
import hmac
import socket
import threading
from typing import Any, NamedTuple, Self

SECRET = "whsec_" + base64.b64encode(b"hookd recorded set secret").decode()
ANSWERS = {
    "/well": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "/empty": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "/moved": b"HTTP/1.1 302 Found\r\nlocation: /well\r\ncontent-length: 0\r\n\r\n",
    "/bad": b"HTTP/1.1 400 Bad Request\r\ncontent-length: 8\r\n\r\nbad \xff\x00\n!",
    "/gone": b"HTTP/1.1 410 Gone\r\ncontent-length: 4\r\n\r\ngone",
    "/busy": b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 600\r\ncontent-length: 4\r\n\r\nbusy",
    "/failing": b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 5\r\n\r\noops!",
    "/down": b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\ndown",
    "/invalid": b"NOT HTTP AT ALL\r\n\r\n",
    "/cut": b"",
    "/half": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
}
ELSEWHERE = b"HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\n\r\nnothing"
SILENT = "/silent"  # never answers
CLOSES = ("/cut", "/half", "/invalid")


class Received(NamedTuple):
    head: list[str]
    body: bytes

    def header(self, name: str) -> str:
        return next((line.partition(": ")[2] for line in self.head if line.lower().startswith(f"{name}: ")), "")

    @property
    def head_bytes(self) -> bytes:
        return "\n".join(self.head).encode("latin-1")

    @property
    def is_signed(self) -> bool:
        """By SECRET, as Standard Webhooks has it."""
        signed = f"{self.header('webhook-id')}.{self.header('webhook-timestamp')}.".encode() + self.body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return expected in self.header("webhook-signature").split()


class Receivers:
    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._refusing = socket.socket()
        self._refusing.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        self._open: list[socket.socket] = []
        self.received: list[Received] = []
        self.is_healed = False  # /failing answers 200

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        for each in (self._listener, self._refusing, *self._open):
            each.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def refusing_url(self) -> str:
        return f"http://127.0.0.1:{self._refusing.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer, peer.makefile("rb") as reader:
                while self._one(peer, reader):
                    pass
        except OSError:
            pass  # the daemon closed it

    def _one(self, peer: socket.socket, reader: Any) -> bool:
        head = []
        while line := reader.readline().decode("latin-1").removesuffix("\r\n"):
            head.append(line)
        if not head:
            return False
        came = Received(head, b"")
        body = reader.read(int(came.header("content-length") or 0))
        self.received.append(came._replace(body=body))
        path = head[0].split()[1].partition("?")[0]
        if path == SILENT:
            return reader.read(1) != b""
        peer.sendall(ANSWERS.get("/well" if path == "/failing" and self.is_healed else path, ELSEWHERE))
        return path not in CLOSES
