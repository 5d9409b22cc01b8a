"""What must have happened over many seeds, as tables: an empty cell that is meant to be reached is a hole in the plans.

An attempt comes to something by the fault that it met (`ATTEMPTS`), and a run ends in some way with some kind of
recorder (`ENDS`). What is not named is not meant to be reached; the reasons stand beside the tables. By chance it may
be all the same.
"""

from collections import Counter
from collections.abc import Iterator

Cells = Counter[tuple[str, str]]

# What may become of an attempt that failed. Only one that lasts (seconds, not the tick in which it began or the 0.3 s
# that receivers take at most) can be overtaken by its age, by its endpoint's removal, or by another one's 410.
AT_ONCE = ("failed", "exhausted attempts_used")
OVERTAKEN = ("exhausted expired", "exhausted endpoint_removed", "exhausted gone")

# Fault -> whether its attempts last, and their outcomes. Not meant to be reached: an answer of a receiver that gives
# none, time running out where something comes back at once, and a fault that the daemon cannot tell from another (a
# reset is `unreachable` wherever it hits).
ATTEMPTS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "ok": (False, ("delivered",)),
    "tls": (True, ("unreachable", "timed_out")),
    "410": (False, ("gone",)),
    "429": (False, ("responded",)),
    "4xx": (False, ("responded",)),
    "5xx": (False, ("responded",)),
    "answers_early": (False, ("delivered", "responded", "unreachable")),
    "black_hole": (True, ("timed_out",)),
    "closes": (False, ("delivered", "responded")),
    "connects_slowly": (True, ("delivered", "timed_out")),
    "cuts_body": (False, ("delivered", "responded")),
    "dns_fails": (False, ("unreachable",)),
    "dns_hangs": (True, ("timed_out",)),
    "dns_slow": (True, ("delivered", "timed_out")),
    "drips_body": (True, ("delivered", "responded")),
    "drips_head": (True, ("timed_out",)),
    "garbage": (False, ("invalid",)),
    "hangs": (True, ("timed_out",)),
    "huge_head": (False, ("invalid",)),
    "interim": (False, ("delivered", "responded")),
    "never_reads": (True, ("timed_out", "unreachable")),
    "one_family": (False, ("delivered",)),
    "only_interim": (False, ("unreachable",)),
    "plants": (False, ("delivered", "responded")),
    "plants_late": (False, ("responded",)),
    "rebound": (False, ("blocked",)),
    "refused": (False, ("unreachable",)),
    "resets_in_answer": (False, ("unreachable",)),
    "resets_in_request": (False, ("unreachable",)),
    "retry_after": (False, ("delivered", "responded")),
    "slow": (True, ("delivered", "timed_out")),
}

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
    for fault, (lasts, outcomes) in ATTEMPTS.items():
        for outcome in outcomes:
            match outcome:
                case "delivered":
                    yield "responded -> delivered", fault
                case "gone":
                    yield "responded -> exhausted gone", fault
                case _:
                    for status in (*AT_ONCE, *(OVERTAKEN if lasts else ())):
                        yield f"{outcome} -> {status}", fault


def meant_ends() -> Iterator[tuple[str, str]]:
    for end in ENDS:
        for recorder in RECORDERS:
            if not (end in NEEDS_RECORDER and recorder.startswith("off")):
                yield end, recorder


def unreached(attempts: Cells, ends: Cells) -> list[str]:
    """The cells that are meant to be reached and were not."""
    missing = [cell for cell in meant_attempts() if not attempts[cell]] + [
        cell for cell in meant_ends() if not ends[cell]
    ]
    return [f"{row} x {column}" for row, column in missing]


def table(cells: Cells, rows: list[str], columns: list[str], meant: set[tuple[str, str]]) -> list[str]:
    """Numbers for columns' names; a dot where nothing is meant to be, 0 where something is."""
    lines = [f"{index + 1:>3}  {column}" for index, column in enumerate(columns)]
    lines.append(" " * 20 + "".join(f"{index + 1:>7}" for index in range(len(columns))))
    for row in rows:
        counts = ((cells[column, row], (column, row) in meant) for column in columns)
        lines.append(f"{row:20}" + "".join(f"{count or ('0' if due else '.'):>7}" for count, due in counts))
    return lines


def tables(attempts: Cells, ends: Cells) -> str:
    transitions = sorted({transition for transition, _ in (*attempts, *meant_attempts())})
    of_ends: Cells = Counter({(recorder, end): count for (end, recorder), count in ends.items()})
    meant = {(recorder, end) for end, recorder in meant_ends()}
    return "\n".join(
        [
            "What attempts came to, by the fault that they met:",
            *table(attempts, list(ATTEMPTS), transitions, set(meant_attempts())),
            "How runs ended, by their recorder:",
            *table(of_ends, list(ENDS), list(RECORDERS), meant),
        ]
    )
