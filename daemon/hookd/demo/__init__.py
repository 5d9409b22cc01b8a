"""Owns `hookd demo`: each promise of the README is said, put to the test against the real daemon, and judged.

The daemon is a child process; the demo speaks to it only through its HTTP API and its command line. The receivers are
threads of this process with records of their own, so that what the daemon says is compared with what arrived.

Read `performance` for the course, `acts` for the promises, `stage` and `receivers` for the props, `pace` for the
figures.

Rules: an act first observes and then compares. Where anything differs the demo exits with 1. Every wait is bounded.
Only the child that it started is ever stopped.

Does not: touch anything but loopback and a temporary folder, which is kept only where something differed.
"""

from hookd.demo.performance import run_demo

__all__ = ["run_demo"]
