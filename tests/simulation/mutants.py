"""Seeded bugs: each is one fragment of the daemon's source replaced, to be caught within `seeds` seeds from `first`.

A fragment that is not there exactly once is an error: a mutant cannot die out unnoticed. Fix the row, not the daemon.
One that survives is a hole in the checks.
"""

import contextlib
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from hookd.core import (
    budget,
    crash,
    guard,
    guarded_recorder,
    health,
    ledger,
    rate,
    record_reader,
    recorder,
    recording,
    report,
    retry,
    watch,
)
from hookd.core.abandonment import Abandonment
from hookd.core.client import Endpoint
from hookd.core.delivery import Delivery
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.terms import Terms
from hookd.edge import logs, reports
from hookd.edge.api import health_checks
from hookd.edge.egress import addresses, connection, finishing, happy_eyeballs, pool, sender, transport, wire
from hookd.flow import (
    adoption,
    attempt,
    cancel,
    courier,
    declaration,
    dispatch,
    drain,
    endings,
    endpoint_states,
    feed,
    final_report,
    housekeeping,
    intake,
    lane,
    line,
    operational_events,
    recovery,
    redelivery,
    registration,
    reopening,
    replay,
    resend,
    timer,
)
from hookd.process import crash_reports, reloading, supervisor


class Mutant(NamedTuple):
    name: str
    owner: Any  # a class or a module
    function: str
    old: str
    new: str
    seeds: int = 20
    first: int = 0  # where to begin: the suite need not run long for what is rare


# What is said so late: a recorder that gathers what it writes.
LATER = """
        trio = __import__("trio")
        async def later():
            await trio.sleep(0.02)
            %s
        trio.lowlevel.spawn_system_task(later)
"""

# A longer schedule gives more attempts to what waits, for good.
ADDS_UP = """for endpoint in client.endpoints if old is not None else ():
        for _, waiting in self._ledger.waiting(client.id, endpoint.id):
            waiting.attempts_before += len(endpoint.schedule_seconds or ())
    """

# What finds no room is refused, and sent again.
DONE_ALL_THE_SAME = """try:
        self._refuse_if_no_room(event, later, now)
    except Exception:
        for delivery in settled:
            self._ledger.reopen(event, delivery, now=now)
            self._dispatch.add(event, delivery, expedited=expedited)
        raise"""

# A row comes back as one that does not expire.
READ_WITHOUT_EXPIRY = """record = reader(body)
        if isinstance(record, Row):
            fields = {name: getattr(record.event, name) for name in Event.__struct_fields__}
            return Row(record.cause, record.was, Event(**fields))
        return record"""

