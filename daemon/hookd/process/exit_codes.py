"""What the daemon's exit tells whoever started it: 0 to 3 by what became of the events, the rest from sysexits.h."""

from enum import IntEnum


class ExitCode(IntEnum):
    CLEAN = 0  # nothing is left undelivered
    BUG = 1  # something of ours crashed, or a stop could write no report; nothing else
    USAGE = 2  # also where a client, an event or an endpoint that was named is not there
    UNDELIVERED = 3  # the report lists what; of a command: something is still owed
    NO_INPUT = 66  # a file that was named cannot be read
    UNAVAILABLE = 69  # an address or a folder is taken, no daemon answers, or an extra is not installed
    NO_PERMISSION = 77  # the daemon takes a token, and there is none or it is refused
    CONFIG = 78
