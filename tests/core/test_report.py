"""The account that every stop ends with: its text, its classes, its lines and its sums."""

import base64
import itertools
import json
from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from hookd.core import report, report_text
from hookd.core.attempt_end import AttemptEnd
from hookd.core.delivery import Delivery, Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission, read_event
from hookd.core.ledger import Ledger
from hookd.core.outcome import Exchange, Outcome, Responded, TimedOut, Unreachable
from hookd.core.report import DeliveryCounts, EventCounts, Line, Summary, one_line, summarise
from hookd.core.retry import GiveUp, Reason, Retry, Success, Verdict
from hookd.core.run import Run, Stop
from hookd.core.settings import Settings
from hookd.core.timestamps import Moment
from hookd.flow.report_lines import read_report_lines
from hypothesis import example, given
from hypothesis import strategies as st

# 2026-11-21T18:35:00Z
WALL = 1_795_286_100.0
RUN = Run(run_id="run1", version="0.1.0", host="h", pid=7, started_at=WALL - 3600)
PATH = "reports/shutdown-20261121T183500Z-run1.jsonl"
URL = "https://example.com/hook"
BREAKS = "\n\r\u0085\u2028\u2029"


class Desk:
    """A ledger and the few moves that the tests are made of."""

    def __init__(self) -> None:
        self.ledger = Ledger(
            EffectiveSettings(Settings()),
            started=Moment(0.0, WALL - 3600),
            on_settled=lambda event: None,
            on_forgotten=lambda event: None,
        )
        self.seconds = 0.0
        self._ids = itertools.count()

    @property
    def now(self) -> Moment:
        return Moment(self.seconds, WALL - 3600 + self.seconds)

    def open(self, client_id: str = "acme", payload: bytes = b"{}", *, endpoint_ids: Sequence[str] = ("x",)) -> Event:
        deliveries = tuple(
            Delivery(endpoint_id=one, url=URL, opened_at=self.seconds, due_at=self.seconds) for one in endpoint_ids
        )
        submission = Submission(client_id, "invoice.paid", payload)
        return self.ledger.open(submission, f"e{next(self._ids)}", deliveries, now=self.now)

    def attempt(
        self,
        event: Event,
        outcome: Outcome | None,
        verdict: Verdict | None = None,
        *,
        endpoint: int = 0,
        sending_started: bool = True,
        request_sent: bool = True,
        unanswered_before: bool = False,
        body: bytes = b"",
    ) -> Delivery:
        """An attempt that came to this; no outcome: it was cut."""
        delivery = event.deliveries[endpoint]
        self.ledger.begin_attempt(event, delivery, url=URL, now=self.now)
        exchange = Exchange()
        exchange.sending_started, exchange.request_sent = sending_started, request_sent
        exchange.reconnected = exchange.unanswered_before = unanswered_before
        exchange.answer = outcome if isinstance(outcome, Responded) else None
        exchange.excerpt = body
        if outcome is None:
            self.ledger.cut_attempt(event, delivery, exchange=exchange, duration_seconds=1.5)
        else:
            self.ledger.end_attempt(
                event,
                delivery,
                AttemptEnd(
                    outcome=outcome,
                    verdict=verdict or Retry(30.0),
                    exchange=exchange,
                    duration_seconds=1.5,
                    now=self.now,
                ),
            )
        return delivery

    def summary(self, *, trigger: str = "SIGTERM", forced: bool = False, drain_seconds: float = 3.2) -> Summary:
        return summarise(self.ledger, RUN, Stop(WALL, trigger, forced, drain_seconds))

    def lines(self, *, payloads: bool = True) -> list[Line]:
        wall = self.now.wall
        return list(report.lines(self.ledger, now_monotonic=self.seconds, now_wall=wall, payloads=payloads))


def refused(desk: Desk, event: Event, *, endpoint: int = 0) -> Delivery:
    """An attempt that never got a connection."""
    return desk.attempt(
        event, Unreachable("connection refused"), endpoint=endpoint, sending_started=False, request_sent=False
    )


