"""Owns the bound of every number that is read from a file: a report, a marker, a recording.

Python reads 4,300 digits as one number. One more than that has 4,301, and can be written nowhere; the recorder and
every other reader of a report take 64 bits.
What is read within these bounds can be added up, and written again. Limit: 2^53 - 1, what any JSON reader holds.
"""

from typing import Annotated

from msgspec import Meta

READ_NUMBER_MAX = 2**53 - 1
# Either sign: a file with a wrong sum is still to be read. Decoding checks it; setting the field does not.
ReadNumber = Annotated[int, Meta(ge=-READ_NUMBER_MAX, le=READ_NUMBER_MAX)]
