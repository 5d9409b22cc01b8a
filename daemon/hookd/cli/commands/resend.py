"""Owns `hookd resend`: posts a report's lines, in batches, to a running daemon, until each has an answer.

Rules: it can be repeated, since the daemon knows the events that it has. 429 and 503 are waited out. A report whose
undelivered lines were all taken is claimed for the run that took them.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from hookd.cli.api_client import Refusal, Remote, Unreachable
from hookd.cli.failures import fail
from hookd.cli.options import token_option, url_option
from hookd.cli.report_files import read_summary, say_claimed
from hookd.edge.reports import CLAIM, ReportDirectory
from hookd.process.exit_codes import ExitCode

LINES_AT_ONCE = 100
BYTES_AT_ONCE = 4 * 1024 * 1024
WAIT_SECONDS_MAX = 30
TAKEN = {"admitted", "known"}


@click.command()
@click.argument("file")
@click.option("--exhausted", is_flag=True, help="The exhausted deliveries, in place of the undelivered.")
@click.option("--client", "only_client", metavar="ID", help="Of this client only.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent.")
@url_option
@token_option
def resend(
    file: str, exhausted: bool, only_client: str | None, dry_run: bool, url: str | None, token_file: str | None
) -> None:
    """Post a report's undelivered events to a running daemon, under their own ids. Repeatable."""
    read_summary(Path(file))
    say_claimed(Path(file))
    try:
        counts, claimed = resend_file(
            Path(file),
            Remote.named(url, token_file),
            kind="exhausted" if exhausted else "undelivered",
            only_client=only_client,
            dry_run=dry_run,
        )
    except Unreachable as error:
        fail(ExitCode.UNAVAILABLE, str(error))
    except Refusal as refused:
        fail(ExitCode.BUG, f"refused with {refused}; nothing is lost, run it again")
    for word, count in counts.items():
        click.echo(f"{word}: {count:,}")
    if claimed is not None:
        click.echo(f"claimed: {claimed}", err=True)


class _Line(msgspec.Struct):
    """What is needed to choose a line. The payload is not decoded: Python has no value for some numbers (1E400)."""

    kind: str
    client_id: str = ""


_decoder = msgspec.json.Decoder(_Line)


def resend_file(
    path: Path, remote: Remote, *, kind: str, only_client: str | None, dry_run: bool
) -> tuple[dict[str, int], Path | None]:
    """Returns how many lines got which answer, and the claim's path. Raises Unreachable, or Refusal where waiting
    does not mend it.
    """
    lines = list(_matching(path, kind, only_client))
    if dry_run:
        return {"would be sent": len(lines)}, None
    run_id = remote.get("/v1/status").taken()["run_id"]
    counts: Counter[str] = Counter()
    with click.progressbar(list(_batches(lines)), label="resending", file=sys.stderr) as batches:
        for batch in batches:
            counts.update(_post(remote, batch))
    complete = kind == "undelivered" and only_client is None and set(counts) <= TAKEN
    claimed = complete and ReportDirectory(str(path.parent)).claim(str(path.absolute()), run_id)
    return dict(counts), path.with_name(f"{path.name}{CLAIM}{run_id}") if claimed else None


def _matching(path: Path, kind: str, only_client: str | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            read = _decoder.decode(line)
            if read.kind == kind and only_client in (None, read.client_id):
                yield line


def _batches(lines: list[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and (len(batch) == LINES_AT_ONCE or size + len(line) > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield batch


def _post(remote: Remote, batch: list[bytes]) -> list[str]:
    while True:
        answer = remote.post("/v1/resend", b"".join(batch), content_type="application/x-ndjson")
        if answer.status not in (429, 503) or answer.body.get("type") == "/problems/draining":
            lines: list[str] = answer.taken()["lines"]
            return lines
        time.sleep(min(int(answer.headers.get("retry-after", "1")), WAIT_SECONDS_MAX))
