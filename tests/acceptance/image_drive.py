"""Runs inside a container of the image, beside its hookd, and prints what it saw.

`deliver` takes an event from its post to a receiver of its own; `flood COUNT` posts large ones to an endpoint that
refuses, and prints the id of each that got a 202, until nobody answers any more. Stands alone: it is run by the image's
Python, from standard input. The token is in TEST_TOKEN.
"""

import http.client
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

SECONDS_MAX = 30
PAYLOAD = "x" * 250_000


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    headers = {"content-type": "application/json", "authorization": f"Bearer {os.environ['TEST_TOKEN']}"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    return response.status, response.read()


def deliver(api: http.client.HTTPConnection) -> None:
    received = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()
            received.set()

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    ask(api, "PUT", "/v1/clients/up", {"url": url})
    status, _ = ask(api, "POST", "/v1/events", {"client_id": "up", "id": "e1", "type": "t", "payload": {}})
    assert received.wait(SECONDS_MAX), "nothing is delivered"
    deadline = time.monotonic() + SECONDS_MAX
    while (found := json.loads(ask(api, "GET", "/v1/status")[1]))["deliveries"]["delivered"] < 1:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    print(json.dumps({"posted": status, "deliveries": found["deliveries"]}))


def flood(api: http.client.HTTPConnection, count: int) -> None:
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        ask(api, "PUT", "/v1/clients/down", {"url": f"http://127.0.0.1:{refusing.getsockname()[1]}/hook"})
        for number in range(count):
            event = {"client_id": "down", "id": f"e{number}", "type": "t", "payload": PAYLOAD}
            status, content = ask(api, "POST", "/v1/events", event)
            assert status == 202, content
            print(f"e{number}", flush=True)


connected = http.client.HTTPConnection("127.0.0.1", 8080, timeout=SECONDS_MAX)
if sys.argv[1] == "deliver":
    deliver(connected)
else:
    flood(connected, int(sys.argv[2]))
