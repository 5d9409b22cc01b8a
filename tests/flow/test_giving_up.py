"""What the log says of a delivery that was given up."""

from hookd.core.settings import RetrySettings, Settings

from tests.flow.harness import URL, Flow, at, endpoint


async def test_line_of_a_delivery_given_up_names_it_and_why(autojump_clock, nursery) -> None:
    """The event, the client, the endpoint, the reason, and how many attempts it had."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(1.0,))))
    await flow.start(nursery)
    flow.put("acme", endpoint("one"))
    flow.sender.script(URL, 503)
    flow.admit(event_id="e1")
    await at(5)
    [line] = flow.log.of("delivery.exhausted")
    assert line == {
        "event": "delivery.exhausted",
        "level": "warning",
        "at": 1.0,
        "event_id": "e1",
        "client_id": "acme",
        "endpoint_id": "one",
        "reason": "attempts_used",
        "attempts": 2,
    }
