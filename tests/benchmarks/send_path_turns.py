"""The sending process of `send_path`: a turn for each line that comes in, its microseconds an attempt out.

It may run on another checkout than its own, so it imports nothing of this folder.
"""

import ssl
import sys
import time

import trio
from hookd.core.client import Endpoint
from hookd.core.settings import Settings
from hookd.edge.clock import SystemClock
from hookd.edge.egress import open_sender
from hookd.flow.attempt import Attempter

from tests.flow.harness import SECRET, Flow

ATTEMPTS = 240  # a turn: short ones, since the noise comes in bursts
AT_ONCE = 48
ENDPOINTS = 8
HEADERS = (("authorization", "Bearer abcdefgh"),)


async def take_turns(port: int, authority_file: str | None) -> None:
    """Over TLS where the file of an authority is given."""
    flow = Flow(Settings(dev=True))
    trusting = {} if authority_file is None else {"ssl_context": ssl.create_default_context(cafile=authority_file)}
    base = f"http://127.0.0.1:{port}" if authority_file is None else f"https://localhost:{port}"
    async with open_sender(flow.effective, **trusting) as sender:
        attempter = Attempter(
            effective=flow.effective,
            ledger=flow.ledger,
            sender=sender,
            clock=SystemClock(),
            jitter_unit=lambda: 0.5,
            log=flow.log,
            user_agent="hookd/0",
        )
        for _ in sys.stdin:
            began = time.process_time()
            async with trio.open_nursery() as nursery:
                for number in range(AT_ONCE):
                    nursery.start_soon(post, attempter, base, number % ENDPOINTS)
            print(f"{(time.process_time() - began) / ATTEMPTS * 1e6:.3f}", flush=True)


async def post(attempter: Attempter, base: str, number: int) -> None:
    url = f"{base}/hooks/{number}?tenant=1"
    endpoint = Endpoint(id=f"e{number}", url=url, secret=SECRET, headers=HEADERS)
    for _ in range(ATTEMPTS // AT_ONCE):
        view = await attempter.test("acme", endpoint)
        assert view.status_code == 200, view


if __name__ == "__main__":
    trio.run(take_turns, int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
