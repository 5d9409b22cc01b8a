"""Owns the sums over the settings, for people who size a machine: memory, the recorder and the span of the retries.

Rules:
 1. `worst_case_bytes` is a promise: with every budget full at once the process takes no more, and a container that has
    so much is not killed. tests/benchmarks/memory_promise.py fills each budget in each shape and compares.
 2. What is charged to a budget where it is held (core/budget, core/retention, core/registry) is that budget.
    Only what no budget counts is estimated here: each estimate once, with what was measured.
It judges nothing (core/settings_checks).
"""

from hookd.core.budget import DELIVERY_BYTES
from hookd.core.column import OPERATIONS_BYTES
from hookd.core.notices import NOTICE_BYTES
from hookd.core.registry import clients_bytes_max
from hookd.core.retention import rows_bytes_max
from hookd.core.segment_layout import SegmentLayout, layout
from hookd.core.settings import Settings
from hookd.core.signature import SIGNING_KEYS_MAX
from hookd.core.trace_context import TRACEPARENT_BYTES
from hookd.core.watch import WATCH_BYTES, WATCHES_MAX

_KIB, _MIB = 2**10, 2**20

# Two of the parts, by name.
PROGRAM, RECORDER = "the program", "flight recorder (shared memory)"
PROGRAM_BYTES = 64 * _MIB  # the interpreter, the libraries and our code at rest: 57 to 60 measured
SETTLEMENT_BYTES = 140  # both ids at their longest; 58 with ids of 36 and 10 characters
API_CONNECTION_BYTES = 96 * _KIB  # 13 KiB at rest; an unfinished head; what came behind a request at work
BODY_COPIES = 2  # of one body at a time: its items, and their payloads before the ledger has them
ANSWER_BYTES = 2 * 2**20  # a page of 1 MiB while it is put together
SHORT_ANSWER_BYTES = 32 * _KIB  # what a connection's answer may take uncounted
# What finds an unsettled event, in its client's book and in the recorder, besides what the budget counts for it: 9 and
# 8 B with 100,000 events of one client, 25 and 14 with ten each of 10,000 clients. Where all were replayed the book has
# a dict of them, of 30 to 105 B each; rows that have each a length of their own take 56. The book of a client with one
# event takes 130 by itself.
UNSETTLED_INDEX_BYTES, RECORDER_INDEX_BYTES, CLIENT_INDEX_BYTES = 105, 60, 160
# What they take at most over the 512 B that the budget counts for each (contract section 4): ids and types as long as
# they may be, ten attempts each, and a retry's place in the lane. A trace, where each event has its own, is as long.
EVENT_OVER_BYTES, DELIVERY_OVER_BYTES = 288 + TRACEPARENT_BYTES, 128
LOOK_UP_THREADS_BYTES = 8 * 2**20  # 256 of 32 KiB; 22 measured
# An attempt in flight: its task, the head that is sent, TLS (27 KiB of it measured), an answer's head of usual length.
FLIGHT_BYTES = 48 * _KIB
LONG_HEADS_MAX, LONG_HEAD_BYTES = 256, 160 * _KIB  # edge/egress/long_heads.py: of up to 64 KiB, and their fields
LOG_BYTES = 9 * _MIB
SIGNING_KEY_BYTES = 700  # two digests that have begun, and the secret: 680 measured
# One with certifi's authorities takes 671 KiB. Of 16 KiB more in PEM, and of a chain, 130 each.
TLS_CONTEXT_BYTES = _MIB
CA_BYTES_A_CHARACTER = 8  # of egress.ca_file, in each context
# Of a report: a line without its payload (ids, a URL of 60 characters, times, an outcome), and what a payload with line
# breaks takes, which stands there twice, once in base64.
REPORT_LINE_BYTES, REPORT_PAYLOAD_FACTOR = 512, 7 / 3
# What all requests to an endpoint have in common: 1.0 to 1.5 KiB of a usual one, for two of three clients by default.
PREPARED_CLIENT_BYTES, PREPARED_CLIENTS_LEAST = _KIB, 100