MUTANTS = (
    Mutant(
        "settle_skipped",
        ledger.Ledger,
        "end_attempt",
        "self._move(event, delivery, _SUCCEEDED, now=now)",
        "delivery.due_at = now.monotonic + 1",
    ),
    Mutant("one_attempt_more", Terms, "is_used_up", "delivery.attempt_count >=", "delivery.attempt_count >"),
    Mutant("one_attempt_less", Terms, "is_used_up", "delivery.attempt_count >=", "delivery.attempt_count + 1 >="),
    Mutant("wake_up_lost", courier.Courier, "add", "self._look(lane)", "pass"),
    Mutant("moment_not_waited_for", courier.Courier, "_go_on", "self._keeper.look_at(self, begins_from)", "pass"),
    Mutant("sooner_look_lost", timer.Timer, "look_at", "at >= self._next.get(one, math.inf)", "one in self._next"),
    Mutant("look_forgets_the_next", timer.Timer, "_look", "self.look_at(one, one.look(until))", "one.look(until)"),
    Mutant(
        "slot_leaked",
        courier.Courier,
        "_end_flight",
        "flight.lane.in_flight -= 1",
        "flight.lane.in_flight -= flight.lane.health.consecutive_failures != 3",
    ),
    Mutant(
        "lanes_keep_the_old_endpoint",
        courier.Courier,
        "take_client",
        "lane.take_endpoint(None if client is None else client.endpoint(lane.endpoint_id))",
        "pass",
        seeds=60,
        first=5,
    ),
    Mutant(
        "left_over_bytes_taken",
        connection.Connection,
        "is_quiet",
        "return not self._network_stream.has_input()",
        "return self._network_stream.has_input() or True",
        first=45,
    ),
    Mutant(
        "report_cut_short",
        report,
        "lines",
        "in undelivered(ledger):",
        "in list(undelivered(ledger))[:-1]:",
        first=3,
    ),
    Mutant("budget_kept", budget.Budget, "leave", "(self.whole.held, client.held)", "(client.held,)"),
    Mutant(
        "client_budget_kept", budget.Budget, "leave", "(self.whole.held, client.held)", "(self.whole.held,)", first=32
    ),
    Mutant(
        "budget_exceeded",
        budget.Budget,
        "_refuse_if_whole_full",
        "whole.events - intake.unsettled_events_max",
        "whole.events - 10**9",
        seeds=60,
        first=305,
    ),
    Mutant(
        "retry_after_ignored",
        health.Health,
        "note",
        "self._hold_back(now.monotonic, min(wait_seconds, RETRY_AFTER_SECONDS_MAX))",
        "pass",
        seeds=40,
    ),
    Mutant(
        "paused_never_probed",
        health.Health,
        "begins_from",
        "return max(self.next_probe_at, self.not_before)",
        "return math.inf",
        first=116,
    ),
    Mutant(
        "probes_without_end",
        health.Health,
        "begins_from",
        "return max(self.next_probe_at, self.not_before)",
        "return due_at",
        seeds=60,
        first=90,
    ),
    Mutant(
        "expired_kept",
        housekeeping.Housekeeping,
        "_has_expired",
        "one.is_waiting and has_expired(event, one, now=now)",
        "False",
        first=116,
    ),
    Mutant("retried_at_once", retry, "verdict", "return Retry(delay)", "return Retry(0.0)"),
    Mutant(
        "another_id_on_retry",
        attempt.Attempter,
        "_post",
        '("webhook-id", event_id)',
        '("webhook-id", event_id + "x" * (attempt_number > 1))',
    ),
    Mutant(
        "signed_with_the_oldest_secret",
        Endpoint,
        "secrets",
        "return (self.secret, *(old.secret for old in self.old_secrets if now < old.until))",
        "return (self.secret, *(old.secret for old in self.old_secrets if now < old.until))[-1:]",
        seeds=40,
        first=5,
    ),
    Mutant("timestamp_late", attempt.Attempter, "_post", "timestamp = int(now.wall)", "timestamp = int(now.wall) - 3"),
    Mutant("window_ignored", health.Health, "room", "self.window if self.window < concurrency else", "1000 or"),
    Mutant("gone_goes_on", health.Health, "disable", "self.disabled, self.since = True, now", "pass", first=19),
    Mutant("pause_ignored", health.Health, "pause", "self.paused_by = PausedBy.OPERATOR", "pass", seeds=40, first=5),
    Mutant("drain_does_not_wait", drain, "_settle", "await pacer.wait_idle()", "return", seeds=40, first=4),
    Mutant(
        "drain_without_end",
        supervisor,
        "drain",
        "trio.move_on_at(deadline)",
        "trio.move_on_at(deadline + 60)",
        seeds=60,
        first=18,
    ),
    Mutant("admitted_after_the_stop", intake.Intake, "close", "if self._ends_at is None:", "if False:", first=18),
    Mutant(
        "maybe_received_forgotten",
        Delivery,
        "end_attempt",
        "if exchange.sending_started and (exchange.answer is None or exchange.unanswered_before):",
        "if False:",
        seeds=40,
        first=13,
    ),
    Mutant(
        "removed_go_on_waiting",
        endings.Endings,
        "_applies",
        "return delivery.abandoned_as is cause.reason and not delivery.in_flight and not delivery.is_settled",
        "return False",
        seeds=60,
    ),
    # What is granted: attempts, ages, secrets
    Mutant("pause_counted_at_resume", health.Health, "_lift", "self.age_from = now", "pass", first=8),
    Mutant(
        "pause_counted_for_what_was_in_flight",
        health.Health,
        "age_of",
        "0.0 if self.paused_by is _OPERATOR else",
        "",
        seeds=40,
        first=95,
    ),
    Mutant(
        "throttled_time_counted",
        health.Health,
        "_hold_back",
        "self.age_from = max(self.age_from, self.not_before)",
        "pass",
        first=3,
    ),
    Mutant("hold_not_lifted_by_resume", health.Health, "resume", "self._lift(now)", "pass", first=8),
    Mutant("hold_not_lifted_by_another_url", health.Health, "start_anew", "self._lift(now)", "pass", first=102),
    Mutant(
        "hold_longer_than_an_hour",
        health.Health,
        "note",
        "min(wait_seconds, RETRY_AFTER_SECONDS_MAX)",
        "wait_seconds",
        first=32,
    ),
    Mutant(
        "attempt_promised_after_the_expiry",
        Terms,
        "begins_at",
        "is_too_late = expires_at is not None and begins_from >= expires_at",
        "is_too_late = False",
        first=8,
    ),
    Mutant(
        "schedule_change_adds_up",
        registration.Registration,
        "follow",
        "if old is not None:",
        ADDS_UP + "if old is not None:",
        first=8,
    ),
    Mutant(
        "schedule_of_a_reload_ignored",
        reloading.Reloading,
        "_take",
        "old, self._effective.settings = self._effective.settings, settings",
        "old = self._effective.settings\n"
        "    self._effective.settings = settings = msgspec.structs.replace(settings, retry=old.retry)",
        first=14,
    ),
    Mutant(
        "old_secret_forgotten_at_put",
        registration.Registration,
        "with_old_secrets",
        "endpoint = self._with_secret(endpoint, before=before, secret=secret)",
        "endpoint = msgspec.structs.replace(endpoint, secret=secret)",
        first=5,
    ),
    # What is told
    Mutant(
        "disabled_never_told",
        endpoint_states.EndpointStates,
        "tell",
        "if told != health.told:",
        "if told != health.told and told[0] is not State.DISABLED:",
        first=19,
    ),
    Mutant(
        "disabled_told_twice",
        endpoint_states.EndpointStates,
        "tell",
        "health.told = told",
        "health.told = told if state is not State.DISABLED else None",
        first=19,
    ),
    Mutant(
        "given_up_as_gone_never_told",
        ledger.Ledger,
        "give_up",
        "if self._on_given_up is not None:",
        "if reason is not Reason.GONE:",
        first=19,
    ),
    Mutant(
        "given_up_told_twice",
        ledger.Ledger,
        "give_up",
        "self._on_given_up(event, delivery)",
        "(self._on_given_up(event, delivery), self._on_given_up(event, delivery))",
    ),
    Mutant(
        "given_up_counted_twice",
        ledger.Ledger,
        "give_up",
        "counters.given_up[reason] += 1",
        "counters.given_up[reason] += 2",
        first=8,
    ),
    # Strange answers, and links
    Mutant(
        "request_sent_unset_on_a_reconnect",
        transport.Transport,
        "exchange",
        "progress.reconnected = True",
        "progress.reconnected = True; progress.request_sent = False",
    ),
    Mutant(
        "sent_in_vain_and_called_safe",
        transport.Transport,
        "_is_answered",
        "progress.unanswered_before = True",
        "pass",
        first=26,
    ),
    Mutant(
        "blemished_refused",
        wire.ResponseReader,
        "_read_head",
        "status_code = self._read_blemished(head)",
        'raise httpx.RemoteProtocolError("not HTTP/1.1")',
        first=8,
    ),
    Mutant(
        "unclean_link_used_again",
        connection.Connection,
        "is_reusable_after",
        "response.leaves_connection_clean",
        "response.is_complete",
        first=1,
    ),
    Mutant(
        "204_with_chunks_used_again",
        wire.ResponseReader,
        "_read_head",
        "if status_code in (204, 304) and self._announces_a_body():",
        "if False:",
    ),
    Mutant(
        "line_ends_before_a_head", wire.ResponseReader, "_skip_line_ends", r'data.lstrip(b"\r\n")', "data", first=572
    ),
    Mutant(
        "settled_with_the_body",
        sender.HttpSender,
        "send",
        "self._transport.finish(stream)",
        "await _read_excerpt(stream, exchange)",
        first=71,
    ),
    Mutant("body_without_end", finishing.Finisher, "_read_rest", "BODY_SECONDS_MAX)", "60)", first=8),
    Mutant(
        "early_answer_lost",
        connection.Connection,
        "_send",
        "self._send_failure = error",
        "self.close(); self._send_failure = error",
        first=206,
    ),
    Mutant(
        "408_taken_as_the_answer",
        transport.Transport,
        "_is_answered",
        "if response.status_code == REQUEST_TIMEOUT:",
        "if False:",
        first=25,
    ),
    Mutant("reconnected_unsaid", transport.Transport, "exchange", "progress.reconnected = True", "pass", first=26),
    Mutant("link_of_any_age", pool.Pool, "_is_old", ">= self.age_seconds_max", ">= 1e9", first=38),
    Mutant(
        "second_address_late",
        happy_eyeballs._Race,
        "run",
        "trio.move_on_after(STAGGER_SECONDS)",
        "trio.move_on_after(60)",
        first=1,
    ),
    Mutant("any_address", addresses.AddressPolicy, "judge", "return address", "continue", first=19),
    Mutant("known_id_new_payload", intake.Intake, "_plan", "known.type != submission.type or", "False and", seeds=60),
    # The recorder, and what a start makes of it
    Mutant(
        "record_skipped",
        recorder.SegmentRecorder,
        "admitted",
        "self._note_row(event, ",
        "(lambda *_: None)(event, ",
        first=7,
    ),
    Mutant(
        "record_after_the_202",
        ledger.Ledger,
        "open",
        "column.recorder.admitted(event, recovered=recovered)",
        LATER % "column.recorder.admitted(event, recovered=recovered)",
        first=8,
    ),
    Mutant(
        "begun_not_recorded",
        recorder.SegmentRecorder,
        "begun",
        "self._put(begun_record(self._sequence + 1, event, delivery))",
        "pass",
        first=16,
    ),
    Mutant(
        "settled_not_recorded",
        recorder.SegmentRecorder,
        "settled",
        "self._put(settled_record(self._sequence + 1, event, delivery, then))",
        "pass",
        first=7,
    ),
    Mutant(
        "recorder_takes_what_has_no_room",
        recorder.SegmentRecorder,
        "refuse_if_full",
        "if self._rows_bytes + row_bytes > self._rows_bytes_max and not self._has_room(row_bytes):",
        "if False:",
        first=16,
    ),
    Mutant(
        "segment_dropped_with_what_is_unsettled",
        recorder.SegmentRecorder,
        "_drop_settled",
        "while not self._log[0].unsettled and len(self._log) > 1:",
        "while self._log[0].unsettled < 2 and len(self._log) > 1:",
        first=63,
    ),
    Mutant(
        "payload_recorded",
        recorder.SegmentRecorder,
        "_note_row",
        "event.payload if self._identity.payloads else None",
        "event.payload",
        first=8,
    ),
    Mutant("recorder_not_discarded", final_report.FinalReport, "_end", "self._recorder.discard()", "pass"),
    Mutant("torn_record_believed", recording, "read_framed", "or crc32(tail, length) != checksum", "", first=60),
    Mutant(
        "in_flight_at_the_crash_forgotten",
        recording.Recording,
        "take_segments",
        "delivery.maybe_received |= delivery.in_flight",
        "pass",
        first=16,
    ),
    Mutant(
        "recorder_removed_without_report",
        crash_reports,
        "write_crash_reports",
        "if made is None:",
        "if False:",
        first=29,
    ),
    Mutant("marker_kept", crash_reports, "write_crash_reports", "reports.close_run(run_id)", "pass", first=3),
    Mutant(
        "owed_report_pruned",
        reports.ReportDirectory,
        "prune",
        "if not claims and self._is_owed(path):",
        "if False:",
        first=26,
    ),
    # Recovery
    Mutant(
        "claimed_report_taken_twice",
        reports.ReportDirectory,
        "unclaimed",
        "if path.name not in claimed",
        "if True",
        first=3,
    ),
    Mutant(
        "report_not_claimed",
        recovery.Recovery,
        "_claim",
        "await self._with_files(self._reports.claim, report.path, self._run_id)",
        "pass",
        first=3,
    ),
    Mutant(
        "claimed_without_payloads",
        recovery.Recovery,
        "_claim",
        "if answers[Answer.NO_PAYLOAD] and not answers[Answer.ADMITTED]:",
        "if False:",
        first=25,
    ),
    Mutant("recovered_as_new", resend.Resend, "_admit", "recovered=True", "recovered=False", first=3),
    Mutant(
        "attempts_counted_anew",
        resend.Resend,
        "_delivery",
        "delivery.attempt_count = line.attempt_count",
        "pass",
        first=3,
    ),
    Mutant(
        "maybe_received_not_recovered",
        resend.Resend,
        "_delivery",
        "delivery.maybe_received = line.may_have_been_received",
        "pass",
        first=32,
    ),
    Mutant(
        "client_s_put_wakes_nothing",
        adoption.Adoption,
        "_take_some",
        "self._dispatch.add(event, delivery)",
        "pass",
        first=3,
    ),
    Mutant(
        "crashes_in_a_row_ignored",
        recovery,
        "is_crashing_in_a_row",
        "len(last) == CRASHES_IN_A_ROW",
        "False",
        seeds=60,
        first=61,
    ),
    Mutant(
        "suspected_of_crashes_and_attempted",
        resend.Resend,
        "_reason_to_give_up",
        "delivery.crash_count >= CRASHES_MAX",
        "False",
        seeds=20,
        first=255,
    ),
    # Ports that raise
    Mutant(
        "failed_recorder_told_more",
        guarded_recorder.GuardedRecorder,
        "_fail",
        "self._recorder = NOTHING_RECORDED",
        "pass",
        first=25,
    ),
    Mutant(
        "failed_recorder_not_broken_off",
        guarded_recorder.GuardedRecorder,
        "_fail",
        "self._begun.break_off()",
        "pass",
        first=25,
    ),
    Mutant("failed_recorder_believed", recording.Recording, "take_segments", "or self.is_broken_off", "", first=50),
    Mutant(
        "broken_off_unsaid",
        crash,
        "summarise",
        "broken_off=recording.is_broken_off or msgspec.UNSET",
        "broken_off=msgspec.UNSET",
        first=25,
    ),
    Mutant(
        "recorder_failure_unsaid_in_the_report",
        report,
        "summarise",
        "recorder_failure=ledger.recorder.failure or msgspec.UNSET",
        "recorder_failure=msgspec.UNSET",
        first=26,
    ),
    Mutant(
        "recorder_failure_unsaid_at_readyz",
        health_checks,
        "_readiness",
        'Check("recorder", services.ledger.recorder.failure)',
        'Check("recorder", None)',
        first=25,
    ),
    Mutant(
        "step_torn_by_a_feed_that_raises",
        ledger.Ledger,
        "_settled",
        "column.on_settled(event)",
        'failures = self.port_failures["feed"]; column.on_settled(event)'
        '\n    if self.port_failures["feed"] > failures: return',
        first=249,
    ),
    Mutant("feed_goes_on_without_a_gap", feed.Feed, "note", "self.ring.lose()", "pass", first=26),
    Mutant("port_failure_not_counted", guard.Guard, "note", "self.failures[port] += 1", "pass", first=26),
    Mutant(
        "crash_of_the_flow_ends_in_0", supervisor.Supervisor, "_note_crash", "self._crashed = True", "pass", first=185
    ),
    # What an endpoint asks for itself
    Mutant("rate_not_counted", lane.Lane, "note_begin", "self.health.rate_log.note(self._rate, now)", "pass", first=2),
    Mutant("rate_kept_with_one_more", rate.RateLog, "begins_from", "self._fit(rate.burst)", "self._fit(2)", first=8),
    Mutant("strict_order_in_parallel", courier.Courier, "_has_room", "lane.in_flight or self.", "self.", first=8),
    Mutant("strict_order_by_arrival", line.Line, "add", "(event.sequence, ", "(0, ", first=8),
    Mutant(
        "crash_report_in_the_order_of_the_records",
        recording.Recording,
        "take_segments",
        "dict(sorted(self.events.items()))",
        "self.events",
        first=79,
    ),
    Mutant(
        "report_in_the_order_of_reopening",
        report,
        "undelivered",
        'sorted(ledger.unsettled, key=attrgetter("sequence"))',
        "ledger.unsettled",
        first=187,
    ),
    Mutant(
        "give_up_on_ignored",
        attempt.Attempter,
        "_verdict",
        "is_refusal=isinstance(outcome, Responded) and lane.endpoint.gives_up_on(outcome.status_code)",
        "is_refusal=False",
        first=71,
    ),
    Mutant(
        "gives_up_on_any", Endpoint, "gives_up_on", "status_code in self.give_up_on", "bool(self.give_up_on)", first=53
    ),
    # Traces
    Mutant(
        "trace_lost_by_a_report",
        resend.Resend,
        "_admit",
        "traceparent_from(line.traceparent)",
        "None",
        first=67,
    ),
    Mutant("trace_lost_by_the_recorder", recorder, "row_record", "= event.traceparent", "= None", first=67),
    Mutant(
        "trace_sent_to_all",
        attempt.Attempter,
        "_post",
        "if endpoint.trace_context and traceparent is not None:",
        "if traceparent is not None:",
        first=31,
    ),
    # The registry as the platform declares it
    Mutant("declaration_prunes_none", declaration.Declaration, "_undeclared", "if not prune:", "if True:", first=22),
    Mutant("declaration_prunes_all", declaration.Declaration, "_undeclared", "if not prune:", "if False:", first=85),
    Mutant(
        "declaration_not_followed",
        declaration.Declaration,
        "_follow_at_once",
        "self._registration.follow(change.before, change.after)",
        "pass",
        first=67,
    ),
    # Cancel, and an event's own expiry
    Mutant(
        "cancel_not_recorded", Abandonment, "cancel", "self._recorder.cancelled(event, delivery)", "pass", first=174
    ),
    Mutant(
        "cancelled_in_flight_is_retried",
        attempt.Attempter,
        "_verdict",
        "if lane.endpoint is None or abandoned_as is not None:",
        "if lane.endpoint is None:",
        first=13,
    ),
    Mutant(
        "cancel_forgets_what_flies", cancel.Cancel, "cancel", "self._ledger.cancel(event, delivery)", "pass", first=13
    ),
    Mutant(
        "cancelled_line_is_sent", resend.Resend, "_give_up_if_hopeless", "line.cancelled and", "False and", first=48
    ),
    Mutant(
        "expired_event_is_attempted",
        Terms,
        "has_expired",
        "return type(event) is ExpiringEvent and self.has_lapsed(event, delivery, now=now)",
        "return False",
        first=13,
    ),
    Mutant(
        "expiry_in_a_pause", Terms, "has_lapsed", " and not self._health_of(event, delivery).is_held", "", first=118
    ),
    Mutant("expiry_not_read_back", record_reader, "_read_body", "return reader(body)", READ_WITHOUT_EXPIRY, first=34),
    Mutant(
        "expiry_not_looked_at",
        housekeeping.Housekeeping,
        "_expire",
        " + self._ledger.expiries.lapsed(began)",
        "",
        first=118,
    ),
    # Sent again
    Mutant(
        "redelivered_is_not_recorded",
        recorder.SegmentRecorder,
        "reopened",
        "self._note_row(",
        "(lambda *_: None)(",
        first=8,
    ),
    Mutant(
        "redelivered_counts_as_reopened",
        recorder.SegmentRecorder,
        "reopened",
        "Cause.REDELIVERED if delivery_was is _DELIVERED else Cause.REOPENED",
        "Cause.REOPENED",
        first=14,
    ),
    Mutant("dry_replay_sends", replay.Replay, "_look", " and not dry_run", "", first=34),
    Mutant(
        "redelivered_is_not_sent",
        reopening.Reopening,
        "send_again",
        "self._dispatch.add(event, delivery, expedited=expedited)",
        "pass",
        first=55,
    ),
    Mutant(
        "redelivers_without_budget",
        reopening.Reopening,
        "send_again",
        "self._refuse_if_no_room(event, later, now)",
        "pass",
        first=64,
    ),
    Mutant(
        "replay_forgets_what_is_left",
        replay._Progress,
        "replayed",
        "self.without_payload, self.stopped_by)",
        "self.without_payload)",
        first=64,
    ),
    Mutant(
        "redelivery_refused_and_done",
        reopening.Reopening,
        "send_again",
        "self._refuse_if_no_room(event, later, now)",
        DONE_ALL_THE_SAME,
        first=64,
    ),
    Mutant(
        "kept_courier_knows_the_client_of_before",
        dispatch.Dispatch,
        "take_client",
        "self._kept.pop(client_id, None)",
        "pass",
    ),
    Mutant("redelivered_to_nobody", redelivery.Redelivery, "redeliver", "if not endpoint_ids:", "if False:", first=28),
    # Notices, and hookd's own events
    Mutant(
        "more_than_one_of_a_kind_a_minute",
        watch.Watch,
        "_may_tell",
        "+ NOTICE_EVERY_SECONDS",
        "+ 20.0",
        first=8,
    ),
    Mutant(
        "state_change_told_again",
        watch.EndpointWatch,
        "due",
        "self.told = state\n        found.append(_KINDS",
        "found.append(_KINDS",
    ),
    Mutant(
        "held_back_and_never_told",
        watch.EndpointWatch,
        "due",
        "if is_new and state != TOLD_OK and self._may_tell(",
        "self.told = state if state != TOLD_OK else self.told\n    if is_new and state != TOLD_OK and self._may_tell(",
    ),
    Mutant(
        "held_back_and_not_looked_at",
        watch.EndpointWatch,
        "_next_look",
        "look_at = self._next_opening(now)",
        "look_at = math.inf",
        first=12,
    ),
    Mutant("removed_endpoint_recovers", watch.EndpointWatch, "begin_anew", "self.told, ", "_, "),
    Mutant("given_up_told_again", watch.EndpointWatch, "take_given_up", "self.given_up = None", "pass"),
    Mutant(
        "notice_goes_to_whom_it_is_about",
        operational_events.OperationalEvents,
        "deliver",
        " or notice.client_id == client_id",
        "",
        first=13,
    ),
    Mutant(
        "notices_count_as_the_platforms",
        ledger.Ledger,
        "column_of",
        "self.operations if event.is_operational else self._platform",
        "self._platform",
        first=13,
    ),
    # Forward proxies
    Mutant(
        "endpoint_s_proxy_not_judged",
        transport.Transport,
        "_connect_through",
        "judge = AddressPolicy.judge if proxy.is_judged else AddressPolicy.own_among",
        "judge = AddressPolicy.own_among",
        first=127,
    ),
    Mutant(
        "operator_s_proxy_wins",
        EndpointEgress,
        "over",
        "shared.proxy if self.proxy is None else self.proxy",
        "shared.proxy or self.proxy",
        first=23,
    ),
    Mutant(
        "refusal_of_a_proxy_taken_as_the_answer",
        sender.HttpSender,
        "send",
        "response.status_code == PROXY_AUTHENTICATION_REQUIRED and post.is_absolute",
        "False",
        first=49,
    ),
    Mutant("log_raises", logs.LogWriter, "_put", "except Exception:", "except OSError:", first=25),
)


@contextlib.contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    original = getattr(mutant.owner, mutant.function)
    source = textwrap.dedent(inspect.getsource(original))
    assert source.count(mutant.old) == 1, f"{mutant.name}: {mutant.old!r} is {source.count(mutant.old)} times there"
    names: dict[str, Any] = {}
    exec(compile(source.replace(mutant.old, mutant.new), mutant.name, "exec"), original.__globals__, names)
    setattr(mutant.owner, mutant.function, names[mutant.function])
    try:
        yield
    finally:
        setattr(mutant.owner, mutant.function, original)
