"""The loop's clock: monotonic, and after a stop the sockets are looked at before the deadlines."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from hookd.edge.clock import OFFSET_SECONDS, LoopClock


class Monotonic:
    def __init__(self) -> None:
        self.seconds = 10.0

    def __call__(self) -> float:
        return self.seconds


def test_reading_after_a_stop_is_of_the_moment_to_wake_up_and_the_next_is_true() -> None:
    """Nothing has expired by the first one; it never goes back."""
    monotonic = Monotonic()
    clock = LoopClock(monotonic)
    before = clock.current_time()
    deadline = OFFSET_SECONDS + 15
    assert clock.deadline_to_sleep_time(deadline) == 5
    monotonic.seconds = 75
    assert before < clock.current_time() < deadline
    assert clock.current_time() == OFFSET_SECONDS + 75
    assert clock.deadline_to_sleep_time(deadline) == -60  # it is past: this wait is a look
    assert clock.current_time() == OFFSET_SECONDS + 75


def test_reading_after_a_wait_that_ended_in_time_or_early_is_true() -> None:
    """Also a little late, and where nothing was ever due."""
    monotonic = Monotonic()
    clock = LoopClock(monotonic)
    for deadline, wakes in ((20.0, 12.0), (20.0, 20.4), (float("inf"), 5000.0)):
        clock.deadline_to_sleep_time(OFFSET_SECONDS + deadline)
        monotonic.seconds = wakes
        assert clock.current_time() == OFFSET_SECONDS + wakes


def test_answer_that_came_while_the_process_was_stopped_is_read() -> None:
    """Under trio itself, and a real SIGSTOP: the deadline passed, and the bytes had come."""
    script = """
import socket, sys, trio
from hookd.edge.clock import LoopClock

async def main():
    with trio.move_on_after(2.0):
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=int(sys.argv[1]))))
        print("waiting", flush=True)
        print(await stream.receive_some(), flush=True)

trio.run(main, clock=LoopClock())
"""
    ours, its = socket.socketpair()
    with ours, its:
        its.set_inheritable(True)
        command = [sys.executable, "-c", script, str(its.fileno())]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=[its.fileno()]) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGSTOP)
            try:
                assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
                ours.sendall(b"in time")
                ours.settimeout(3.0)  # longer than its deadline
                with pytest.raises(TimeoutError):
                    ours.recv(1)
            finally:
                process.send_signal(signal.SIGCONT)
            assert process.stdout.readline() == "b'in time'\n"
