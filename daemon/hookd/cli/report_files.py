"""What `hookd report` and `hookd resend` both do with a report's file: read its summary, say whether it was claimed."""

from pathlib import Path

import msgspec

from hookd.cli.failures import fail
from hookd.cli.terminal import tell
from hookd.core.report import Summary
from hookd.edge.reports import ReportDirectory
from hookd.process.exit_codes import ExitCode

BY_HAND = "hand"  # `touch FILE.claimed-by-hand`


def read_summary(path: Path) -> tuple[Summary, bytes]:
    """The summary, and the line that it was read from. A file that is no report ends the command."""
    try:
        with path.open("rb") as file:
            line = file.readline().rstrip()
        return msgspec.json.decode(line, type=Summary), line
    except OSError as error:
        fail(ExitCode.NO_INPUT, f"cannot read {path}: {error.strerror}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fail(ExitCode.NO_INPUT, f"{path} is no report: {error}")


def say_claimed(path: Path) -> bool:
    """Whether it was. Whoever sends it again by hand should know."""
    run_id = ReportDirectory(str(path.parent)).claimed_by(str(path))
    if run_id is None:
        return False
    who = "someone, by hand," if run_id == BY_HAND else f"run {run_id}"
    tell(f"{who} took up what this report lists as undelivered")
    return True
