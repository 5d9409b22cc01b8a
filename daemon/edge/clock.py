"""Owns the reading of the two clocks: trio's monotonic one for waits and ages, the wall's for what people see."""

import time

import trio

from daemon.core.timestamps import Moment


class SystemClock:
    def now(self) -> Moment:
        return Moment(trio.current_time(), time.time())
