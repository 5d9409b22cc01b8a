"""Owns the first lines of the command: signals are held and the standard streams made sure of before slow imports.

The other commands than `run` and `relay` end on Ctrl-C as any program does: by it, without a word. Their imports take a
third of a second, which a traceback would tell of.
"""

import io
import signal
import sys

from hookd.edge import streams

_held: list[str] = []


def main() -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    if sys.argv[1:2] in (["run"], ["relay"]):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: _held.append(signal.Signals(number).name))
        streams.secure()
    elif interrupt is signal.default_int_handler:  # else whoever started it has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if isinstance(sys.stdout, io.TextIOWrapper):  # what others wrote may have letters that it has not
        sys.stdout.reconfigure(errors="backslashreplace")
    from hookd.cli.command_line import hookd

    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, interrupt)
    hookd.main(prog_name="hookd", obj=_held)


if __name__ == "__main__":
    main()