def shape(text: str) -> tuple[int, int]:
    rows = text.splitlines()
    return len(rows), max(len(row) for row in rows)


def encoded(line: Line) -> dict[str, object]:
    read = json.loads(msgspec.json.encode(line))
    assert isinstance(read, dict)
    return read


# The text


def desk_with_nothing_lost() -> Desk:
    desk = Desk()
    desk.attempt(desk.open(), Responded(200), Success())
    desk.open(endpoint_ids=())
    return desk


def desk_with_many_lost() -> Desk:
    """15 endpoints, the n-th owed n deliveries; each class and a failure of each kind is among them."""
    desk = Desk()
    for number in range(1, 16):
        desk.seconds = number * 60.0
        for _ in range(number):
            event = desk.open(f"client-{number:02}", endpoint_ids=("default",))
            if number == 15:
                desk.attempt(event, TimedOut(15.0))
            elif number == 14:
                desk.attempt(event, Responded(503))
            elif number == 13:
                refused(desk, event)
    desk.attempt(desk.open("client-01"), Responded(204), Success())
    desk.attempt(desk.open("client-02"), Responded(410), GiveUp(Reason.GONE))
    return desk


def test_text_with_nothing_lost_says_so() -> None:
    """Three sums' lines, one sentence and where the report is; no command, as there is nothing to send."""
    assert report_text.text(desk_with_nothing_lost().summary(), path=PATH) == NOTHING_LOST


def test_text_with_nothing_lost_mentions_what_was_given_up_earlier() -> None:
    """Exhausted deliveries stand in the report, but they are no loss of this stop."""
    desk = desk_with_nothing_lost()
    desk.attempt(desk.open(), Responded(410), GiveUp(Reason.GONE))
    text = report_text.text(desk.summary(), path=PATH)
    assert "Nothing was left undelivered.\nGiven up earlier (exhausted), and listed in the report: 1.\n" in text


def test_text_with_many_lost_says_what_whose_how_old_and_why() -> None:
    """Ten endpoints of fifteen by name, those owed most first, and the command to paste."""
    text = report_text.text(desk_with_many_lost().summary(), path=PATH)
    assert text == MANY_LOST
    rows, columns = shape(text)
    assert rows <= 25
    assert columns <= 100


def test_text_of_a_forced_stop_without_a_report_file_gives_no_command() -> None:
    """Where no file could be written there is nothing to resend from, and none is promised."""
    desk = Desk()
    desk.attempt(desk.open(), None)
    assert report_text.text(desk.summary(trigger="SIGINT", forced=True, drain_seconds=0.25), path=None) == FORCED


def test_text_of_totals_that_do_not_balance_says_it_is_a_bug() -> None:
    """A difference is said before anything else that follows from the numbers."""
    summary = msgspec.structs.replace(desk_with_nothing_lost().summary(), balanced=False)
    assert report_text.text(summary, path=PATH) == UNBALANCED


def test_text_at_its_longest_keeps_lines_and_columns() -> None:
    """Unbalanced, forced, everything lost, the longest ids and errors, numbers of a full daemon."""
    desk = Desk()
    for number in range(40):
        event = desk.open(f"{number:02}" + "c" * 62, endpoint_ids=("e" * 64,))
        desk.attempt(event, Unreachable("it said\n\x1b[31m" + "é\u2028" * 300))
    summary = desk.summary(forced=True, drain_seconds=12345.678)
    summary = msgspec.structs.replace(
        summary,
        balanced=False,
        events=EventCounts(10**9, 0, 10**9, 10**9, 100_000),
        deliveries=DeliveryCounts(10**10, 10**9, 10**9, 1_600_000),
        undelivered=report.Undelivered(1_000_000, 500_000, 100_000),
        run_id="r" * 26,
        exhausted_held=800_000,
    )
    text = report_text.text(summary, path=PATH)
    rows, columns = shape(text)
    assert rows <= 25
    assert columns <= 100
    assert text.replace("\n", "").isprintable()
    assert len(text.split("\n")) == rows + 1


