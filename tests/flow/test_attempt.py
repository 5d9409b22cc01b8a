"""The one attempt outside of all accounts: what the test route shows."""

from hookd.core.outcome import Exchange, Outcome, Responded
from hookd.flow.attempt import TEST_TYPE, Attempter
from hookd.flow.ports import DeliveryRequest

from tests.flow.harness import EPOCH, URL, Flow, endpoint


class SentTwice:
    """A kept connection was stale, so the request went out once more."""

    def __init__(self) -> None:
        self.requests: list[DeliveryRequest] = []

    async def send(self, request: DeliveryRequest, exchange: Exchange) -> Outcome:
        self.requests.append(request)
        exchange.sending_started = exchange.request_sent = exchange.reconnected = True
        exchange.answer, exchange.excerpt = Responded(202), b"fine \xff"
        return exchange.answer


async def test_test_attempt_tells_all_that_an_attempt_would(autojump_clock) -> None:
    """Its number is one, its event is nobody's, and whether it went out twice is said."""
    flow, sender = Flow(), SentTwice()
    attempter = Attempter(
        effective=flow.effective,
        ledger=flow.ledger,
        sender=sender,
        clock=flow.clock,
        jitter_unit=lambda: 0.5,
        log=flow.log,
        user_agent="hookd/test",
    )
    view = await attempter.test("acme", endpoint())
    assert (view.number, view.outcome, view.status_code, view.error) == (1, "responded", 202, None)
    assert (view.request_sent, view.reconnected, view.duration_seconds) == (True, True, 0.0)
    assert view.response_excerpt == "fine \ufffd"
    [request] = sender.requests
    headers = dict(request.headers)
    assert (request.client_id, request.endpoint_id, request.url) == ("acme", "default", URL)
    assert (headers["webhook-id"], headers["hookd-event-type"]) == (f"test_{int(EPOCH * 1000)}", TEST_TYPE)
    assert flow.ledger.totals().accepted == 0
