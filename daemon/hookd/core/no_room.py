"""Owns which errors of the system say that a file finds no room: less of it may still fit."""

import errno

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
