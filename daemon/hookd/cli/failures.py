"""How a command ends that cannot do what it was asked: a message on stderr and an exit code.

`hookd: MESSAGE` and the code of process/exit_codes.py; a wrong use of the command line is click's, with code 2.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from hookd.cli.api_client import Answer, Refusal, Unreachable, Unreadable
from hookd.core.printable import printable
from hookd.edge.streams import STDERR, say
from hookd.process.exit_codes import ExitCode

# Of what a daemon refuses; any other status is the fault of what was asked.
CODES = {
    401: ExitCode.NO_PERMISSION,
    403: ExitCode.NO_PERMISSION,
    408: ExitCode.UNAVAILABLE,
    429: ExitCode.UNAVAILABLE,
    500: ExitCode.BUG,
    503: ExitCode.UNAVAILABLE,
}


@contextmanager
def asking() -> Iterator[None]:
    """Within it, a daemon that does not answer, or refuses, ends the command."""
    try:
        yield
    except Unreadable as error:
        fail(ExitCode.NO_INPUT, str(error))
    except Unreachable as error:
        fail(ExitCode.UNAVAILABLE, str(error))
    except Refusal as refusal:
        refused(refusal.answer)


def refused(answer: Answer) -> NoReturn:
    """The daemon refused; what it said is shown."""
    if not answer.is_hookds:
        fail(ExitCode.UNAVAILABLE, answer.problem)
    fail(CODES.get(answer.status, ExitCode.USAGE), f"refused with {answer.problem}")


def usage(message: str) -> NoReturn:
    raise click.UsageError(printable(message))


def fail(code: int, message: str) -> NoReturn:
    say(STDERR, f"hookd: {printable(message)}\n")
    sys.exit(code)
