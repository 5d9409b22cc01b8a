"""What must have happened over many seeds, as tables: an empty cell that is meant to be reached is a hole in the plans.

An attempt comes to something by the fault that it met (`ATTEMPTS`), and a run ends in some way with some kind of
recorder (`ENDS`). What is not named is not meant to be reached; the reasons stand beside the tables. By chance it may
be all the same.
"""

from collections import Counter
from collections.abc import Iterator

from tests.simulation.ports import PORT_CALLS

Cells = Counter[tuple[str, str]]

# What may become of an attempt that failed. Only one that lasts (seconds, not the tick in which it began or the 0.3 s
# that receivers take at most) can be overtaken by its age, by its endpoint's removal, or by another one's 410.
AT_ONCE = ("failed", "exhausted attempts_used")
OVERTAKEN = ("exhausted expired", "exhausted endpoint_removed", "exhausted gone")

# Fault -> the outcomes of its attempts: at once, and those that last. Not meant to be reached: an answer of a receiver
# that gives none, time running out where something comes back at once, and a fault that the daemon cannot tell from
# another (a reset is `unreachable` wherever it hits).
ATTEMPTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ok": (("delivered",), ()),
    "tls": (("unreachable",), ("timed_out",)),
    "408": (("delivered", "responded"), ()),
    "410": (("gone",), ()),
    "429": (("responded",), ()),
    "4xx": (("responded",), ()),
    "5xx": (("responded",), ()),
    "answers_and_hangs_up": (("delivered", "responded"), ()),
    "answers_early": (("delivered", "responded", "unreachable"), ()),
    "black_hole": ((), ("timed_out",)),
    "blemished": (("delivered", "responded", "gone"), ()),
    "chunked_204": (("delivered",), ()),
    "closes": (("delivered", "responded"), ()),
    "connects_slowly": (("delivered",), ("timed_out",)),
    "cuts_body": (("delivered", "responded"), ()),
    "dns_fails": (("unreachable",), ()),
    "dns_hangs": ((), ("timed_out",)),
    "dns_slow": (("delivered",), ("timed_out",)),
    "drips_body": (("delivered",), ("responded",)),
    "drips_head": ((), ("timed_out",)),
    "endless": (("delivered",), ()),
    "garbage": (("invalid",), ()),
    "hangs": ((), ("timed_out",)),
    "huge_head": (("invalid",), ()),
    "interim": (("delivered", "responded"), ()),
    "moves": (("delivered",), ()),
    "never_reads": ((), ("timed_out", "unreachable")),
    "one_family": (("delivered",), ()),
    "other_family": (("delivered",), ()),
    "only_interim": (("unreachable",), ()),
    "plants": (("delivered", "responded"), ()),
    "plants_late": (("responded",), ()),
    "proxy_407": (("unreachable",), ()),
    "proxy_closes": (("unreachable",), ()),
    "proxy_down": (("unreachable",), ()),
    "proxy_garbage": (("invalid", "unreachable"), ()),
    "proxy_hangs": (("timed_out",), ()),
    "proxy_private": (("blocked",), ()),
    "proxy_refuses": (("responded", "unreachable"), ()),
    "rebound": (("blocked",), ()),
    "refused": (("unreachable",), ()),
    "resets_in_answer": (("unreachable",), ()),
    "resets_in_request": (("unreachable",), ()),
    "retry_after": (("delivered", "responded"), ()),
    "retry_after_long": (("responded",), ()),
    "slow": (("delivered",), ("timed_out",)),
    "trails": (("delivered", "responded"), ()),
}
# A handshake that hangs, a PUT of another URL in those seconds, and a 410 from there; and a connection that comes late,
# but within 5 s, so that a timeout of 4 s or less ends it, in the very seconds in which its delivery grows too old.
NOT_MEANT = {("timed_out -> exhausted gone", "tls"), ("timed_out -> exhausted expired", "connects_slowly")}

RECORDERS = ("off", "ids", "payloads", "off, recovery", "ids, recovery", "payloads, recovery")
# How a run ends. "At start": before its first answer, while it looks at files, reports that it takes back among them.
ENDS = (
    "sigterm",
    "sigint",
    "twice",
    "crash",
    "crash in write",
    "crash before report",
    "crash after report",
    "crash at start",
    "sigterm at start",
    "twice at start",
    "start killed",
)
# Without a recorder there is no write to be killed in, and a start has no report to make.
NEEDS_RECORDER = ("crash in write", "start killed")


def meant_attempts() -> Iterator[tuple[str, str]]:
    for fault, (at_once, lasting) in ATTEMPTS.items():
        cells = [(transition, fault) for outcome in at_once for transition in _transitions(outcome, AT_ONCE)]
        cells += [
            (transition, fault) for outcome in lasting for transition in _transitions(outcome, AT_ONCE + OVERTAKEN)
        ]
        yield from (cell for cell in cells if cell not in NOT_MEANT)


def _transitions(outcome: str, statuses: tuple[str, ...]) -> list[str]:
    if outcome == "delivered":
        return ["responded -> delivered"]
    if outcome == "gone":
        return ["responded -> exhausted gone"]
    return [f"{outcome} -> {status}" for status in statuses]


def meant_ends() -> Iterator[tuple[str, str]]:
    for end in ENDS:
        for recorder in RECORDERS:
            if not (end in NEEDS_RECORDER and recorder.startswith("off")):
                yield end, recorder


def meant_ports() -> Iterator[tuple[str, str]]:
    for port, calls in PORT_CALLS.items():
        for call in calls:
            for when in ("before", "after"):
                yield when, f"{port} {call}"


def unreached(attempts: Cells, ends: Cells, ports: Cells) -> list[str]:
    """The cells that are meant to be reached and were not."""
    missing = [cell for cell in meant_attempts() if not attempts[cell]] + [
        cell for cell in meant_ends() if not ends[cell]
    ]
    missing += [cell for cell in meant_ports() if not ports[cell]]
    return [f"{row} x {column}" for row, column in missing]


def table(cells: Cells, rows: list[str], columns: list[str], meant: set[tuple[str, str]]) -> list[str]:
    """Numbers for columns' names; a dot where nothing is meant to be, 0 where something is."""
    lines = [f"{index + 1:>3}  {column}" for index, column in enumerate(columns)]
    lines.append(" " * 21 + "".join(f"{index + 1:>7}" for index in range(len(columns))))
    for row in rows:
        counts = ((cells[column, row], (column, row) in meant) for column in columns)
        lines.append(f"{row:20} " + "".join(f"{count or ('0' if due else '.'):>7}" for count, due in counts))
    return lines


def tables(attempts: Cells, ends: Cells, ports: Cells) -> str:
    transitions = sorted({transition for transition, _ in (*attempts, *meant_attempts())})
    of_ends: Cells = Counter({(recorder, end): count for (end, recorder), count in ends.items()})
    meant = {(recorder, end) for end, recorder in meant_ends()}
    return "\n".join(
        [
            "What attempts came to, by the fault that they met:",
            *table(attempts, list(ATTEMPTS), transitions, set(meant_attempts())),
            "How runs ended, by their recorder:",
            *table(of_ends, list(ENDS), list(RECORDERS), meant),
            "Which calls of ports raised, before and after their effect:",
            *table(
                ports,
                [f"{port} {call}" for port, calls in PORT_CALLS.items() for call in calls],
                ["before", "after"],
                set(meant_ports()),
            ),
        ]
    )