def worst_case_bytes(settings: Settings) -> dict[str, int]:
    """What each bounded part can take if everything is full at once. The sum is what a container needs."""
    intake, retention, delivery = settings.intake, settings.retention, settings.delivery
    return {
        PROGRAM: PROGRAM_BYTES,
        "unsettled events": intake.unsettled_bytes_max,
        "unsettled events over their charge": _over_charge_bytes(settings),
        "indexes of unsettled events": _index_bytes(settings),
        "bodies being received": intake.receiving_bytes_max + BODY_COPIES * intake.body_bytes_max,
        "answers not yet taken": settings.http.sending_bytes_max
        + ANSWER_BYTES
        + settings.http.connections_max * SHORT_ANSWER_BYTES,
        "connections of the API": settings.http.connections_max * API_CONNECTION_BYTES,
        "payloads of delivered events": retention.delivered_bytes_max,
        "payloads of exhausted events": retention.exhausted_bytes_max,
        "rows of settled events": rows_bytes_max(retention.delivered_events_max)
        + rows_bytes_max(retention.exhausted_events_max),
        "response excerpts": retention.excerpts_bytes_max,
        "settlement feed": retention.settlements_max * SETTLEMENT_BYTES,
        "notices": settings.retention.notices_max * NOTICE_BYTES + WATCHES_MAX * WATCH_BYTES,
        "operational events": OPERATIONS_BYTES if settings.operations.client else 0,
        "attempts in flight": delivery.connections_max * FLIGHT_BYTES
        + min(delivery.connections_max, LONG_HEADS_MAX) * LONG_HEAD_BYTES,
        "responses being read": delivery.connections_max * delivery.response_bytes_max,
        "threads of look-ups": LOOK_UP_THREADS_BYTES,
        "registered clients": clients_bytes_max(settings.registry.clients_max)
        + sum(client.held_bytes for client in settings.clients),
        "requests prepared for endpoints": prepared_bytes_max(settings),
        "signing keys": SIGNING_KEYS_MAX * SIGNING_KEY_BYTES,
        "TLS contexts of endpoints": _tls_bytes(settings),
        "log lines not yet written": LOG_BYTES,
        RECORDER: settings.recorder.bytes_max if settings.recorder.directory else 0,
    }


def prepared_bytes_max(settings: Settings) -> int:
    """Of what requests have in common; where few clients may be registered, they may have several endpoints each."""
    return max(settings.registry.clients_max, PREPARED_CLIENTS_LEAST) * PREPARED_CLIENT_BYTES


def _tls_bytes(settings: Settings) -> int:
    """Beside the one of endpoints without anything of their own: theirs, and that of `[egress]`."""
    egress = settings.egress
    ca = "" if egress.shared is None else egress.shared.ca
    return (egress.tls_contexts_max + 1) * (TLS_CONTEXT_BYTES + CA_BYTES_A_CHARACTER * len(ca))


def container_mib(settings: Settings) -> int:
    """The one number: what to give a container, so that no load kills it. Upward to whole MiB."""
    return -(-sum(worst_case_bytes(settings).values()) // _MIB)


def report_bytes_max(settings: Settings) -> int:
    """Of one shutdown report with every budget full: what is unsettled, and what was given up and is held."""
    intake, retention = settings.intake, settings.retention
    payloads = intake.unsettled_bytes_max + retention.exhausted_bytes_max if settings.drain.report_payloads else 0
    lines = intake.unsettled_bytes_max // DELIVERY_BYTES + retention.exhausted_events_max
    return int(payloads * REPORT_PAYLOAD_FACTOR) + lines * REPORT_LINE_BYTES


def _over_charge_bytes(settings: Settings) -> int:
    """No more deliveries than the budget has room for, nor than that many events can have."""
    intake = settings.intake
    deliveries = min(
        intake.unsettled_bytes_max // DELIVERY_BYTES, intake.unsettled_events_max * settings.registry.endpoints_max
    )
    return intake.unsettled_events_max * EVENT_OVER_BYTES + deliveries * DELIVERY_OVER_BYTES


def _index_bytes(settings: Settings) -> int:
    """The client's index of its unsettled events, and the recorder's two where it is on."""
    is_recorded = bool(settings.recorder.directory)
    event_bytes = UNSETTLED_INDEX_BYTES + RECORDER_INDEX_BYTES * is_recorded
    clients = min(settings.registry.clients_max, settings.intake.unsettled_events_max)
    return settings.intake.unsettled_events_max * event_bytes + clients * CLIENT_INDEX_BYTES * (1 + is_recorded)


def horizon_seconds(schedule_seconds: tuple[float, ...], jitter: float) -> tuple[float, float]:
    """Earliest and latest sum of the delays: when the last attempt begins, were each answered at once."""
    total = sum(schedule_seconds)
    return total * (1 - jitter), total * (1 + jitter)


def recorder_layout(settings: Settings) -> SegmentLayout:
    payload_bytes_max = settings.intake.payload_bytes_max if settings.recorder.payloads else 0
    endpoints_max = settings.registry.endpoints_max
    return layout(settings.recorder.bytes_max, payload_bytes_max=payload_bytes_max, endpoints_max=endpoints_max)
