"""Owns `hookd demo`: each promise of the README said, put to the test against the real daemon, and judged.

The daemon is a child process, spoken to over its HTTP API and its command line only; the receivers are threads of
this process and keep their own record, so that what the daemon says is held against what arrived.

Read `performance` for the course of it, `acts` for the promises, `stage` and `receivers` for what they are played
with, `pace` for the figures.

Rules: an act first observes and then compares; where anything differs the demo exits 1. Every wait is bounded. Only the
child it started is ever stopped.
Does not: touch anything but loopback and a temporary folder, which stays only where something differed.
"""

from hookd.demo.performance import run_demo

__all__ = ["run_demo"]
