"""One HTTP exchange as bytes: what is sent, and what comes back, taken apart no further than to find its end.

Rules: the order and the case of header names are kept. One connection for each exchange, closed by us once its answers
are in. It judges nothing but the length: an answer that is cut raises.
"""

import socket
from typing import NamedTuple

SECONDS_MAX = 30.0


class Answer(NamedTuple):
    status_line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.status_line.split()[1])

    def header(self, name: str) -> str | None:
        return next((value for given, value in self.headers if given.lower() == name), None)


def request_bytes(method: str, target: str, headers: list[tuple[str, str]], body: bytes | None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def exchange(port: int, sent: bytes, *, answers: int = 1, is_head: bool = False) -> tuple[list[Answer], bool]:
    """So many answers, or fewer where the peer closes before; and whether it had closed after them by itself.

    Whether it closes is only looked for where its last answer says so.
    """
    found: list[Answer] = []
    with socket.create_connection(("127.0.0.1", port), SECONDS_MAX) as peer:
        try:
            peer.sendall(sent)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may refuse a body that it has not read
        reader = peer.makefile("rb")
        while len(found) < answers:
            answer = _answer(reader, is_head=is_head)
            if answer is None:
                return found, True
            found.append(answer)
        if found and found[-1].header("connection") == "close":
            return found, reader.read(1) == b""
    return found, False


def _answer(reader: object, *, is_head: bool) -> Answer | None:
    readline, read = reader.readline, reader.read  # type: ignore[attr-defined]
    status_line = readline().decode("latin-1").removesuffix("\r\n")
    if not status_line:
        return None
    headers = []
    while line := readline().decode("latin-1").removesuffix("\r\n"):
        name, _, value = line.partition(":")
        headers.append((name, value.strip(" ")))
    answer = Answer(status_line, headers, b"")
    if is_head or answer.status < 200 or answer.status in (204, 304):
        return answer
    length = answer.header("content-length")
    if length is not None:
        body = read(int(length))
        if len(body) != int(length):
            raise ConnectionError(f"cut after {len(body)} of {length} bytes")
        return answer._replace(body=body)
    if answer.header("transfer-encoding") == "chunked":
        body = b""
        while size := int(readline().split(b";")[0], 16):
            body += read(size)
            readline()
        readline()
        return answer._replace(body=body)
    return answer._replace(body=read())