def test_text_names_where_the_daemon_is_if_that_is_not_the_default() -> None:
    """A command that asks elsewhere is none to paste."""
    desk = Desk()
    desk.open()
    rows = report_text.text(desk.summary(), path=PATH, url="http://127.0.0.1:8081").splitlines()
    assert rows[-1] == f"  hookd resend {PATH} --url http://127.0.0.1:8081"


def test_text_never_cuts_the_path_or_the_command() -> None:
    """A command that cannot be pasted is worse than a long line; odd paths are quoted for the shell."""
    desk = Desk()
    desk.open()
    path = f"/var/lib/{'long/' * 30}my reports/shutdown-it's.jsonl"
    rows = report_text.text(desk.summary(), path=path).splitlines()
    assert f"report: {path}" in rows
    assert rows[-1] == f"  hookd resend '/var/lib/{'long/' * 30}my reports/shutdown-it'\"'\"'s.jsonl'"


# The classes


def test_class_without_an_attempt_is_never_attempted() -> None:
    """Nothing was begun: it is safe to send again."""
    event = Desk().open()
    assert report.class_of(event.deliveries[0]) == "never_attempted"


@pytest.mark.parametrize("outcome", [Responded(500), Responded(301), Responded(429)])
def test_class_of_answered_attempts_is_attempted_failed(outcome: Outcome) -> None:
    """The client answered each: it knows and so do we."""
    desk = Desk()
    event = desk.open()
    desk.attempt(event, outcome)
    assert report.class_of(desk.attempt(event, outcome)) == "attempted_failed"


def test_class_of_attempts_that_sent_nothing_is_attempted_failed() -> None:
    """No connection, or a cut before the first byte: the client cannot have it."""
    desk = Desk()
    event = desk.open()
    assert report.class_of(refused(desk, event)) == "attempted_failed"
    delivery = desk.attempt(event, None, sending_started=False, request_sent=False)
    assert report.class_of(delivery) == "attempted_failed"


@pytest.mark.parametrize("request_sent", [True, False])
@pytest.mark.parametrize("outcome", [None, TimedOut(15.0), Unreachable("connection reset")])
def test_class_of_a_request_without_an_answer_is_outcome_unknown(outcome: Outcome | None, request_sent: bool) -> None:
    """Cut, timed out or reset while wholly or partly sent: the client may have it."""
    desk = Desk()
    delivery = desk.attempt(desk.open(), outcome, request_sent=request_sent)
    assert report.class_of(delivery) == "outcome_unknown"


def test_class_of_an_answer_to_the_second_sending_alone_is_outcome_unknown() -> None:
    """A kept connection took the request and ended: who was behind it may have done the work before it broke."""
    desk = Desk()
    delivery = desk.attempt(desk.open(), Responded(503), unanswered_before=True)
    assert report.class_of(delivery) == "outcome_unknown"


@pytest.mark.parametrize("earlier", [None, TimedOut(15.0)])
def test_class_after_an_earlier_unknown_attempt_stays_outcome_unknown(earlier: Outcome | None) -> None:
    """That later attempts were refused or answered tells nothing about the earlier one."""
    desk = Desk()
    event = desk.open()
    desk.attempt(event, earlier)
    refused(desk, event)
    assert report.class_of(event.deliveries[0]) == "outcome_unknown"
    for _ in range(20):  # also once the history no longer shows it
        desk.attempt(event, Responded(500))
    assert report.class_of(event.deliveries[0]) == "outcome_unknown"


def test_class_after_a_reopening_keeps_what_was_known() -> None:
    """Given up with an attempt that may have arrived, and replayed: it may still have arrived."""
    desk = Desk()
    event = desk.open()
    delivery = desk.attempt(event, TimedOut(15.0), GiveUp(Reason.ATTEMPTS_USED))
    desk.ledger.reopen(event, delivery, now=desk.now)
    assert report.class_of(delivery) == "outcome_unknown"


# The summary


