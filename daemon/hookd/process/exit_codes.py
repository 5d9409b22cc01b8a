"""What the daemon's exit tells whoever started it: 0 to 3 by what became of the events, the rest from sysexits.h."""

from enum import IntEnum


class ExitCode(IntEnum):
    CLEAN = 0  # nothing is left undelivered
    BUG = 1  # something of ours crashed; a command of the command line that came to nothing, too
    USAGE = 2
    UNDELIVERED = 3  # the report lists what
    UNAVAILABLE = 69  # an address or a folder is taken; or no daemon answers
    CONFIG = 78
