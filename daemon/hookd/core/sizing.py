"""Owns the sums over the settings, for people who size a machine: memory, the recorder and the span of the retries.

The estimates of what one thing takes stand here once. It judges nothing (core/settings_checks).
"""

from hookd.core.segment_layout import SegmentLayout, layout
from hookd.core.settings import Settings

_KIB = 2**10

RETAINED_ROW_BYTES = 600  # a settled event with one delivery and its attempts, payload and excerpts apart
SETTLEMENT_BYTES = 140  # both ids at their longest; 58 with ids of 36 and 10 characters
API_CONNECTION_BYTES = 96 * _KIB  # 13 KiB at rest; an unfinished head; what came behind a request at work
BODY_COPIES = 2  # of one body at a time: its items, and their payloads before the ledger has them
ANSWER_BYTES = 2 * 2**20  # a page of 1 MiB while it is put together
SHORT_ANSWER_BYTES = 32 * _KIB  # what a connection's answer may take uncounted
# What finds an unsettled event, in its client's book and in the recorder, besides what the budget counts for it. 52 and
# 101 B with 100,000 events of one client, 29 and 106 with ten each of 10,000 clients. Dicts that events come into and
# leave all the time grow to twice that; those of a client with one event take 160 B by themselves.
UNSETTLED_INDEX_BYTES, RECORDER_INDEX_BYTES, CLIENT_INDEX_BYTES = 105, 180, 160
LOOK_UP_THREADS_BYTES = 8 * 2**20  # 256 of 32 KiB; 22 measured
REGISTERED_CLIENT_BYTES = 4 * _KIB  # one endpoint and a few headers, and its idle lane


def worst_case_bytes(settings: Settings) -> dict[str, int]:
    """What each bounded part can take if everything is full at once; the interpreter comes on top."""
    intake, retention, delivery = settings.intake, settings.retention, settings.delivery
    rows = retention.delivered_events_max + retention.exhausted_events_max
    return {
        "unsettled events": intake.unsettled_bytes_max,
        "indexes of unsettled events": _index_bytes(settings),
        "bodies being received": intake.receiving_bytes_max + BODY_COPIES * intake.body_bytes_max,
        "answers not yet taken": settings.http.sending_bytes_max
        + ANSWER_BYTES
        + settings.http.connections_max * SHORT_ANSWER_BYTES,
        "connections of the API": settings.http.connections_max * API_CONNECTION_BYTES,
        "payloads of delivered events": retention.delivered_bytes_max,
        "payloads of exhausted events": retention.exhausted_bytes_max,
        "rows of settled events": rows * RETAINED_ROW_BYTES,
        "response excerpts": retention.excerpts_bytes_max,
        "settlement feed": retention.settlements_max * SETTLEMENT_BYTES,
        "responses being read": delivery.connections_max * delivery.response_bytes_max,
        "threads of look-ups": LOOK_UP_THREADS_BYTES,
        "registered clients": settings.registry.clients_max * REGISTERED_CLIENT_BYTES,
        "flight recorder (shared memory)": settings.recorder.bytes_max if settings.recorder.directory else 0,
    }


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
