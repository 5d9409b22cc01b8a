"""Owns the first lines of the command: signals are held and the standard streams made sure of before slow imports."""

import io
import signal
import sys

from hookd.edge import streams

_held: list[str] = []


def main() -> None:
    if sys.argv[1:2] in (["run"], ["relay"]):  # the other commands end on Ctrl-C as any program does
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: _held.append(signal.Signals(number).name))
        streams.secure()
    if isinstance(sys.stdout, io.TextIOWrapper):  # what others wrote may have letters that it has not
        sys.stdout.reconfigure(errors="backslashreplace")
    from hookd.cli.command_line import hookd

    hookd.main(prog_name="hookd", obj=_held)


if __name__ == "__main__":
    main()
