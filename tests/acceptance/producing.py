"""A producer under load, and what its receivers saw: the two sides that a report is held against."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from http.client import HTTPException

from tests.acceptance.harness import Api, Receiver, event_body

BATCH = 50


class Producer:
    """Posts batches as fast as they are answered, until the connection breaks or a drain begins; keeps what was
    answered 202.
    """

    def __init__(self, port: int, run: int, clients: Sequence[str] = ("up", "failing", "hung")) -> None:
        self.accepted: set[tuple[str, str]] = set()
        self.sent: set[tuple[str, str]] = set()
        self.failure: BaseException | None = None
        self._port = port
        self._run = run
        self._clients = clients
        self._thread = threading.Thread(target=self._post_all)
        self._thread.start()

    def _post_all(self) -> None:
        try:
            with Api(self._port) as api:
                for batch in range(10_000):
                    keys = [(self._clients[n % len(self._clients)], f"r{self._run}-{batch}-{n}") for n in range(BATCH)]
                    self.sent.update(keys)
                    body = b"[" + b",".join(event_body(*key) for key in keys) + b"]"
                    answer = api.ask("POST", "/v1/events/batch", body)
                    assert answer.status in (202, 429, 503), answer
                    if answer.status == 202:
                        self.accepted.update(keys)
                    elif answer.slug == "draining":
                        return
        except (OSError, HTTPException):
            pass  # it was killed
        except BaseException as failure:
            self.failure = failure
            raise

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert self.failure is None


def answers_of(receivers: Mapping[str, Receiver]) -> dict[tuple[str, str], list[int | None]]:
    found: dict[tuple[str, str], list[int | None]] = defaultdict(list)
    for client_id, receiver in receivers.items():
        for one in list(receiver.log):
            found[client_id, one.event_id].append(one.status)
    return found
