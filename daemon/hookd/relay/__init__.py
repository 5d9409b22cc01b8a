"""The relay: a process of its own between a Redis stream and the daemon, which imports none of it (contract section 8).

`owed`, `parking` and `entry` are its core: sync and pure, time comes in as a value. The others touch the world.
"""