def test_summary_counts_every_class_and_sums_to_the_ledger() -> None:
    """Counted one by one, equal to the ledger's totals."""
    desk = desk_with_many_lost()
    summary = desk.summary()
    assert summary.balanced
    assert summary.undelivered == report.Undelivered(never_attempted=78, attempted_failed=27, outcome_unknown=15)
    assert summary.deliveries == DeliveryCounts(opened=122, delivered=1, exhausted=1, undelivered=120)
    assert summary.events == EventCounts(accepted=122, recovered=0, delivered=1, exhausted=1, undelivered=120)
    assert (summary.exhausted_held, summary.exhausted_forgotten) == (1, 0)
    assert sum(line.undelivered for line in summary.clients) == 120
    assert [line.undelivered for line in summary.clients] == list(range(15, 0, -1))
    assert summary.clients[0] == report.ClientLine(
        client_id="client-15",
        endpoint_id="default",
        undelivered=15,
        oldest_accepted_at="2026-11-21T17:50:00.000Z",
        failing_since="2026-11-21T17:50:00.000Z",
        last_error="no answer within 15 s",
    )
    assert (summary.clients[-1].failing_since, summary.clients[-1].last_error) == (None, None)


def test_summary_as_json_has_the_contracts_keys() -> None:
    """The first line of the report, as scripts read it."""
    desk = Desk()
    desk.open()
    read = json.loads(msgspec.json.encode(desk.summary()))
    assert read == {
        "kind": "summary",
        "format": 1,
        "run_id": "run1",
        "version": "0.1.0",
        "host": "h",
        "pid": 7,
        "started_at": "2026-11-21T17:35:00.000Z",
        "stopped_at": "2026-11-21T18:35:00.000Z",
        "trigger": "SIGTERM",
        "forced": False,
        "drain_seconds": 3.2,
        "events": {"accepted": 1, "recovered": 0, "delivered": 0, "exhausted": 0, "undelivered": 1},
        "deliveries": {"opened": 1, "delivered": 0, "exhausted": 0, "undelivered": 1},
        "undelivered": {"never_attempted": 1, "attempted_failed": 0, "outcome_unknown": 0},
        "balanced": True,
        "exhausted_held": 0,
        "exhausted_forgotten": 0,
        "clients": [
            {
                "client_id": "acme",
                "endpoint_id": "x",
                "undelivered": 1,
                "oldest_accepted_at": "2026-11-21T17:35:00.000Z",
                "failing_since": None,
                "last_error": None,
            }
        ],
    }


@pytest.mark.parametrize(
    ("events", "deliveries", "expected"),
    [
        (EventCounts(6, 0, 1, 2, 3), DeliveryCounts(6, 1, 2, 3), True),
        (EventCounts(0, 0, 0, 0, 0), DeliveryCounts(0, 0, 0, 0), True),
        (EventCounts(6, 4, 1, 2, 3), DeliveryCounts(6, 1, 2, 3), True),
        (EventCounts(7, 0, 1, 2, 3), DeliveryCounts(6, 1, 2, 3), False),
        (EventCounts(6, 0, 1, 2, 3), DeliveryCounts(7, 1, 2, 3), False),
        (EventCounts(6, 0, 1, 2, 2), DeliveryCounts(6, 1, 2, 3), False),
        (EventCounts(6, 0, 1, 2, 3), DeliveryCounts(6, 1, 1, 3), False),
    ],
)
def test_balance_needs_both_sums(events: EventCounts, deliveries: DeliveryCounts, expected: bool) -> None:
    """One missing event or delivery is told; the recovered are among the accepted."""
    assert report.is_balanced(events, deliveries) is expected


def test_summary_of_a_row_that_vanished_is_not_balanced() -> None:
    """Undelivered are counted by looking at them, so that a row lost by a bug shows."""
    desk = Desk()
    desk.open()
    event = desk.open()
    desk.ledger.unsettled.remove(event)
    assert not desk.summary().balanced


