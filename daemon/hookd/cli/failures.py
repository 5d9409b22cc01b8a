"""How a command ends that cannot do what it was asked: a message on stderr and an exit code.

`hookd: MESSAGE` and the code of process/exit_codes.py; a wrong use of the command line is click's, with code 2.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from hookd.cli.api_client import Answer, Refusal, Unreachable
from hookd.edge.streams import STDERR, say
from hookd.process.exit_codes import ExitCode


@contextmanager
def asking() -> Iterator[None]:
    """Within it, a daemon that does not answer, or refuses, ends the command."""
    try:
        yield
    except Unreachable as error:
        fail(ExitCode.UNAVAILABLE, str(error))
    except Refusal as refused:
        fail(ExitCode.BUG, f"refused with {refused}")


def refused(answer: Answer) -> NoReturn:
    """The daemon refused; what it said is shown."""
    fail(ExitCode.BUG, f"refused with {answer.problem}")


def usage(message: str) -> NoReturn:
    raise click.UsageError(message)


def fail(code: int, message: str) -> NoReturn:
    say(STDERR, f"hookd: {message}\n")
    sys.exit(code)
