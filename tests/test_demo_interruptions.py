"""What ends the demo before its time: once, never between a daemon's start and the note of it, and to an end."""

import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from hookd.demo.board import Board
from hookd.demo.interruptions import ENTER_SIGNAL, Entered, Interruptions, Stopped
from hookd.demo.receivers import Receiver, quick
from hookd.demo.stage import Stage


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_enter_after_a_signal_ends_nothing(number: signal.Signals) -> None:
    """The daemon drains then. Before: a traceback. A second signal is heard."""
    interruptions = Interruptions()
    with interruptions.raised():
        with pytest.raises(Stopped) as stopped:
            signal.raise_signal(number)
        assert stopped.value.number == number
        signal.raise_signal(ENTER_SIGNAL)
        with pytest.raises(Stopped):
            signal.raise_signal(number)


def test_enter_cuts_what_does_not_heed_it() -> None:
    """Once."""
    interruptions = Interruptions()
    with interruptions.raised():
        interruptions.heeds_enter = True
        signal.raise_signal(ENTER_SIGNAL)
        interruptions.heeds_enter = False
        with pytest.raises(Entered):
            signal.raise_signal(ENTER_SIGNAL)
        signal.raise_signal(ENTER_SIGNAL)


def test_daemon_that_is_started_as_ctrl_c_comes_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: nobody knew of it, and it ran on for ever."""
    children: list[subprocess.Popen[Any]] = []

    class Interrupted(subprocess.Popen[Any]):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            children.append(self)
            signal.raise_signal(signal.SIGINT)

    stage = Stage(tmp_path, colours=False, board=Board())
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    try:
        with stage.board.interruptions.raised(), pytest.raises(KeyboardInterrupt):
            stage.start()
        stage.close(keep=False)
        assert [child.poll() is None for child in children] == [False]
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_ctrl_c_while_an_act_stops_the_daemon_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: it killed that daemon, and the act went on. Now it drains to its end."""
    signals = [signal.SIGINT]

    class Waited(subprocess.Popen[Any]):
        def wait(self, timeout: float | None = None) -> int:
            if signals:
                signal.raise_signal(signals.pop())
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Waited)
    stage = Stage(tmp_path, colours=False, board=Board())
    try:
        stage.start()
        with stage.board.interruptions.raised():
            with pytest.raises(Stopped):
                stage.stop()
            assert stage.stop(is_patient=False) == 0
            stage.start()
            signals.append(signal.SIGINT)
            assert stage.stop(is_patient=False) == -signal.SIGKILL
    finally:
        stage.close(keep=False)


def test_receiver_closes_that_was_interrupted_as_it_came_up() -> None:
    """Before: it waited for a thread that had not begun."""

    class Interrupted(Receiver):
        def server_activate(self) -> None:
            raise KeyboardInterrupt

    receiver = Interrupted(quick, up=False)
    with pytest.raises(KeyboardInterrupt):
        receiver.come_up()
    closing = threading.Thread(target=receiver.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