def test_summary_of_a_status_changed_behind_the_ledger_is_not_balanced() -> None:
    """Deliveries are counted one by one as well: an event in its place hides none."""
    desk = Desk()
    event = desk.open(endpoint_ids=("x", "y"))
    event.deliveries[0].status = Status.DELIVERED
    summary = desk.summary()
    assert summary.deliveries.undelivered == 1
    assert not summary.balanced


def test_summary_names_the_oldest_event_an_endpoint_is_owed() -> None:
    """Also where it is not the first in line, having been reopened."""
    desk = Desk()
    oldest = desk.open()
    desk.ledger.give_up(oldest, oldest.deliveries[0], Reason.EXPIRED, now=desk.now)
    desk.seconds = 60.0
    desk.open()
    desk.ledger.reopen(oldest, oldest.deliveries[0], now=desk.now)
    desk.open()
    (line,) = desk.summary().clients
    assert (line.undelivered, line.oldest_accepted_at) == (3, "2026-11-21T17:35:00.000Z")


MOVES = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.lists(st.sampled_from(["failed", "cut", "refused", "delivered", "gone", "none"]), min_size=3, max_size=3),
    ),
    max_size=12,
)


@given(MOVES)
def test_lines_name_each_undelivered_and_each_exhausted_held_once(moves: list[tuple[int, list[str]]]) -> None:
    """Nothing twice, nothing left out, and the summary's numbers are those of the lines."""
    desk = Desk()
    for count, kinds in moves:
        event = desk.open(endpoint_ids=("x", "y", "z")[:count])
        for index, kind in enumerate(kinds[:count]):
            match kind:
                case "failed":
                    desk.attempt(event, Responded(500), endpoint=index)
                case "cut":
                    desk.attempt(event, None, endpoint=index)
                case "refused":
                    refused(desk, event, endpoint=index)
                case "delivered":
                    desk.attempt(event, Responded(200), Success(), endpoint=index)
                case "gone":
                    desk.attempt(event, Responded(410), GiveUp(Reason.GONE), endpoint=index)
    lines, summary = desk.lines(), desk.summary()
    named = Counter((line.kind, line.event_id, line.endpoint_id) for line in lines)
    expected = Counter(
        ("exhausted" if delivery.status is Status.EXHAUSTED else "undelivered", event.id, delivery.endpoint_id)
        for event in desk.ledger.of_client("acme")
        for delivery in event.deliveries
        if delivery.status is not Status.DELIVERED
    )
    assert named == expected
    kinds_found = [line.kind for line in lines]
    assert kinds_found == sorted(kinds_found, reverse=True)  # the undelivered first
    classes = Counter(line.class_ for line in lines if line.kind == "undelivered")
    assert {name: classes[name] for name in report.CLASSES} == msgspec.structs.asdict(summary.undelivered)
    assert summary.balanced
    assert summary.deliveries.undelivered == classes.total() == sum(line.undelivered for line in summary.clients)
    assert summary.exhausted_held == kinds_found.count("exhausted")


# The lines


def test_line_of_an_undelivered_delivery_has_the_contracts_keys() -> None:
    """What happened last and when it would have been attempted next."""
    desk = Desk()
    event = desk.open(payload=b'{"a":1e400}')
    desk.attempt(event, Responded(503), Retry(90.25), body=b"later")
    desk.seconds = 60.0
    (line,) = desk.lines()
    assert msgspec.json.encode(line).endswith(b'"payload":{"a":1e400}}')
    found = encoded(line)
    assert found.pop("payload") == {"a": float("inf")}
    assert found == {
        "kind": "undelivered",
        "class": "attempted_failed",
        "event_id": "e0",
        "client_id": "acme",
        "endpoint_id": "x",
        "url": URL,
        "type": "invoice.paid",
        "accepted_at": "2026-11-21T17:35:00.000Z",
        "attempt_count": 1,
        "next_attempt_at": "2026-11-21T17:36:30.250Z",
        "last_outcome": {
            "number": 1,
            "started_at": "2026-11-21T17:35:00.000Z",
            "duration_seconds": 1.5,
            "outcome": "responded",
            "status_code": 503,
            "request_sent": True,
            "reconnected": False,
            "error": None,
            "response_excerpt": "later",
        },
    }


