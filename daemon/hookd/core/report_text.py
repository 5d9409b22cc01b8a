"""Owns the report as a person reads it: on stderr, in the termination log, and from `hookd report`.

Rules: the most important line comes first. The summary takes TEXT_LINES_MAX lines of TEXT_COLUMNS_MAX columns at most.
Only paths and commands may be longer: a command that is cut cannot be pasted.
Does not: write anything; flow/final_report does.
"""

import shlex

from hookd.core.bind import URL_DEFAULT
from hookd.core.loss import largest
from hookd.core.plurals import counted
from hookd.core.printable import printable
from hookd.core.report import CRASH, DeliveryCounts, EventCounts, Recorded, Summary
from hookd.core.timestamps import parse_rfc3339
from hookd.core.units import format_duration

TEXT_LINES_MAX = 25
TEXT_COLUMNS_MAX = 100


def text(summary: Summary, *, path: str | None, url: str = URL_DEFAULT, is_claimed: bool = False) -> str:
    """The summary for someone woken by it: at most 25 lines of 100 columns, most important first.

    `url` is where a daemon will be that the undelivered are sent to. One that is claimed has no command that sends it.
    """
    lost, deliveries = summary.undelivered, summary.deliveries
    rows = [
        f"hookd {summary.version} run {summary.run_id} {_ending(summary)}",
        _sum("events", "accepted", summary.events.accepted, summary.events),
        _sum("deliveries", "opened", deliveries.opened, deliveries),
    ]
    if isinstance(summary.recorder, Recorded) and not summary.recorder.is_whole:
        rows.append(_text_not_whole(summary.recorder))
    elif not summary.balanced:
        rows.append("THE TOTALS DO NOT BALANCE: that is a bug of hookd; keep this report and say so.")
    if isinstance(summary.recorder_failure, str):
        rows.append(f"The flight recorder failed, and the run went on without it: {summary.recorder_failure}")
    if not deliveries.undelivered:
        rows.append("Nothing was left undelivered.")
        if summary.exhausted_held:
            rows.append(f"Given up earlier (exhausted), and listed in the report: {summary.exhausted_held:,}.")
    else:
        rows += [
            f"UNDELIVERED: {counted(deliveries.undelivered, 'delivery')}",
            f"  never_attempted  {lost.never_attempted:>9,}  no attempt began: safe to send again",
            f"  attempted_failed {lost.attempted_failed:>9,}  refused or not sent: safe to send again",
            f"  outcome_unknown  {lost.outcome_unknown:>9,}  sent, no answer read: the client may have it;",
            "                              sending again may duplicate, under the same webhook-id",
        ]
        rows += _text_clients(summary)
    if path is not None:
        rows.append(f"report: {path}")
    if deliveries.undelivered and not is_claimed:
        rows += _text_sending(summary, path, url)
    assert len(rows) <= TEXT_LINES_MAX
    return "".join(f"{_clip(row)}\n" for row in rows)


def _text_sending(summary: Summary, path: str | None, url: str) -> list[str]:
    """Whether it will be sent, and by which command."""
    if summary.payloads is False:
        return [
            "Nothing will be sent, and it holds no payloads: post these events again from your own records,",
            "under the same ids.",
        ]
    if path is None:
        return []
    when = "Nothing will be sent until someone does; once a daemon runs again:"
    if summary.recovery is True:
        when = "Recovery is on: a start sends these again, once. By hand, once a daemon runs:"
    elsewhere = "" if url == URL_DEFAULT else f" --url {shlex.quote(url)}"
    return [when, f"  hookd resend {shlex.quote(path)}{elsewhere}"]


def text_not_written(why: str, summary: Summary | None, *, is_recorded: bool) -> str:
    """For someone woken by a report that has no file: what is left of it, and what to do before that is gone, too."""
    rows = [f"THE REPORT COULD NOT BE WRITTEN: {why}"]
    if summary is not None and not summary.deliveries.undelivered:
        rows += ["Nothing was left undelivered, so nothing has to be done about this run."]
    elif is_recorded:
        rows += [
            "There is no such file, but the flight recorder is kept, in memory: give the report directory room",
            "and start hookd again on this host, with the same settings. The crash report that it makes then",
            "names every undelivered event. A reboot, or the end of this container or pod, loses the recorder.",
        ]
    else:
        rows += [
            "There is no such file, and the flight recorder is off: the summary is all there is. Post again",
            "what your own records do not show as settled, under the same ids.",
        ]
    return "".join(f"{_clip(row)}\n" for row in rows)


def text_without_payloads(why: str) -> str:
    """Before the summary of a report that found room for no more."""
    rows = [
        f"THE REPORT HAS NO PAYLOADS: {why}",
        "There was room for ids alone. This holds, and not the text before it:",
    ]
    return "".join(f"{_clip(row)}\n" for row in rows)


def _ending(summary: Summary) -> str:
    if summary.trigger == CRASH:
        return f"crashed or was killed; last heard of {summary.stopped_at}"
    how = f"{summary.trigger}{', forced' if summary.forced else ''}"
    return f"stopped {summary.stopped_at} ({how}, drained {summary.drain_seconds:g} s)"


def _text_not_whole(recorded: Recorded) -> str:
    if recorded.broken_off is True:
        return "THE RECORDER FAILED BEFORE THE RUN ENDED: what came or settled after that is not known here."
    return (
        f"THE RECORDER IS NOT WHOLE: {counted(recorded.unread_bytes, 'byte')} unread, "
        f"{counted(recorded.records_missing, 'record')} missing, "
        f"{counted(recorded.events_unrecorded, 'event')} unrecorded"
    )


def _sum(what: str, came_in: str, total: int, counts: EventCounts | DeliveryCounts) -> str:
    parts = f"{counts.delivered:,} delivered + {counts.exhausted:,} exhausted + {counts.undelivered:,} undelivered"
    return f"{what}: {total:,} {came_in} = {parts}"


def _text_clients(summary: Summary) -> list[str]:
    """The endpoints owed most, as many as leave room for the rest."""
    shown, more_endpoints, more_deliveries = largest(summary)
    stopped = parse_rfc3339(summary.stopped_at)
    rows = ["  owed (deliveries, oldest, to client/endpoint, why):"]
    for line in shown:
        age = format_duration(max(0, round(stopped - parse_rfc3339(line.oldest_accepted_at))))
        why = line.last_error or "not attempted, or no failure yet"
        rows.append(f"    {line.undelivered:,}  {age}  {line.client_id}/{line.endpoint_id}  {why}")
    if more_endpoints:
        more = f"{counted(more_endpoints, 'more endpoint')} with {counted(more_deliveries, 'delivery')}"
        rows.append(f"    and {more}, all in the report")
    return rows


def _clip(row: str) -> str:
    """Paths are never cut: a command that cannot be pasted is worse than a long line. Errors may hold anything."""
    row = printable(row)
    if len(row) <= TEXT_COLUMNS_MAX or row.startswith(("report: ", "  hookd ")):
        return row
    return row[: TEXT_COLUMNS_MAX - 1] + "…"
