"""The command line: the group of all commands. Each command has a file in `commands`, named for it.

A command parses, calls, prints, and turns what happened into an exit code. Nothing is decided here. Data goes to
stdout, messages to stderr. Heavy modules are imported inside the commands, so that `--help`, `report` and `send` start
at once.
"""

import os
import signal
import sys
from typing import Any, NoReturn

import click

from hookd import __version__
from hookd.cli.commands.cancel import cancel
from hookd.cli.commands.check import check
from hookd.cli.commands.demo import demo
from hookd.cli.commands.events import events
from hookd.cli.commands.explain import explain
from hookd.cli.commands.pause import pause
from hookd.cli.commands.print import print_file
from hookd.cli.commands.receive import receive
from hookd.cli.commands.redeliver import redeliver
from hookd.cli.commands.relay import relay
from hookd.cli.commands.replay import replay
from hookd.cli.commands.report import report
from hookd.cli.commands.resend import resend
from hookd.cli.commands.resume import resume
from hookd.cli.commands.retry import retry
from hookd.cli.commands.run import run
from hookd.cli.commands.send import send
from hookd.cli.commands.status import status
from hookd.cli.commands.test import test
from hookd.cli.failures import fail
from hookd.core.no_room import NO_ROOM
from hookd.edge.streams import STDOUT
from hookd.process.exit_codes import ExitCode

HELP_CHARS_MAX = 300


class _Commands(click.Group):
    """Ctrl-C, and a pipe that nobody reads any more, end a command as any program: by the signal. A stdout that takes
    nothing (a full disk) ends it with a sentence. The help has each command's whole first sentence: on 80 columns click
    cuts off two of three."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self.commands[name].get_short_help_str(HELP_CHARS_MAX)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
            return done
        except KeyboardInterrupt:
            _end_by(signal.SIGINT)
        except BrokenPipeError:
            _end_by(signal.SIGPIPE)
        except OSError as error:
            if error.errno not in NO_ROOM:  # the rest is a bug
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # what is still buffered
            fail(ExitCode.UNAVAILABLE, f"stdout takes nothing: {error.strerror}")


def _end_by(number: signal.Signals) -> NoReturn:
    """Click would exit with 1, which is the code of a bug. Nothing is flushed: that could wait for a reader."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise AssertionError("a signal that is not ignored ends the process")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hookd")
def hookd() -> None:
    """Webhook delivery from memory: events in over HTTP, deliveries out, and a report of what was left.

    \b
    hookd demo                      see it deliver, fail, recover and stop
    hookd run --dev --client acme=http://127.0.0.1:9000/hook
    hookd receive                   a receiver to develop against
    hookd send acme invoice.paid '{"amount": 42}'
    hookd status                    how it is, and whose endpoints need someone
    hookd explain acme              what it waits for, until when, what ends it
    """


COMMANDS = (
    *(run, check, demo, receive),
    *(status, events, explain),
    *(send, retry, redeliver, cancel, replay, pause, resume, test),
    *(report, resend, relay, print_file),
)
for command in COMMANDS:
    hookd.add_command(command)