def test_line_of_an_exhausted_delivery_has_its_reason_and_no_class() -> None:
    """Also while its event is unsettled for another endpoint's sake."""
    desk = Desk()
    event = desk.open(endpoint_ids=("x", "y"))
    desk.attempt(event, Responded(410), GiveUp(Reason.GONE))
    undelivered, exhausted = (encoded(line) for line in desk.lines())
    assert (undelivered["kind"], undelivered["endpoint_id"], undelivered["last_outcome"]) == ("undelivered", "y", None)
    assert "reason" not in undelivered
    assert (exhausted["kind"], exhausted["reason"], exhausted["endpoint_id"]) == ("exhausted", "gone", "x")
    assert "class" not in exhausted
    assert exhausted["next_attempt_at"] is None


def test_line_of_a_cut_attempt_has_no_outcome() -> None:
    """Being cut is no outcome; what is known of it is that the request went out."""
    desk = Desk()
    desk.attempt(desk.open(), None)
    (line,) = desk.lines()
    assert line.class_ == "outcome_unknown"
    assert line.next_attempt_at is None
    assert line.last_outcome is not None
    assert (line.last_outcome.outcome, line.last_outcome.request_sent) == (None, True)


def test_lines_without_payloads_have_neither_form() -> None:
    """`drain.report_payloads = false`: the keys are left out, not null."""
    desk = Desk()
    desk.open(payload=b'{\n"a": 1}')
    desk.attempt(desk.open(payload=b"{}"), Responded(410), GiveUp(Reason.GONE))
    for line in desk.lines(payloads=False):
        assert not {"payload", "payload_base64"} & set(encoded(line))
    for line in desk.lines(payloads=True):
        assert "payload" in encoded(line)


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b'{\n  "a": 1\r\n}', b'{   "a": 1  }'),
        ('["\u2028", "\u2029", "\u0085"]'.encode(), b'["\\u2028", "\\u2029", "\\u0085"]'),
        ('{"\u2028": "\\\\\u2028"}'.encode(), b'{"\\u2028": "\\\\\\u2028"}'),
        (b'"\\n\\r\\u2028"', b'"\\n\\r\\u2028"'),
        ('{"é" :\t"😀 \u00a0\u200b\u007f"}'.encode(), '{"é" :\t"😀 \u00a0\u200b\u007f"}'.encode()),
    ],
)
def test_payload_on_one_line_is_the_same_value(payload: bytes, shown: bytes) -> None:
    """Breaks between tokens become blanks, those in strings escapes; escapes and everything else stay."""
    assert one_line(payload) == shown
    assert json.loads(shown) == json.loads(payload)


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from([*BREAKS, '"', "\\"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """JSON with white space of any kind between any two tokens."""
    space = draw(st.lists(st.text(" \t\r\n", max_size=2), min_size=1, max_size=5))
    spaces = itertools.cycle(space)
    ascii_only = draw(st.booleans())

    def written(value: object) -> str:
        match value:
            case dict():
                entries = (f"{next(spaces)}{scalar(key)}{next(spaces)}:{written(one)}" for key, one in value.items())
                return f"{{{','.join(entries)}{next(spaces)}}}"
            case list():
                return f"[{','.join(map(written, value))}{next(spaces)}]"
            case _:
                return f"{next(spaces)}{scalar(value)}{next(spaces)}"

    def scalar(value: object) -> str:
        return json.dumps(value, ensure_ascii=ascii_only)

    return written(draw(VALUES)).encode()


@given(payloads())
@example('"\u0085"'.encode())
@example('"\u2028\\\\"'.encode())
@example(b"[\r1]")
@example(b"\n1")
def test_line_gives_the_posted_bytes_back(payload: bytes) -> None:
    """As posted, reported, read back: the bytes are the same, the shown value is equal, the line is one line."""
    posted = read_event(b'{"type": "t", "client_id": "acme", "payload": %b}' % payload, client_id=None).payload
    assert posted == payload.strip(b" \t\r\n")
    desk = Desk()
    desk.open(payload=posted)
    (line,) = desk.lines()
    written = msgspec.json.encode(line)
    assert len(written.decode().splitlines()) == 1
    assert not any(one in written.decode() for one in BREAKS)
    found = json.loads(written)
    assert found["payload"] == json.loads(posted)
    assert ("payload_base64" in found) is any(one in posted.decode() for one in BREAKS)
    if "payload_base64" in found:
        assert base64.b64decode(found["payload_base64"], validate=True) == posted
    (read,) = read_report_lines([written])
    assert read.original_payload() == posted


# The golden texts

NOTHING_LOST = """\
hookd 0.1.0 run run1 stopped 2026-11-21T18:35:00.000Z (SIGTERM, drained 3.2 s)
events: 2 accepted = 2 delivered + 0 exhausted + 0 undelivered
deliveries: 1 opened = 1 delivered + 0 exhausted + 0 undelivered
Nothing was left undelivered.
report: reports/shutdown-20261121T183500Z-run1.jsonl
"""
MANY_LOST = """\
hookd 0.1.0 run run1 stopped 2026-11-21T18:35:00.000Z (SIGTERM, drained 3.2 s)
events: 122 accepted = 1 delivered + 1 exhausted + 120 undelivered
deliveries: 122 opened = 1 delivered + 1 exhausted + 120 undelivered
UNDELIVERED: 120 deliveries
  never_attempted         78  no attempt began: safe to send again
  attempted_failed        27  refused or not sent: safe to send again
  outcome_unknown         15  sent, no answer read: the client may have it;
                              sending again may duplicate, under the same webhook-id
  owed (deliveries, oldest, to client/endpoint, why):
    15  45m  client-15/default  no answer within 15 s
    14  46m  client-14/default  answered 503
    13  47m  client-13/default  connection refused
    12  48m  client-12/default  not attempted, or no failure yet
    11  49m  client-11/default  not attempted, or no failure yet
    10  50m  client-10/default  not attempted, or no failure yet
    9  51m  client-09/default  not attempted, or no failure yet
    8  52m  client-08/default  not attempted, or no failure yet
    7  53m  client-07/default  not attempted, or no failure yet
    6  54m  client-06/default  not attempted, or no failure yet
    and 5 more endpoints with 15 deliveries, all in the report
report: reports/shutdown-20261121T183500Z-run1.jsonl
Nothing will be sent until someone does; once a daemon runs again:
  hookd resend reports/shutdown-20261121T183500Z-run1.jsonl
"""
FORCED = """\
hookd 0.1.0 run run1 stopped 2026-11-21T18:35:00.000Z (SIGINT, forced, drained 0.25 s)
events: 1 accepted = 0 delivered + 0 exhausted + 1 undelivered
deliveries: 1 opened = 0 delivered + 0 exhausted + 1 undelivered
UNDELIVERED: 1 delivery
  never_attempted          0  no attempt began: safe to send again
  attempted_failed         0  refused or not sent: safe to send again
  outcome_unknown          1  sent, no answer read: the client may have it;
                              sending again may duplicate, under the same webhook-id
  owed (deliveries, oldest, to client/endpoint, why):
    1  1h  acme/x  not attempted, or no failure yet
"""
UNBALANCED = """\
hookd 0.1.0 run run1 stopped 2026-11-21T18:35:00.000Z (SIGTERM, drained 3.2 s)
events: 2 accepted = 2 delivered + 0 exhausted + 0 undelivered
deliveries: 1 opened = 1 delivered + 0 exhausted + 0 undelivered
THE TOTALS DO NOT BALANCE: that is a bug of hookd; keep this report and say so.
Nothing was left undelivered.
report: reports/shutdown-20261121T183500Z-run1.jsonl
"""
