"""Owns what identifies a run of the daemon, and how that run ended."""

import msgspec


class Run(msgspec.Struct, frozen=True):
    """Which run this is about."""

    run_id: str
    version: str
    host: str
    pid: int
    started_at: float  # wall
    shard: str = ""  # the daemon's name among several


class Stop(msgspec.Struct, frozen=True):
    """How the run ended. `trigger` is SIGTERM, SIGINT, error or crash."""

    stopped_at: float  # wall
    trigger: str
    forced: bool
    drain_seconds: float
