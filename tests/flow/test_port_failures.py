"""What the log says of a port that raises: each kind of failure once, until another comes."""

from hookd.flow.port_failures import PortFailureLog

from tests.flow.harness import Lines


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


async def test_failure_is_logged_with_its_port_and_its_traceback() -> None:
    """The recorder has a line of its own."""
    log = Lines()
    tell = PortFailureLog(log)
    tell("feed", raised(OSError("no room")))
    tell("recorder", raised(ValueError("bad")))
    feed, recorder = log.lines
    assert (feed["event"], feed["level"], feed["port"], feed["error"]) == (
        "port.failed",
        "error",
        "feed",
        "OSError: no room",
    )
    assert (recorder["event"], recorder["port"], recorder["error"]) == (
        "recorder.failed",
        "recorder",
        "ValueError: bad",
    )
    for line in (feed, recorder):
        assert "in raised" in line["traceback"]
        assert line["traceback"].endswith(f"{line['error']}\n")


async def test_failure_that_repeats_is_logged_once_and_anew_when_it_changes() -> None:
    """By port: a disk that is full fails at each event."""
    log = Lines()
    tell = PortFailureLog(log)
    for port in ("feed", "log"):
        for words in ("a", "a", "b", "b", "a"):
            tell(port, OSError(words))
    assert [(line["port"], line["error"]) for line in log.lines] == [
        (port, f"OSError: {words}") for port in ("feed", "log") for words in "aba"
    ]
