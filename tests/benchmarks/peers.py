"""hookd beside what people would use instead, on one core: `python -m tests.benchmarks peers`.

BullMQ with undici on Node, and Celery with requests, both with Redis: as they come, and equal, where each event is
signed and leaves a line of log as with hookd. Neither keeps a record of each attempt, a budget, or an account; neither
looks at addresses. The receiver is haproxy.
What is measured has one core, and counts whole, from the event in the producer's hands to its delivery: the daemon and
who posts to it by batches of a hundred; Node, which queues by hundreds; Celery's producer, which queues one by one, as
its API does, and its workers. Redis has the other core, with the receiver; its CPU is shown apart.
Celery's workers are four processes, `prefork`. They acknowledge late, so that the end of one loses nothing. They are
without gossip, mingle and heartbeat, which cost and serve many machines.
The benchmark installs both from their registries, into a folder that git does not see. Where Node, Redis or haproxy is
not installed, it says so and leaves that peer out.
"""

import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import click

from tests.benchmarks.end_to_end import (
    BATCH,
    BATCH_EVENTS,
    DAEMON_CORE,
    LOAD_CORE,
    WARM_UP_EVENTS,
    post_batches,
)
from tests.benchmarks.end_to_end import measure as measure_hookd
from tests.benchmarks.processes import ROOT, Child, NotInstalled, cpu_seconds, on_core, pinned, require, sink
from tests.benchmarks.turns import Figures, by_turns, finish, progress, show

PROGRAMS = Path(__file__).with_name("peer_programs")
FOLDER = ROOT / ".benchmarks"
NODE_PACKAGES = ("bullmq@5", "undici@6")
PYTHON_PACKAGES = ("celery[redis]>=5.4,<6", "requests>=2.32,<3")
INSTALL_SECONDS_MAX = 300
DELIVER_SECONDS_MAX = 300.0
CELERY_EVENTS = 600  # a hundred a second at most: more only takes longer
CELERY_PROCESSES = 4


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True)
@click.option("--events", default=BATCH_EVENTS, show_default=True, help="Through hookd and BullMQ in each round.")
@click.option("--quick", is_flag=True, help="Two rounds of a few events: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(rounds: int, events: int, quick: bool, json_path: str | None) -> None:
    share = 20 if quick else 1
    many, few = events // share, CELERY_EVENTS // share
    measures: dict[str, Callable[[], Figures]] = {"hookd": partial(hookd, max(BATCH, many))}
    for name, install, measure, count in (
        ("BullMQ", install_node, bullmq, many),
        ("Celery", install_python, celery, few),
    ):
        try:
            require("redis-server", "haproxy")
            install()
        except NotInstalled as missing:
            click.echo(f"{name} is left out: {missing}")
            continue
        measures |= {
            f"{name} as it comes": partial(measure, "", count),
            f"{name} equal": partial(measure, "equal", count),
        }
    try:
        seen = by_turns(measures, rounds=2 if quick else rounds)
    except NotInstalled as missing:
        click.echo(f"skipped: {missing}")
        return
    show(seen, base="hookd")
    finish("peers", seen, json_path=json_path)


# What is measured


def hookd(count: int) -> Figures:
    spent = 0.0

    def post(daemon: Child, settled: int) -> None:
        nonlocal spent
        with pinned(DAEMON_CORE):
            began = time.process_time()
            post_batches(daemon, settled, events=count)
            spent = time.process_time() - began

    figures = measure_hookd(ROOT, post, count)
    return figures | {"cpu_us": figures["cpu_us"] + spent / count * 1e6, "redis_us": 0.0}


def bullmq(equal: str, count: int) -> Figures:
    with sink(core=LOAD_CORE) as port, redis() as (redis_port, redis_pid):
        command = ["node", str(PROGRAMS / "bullmq.mjs"), str(redis_port), str(port), equal]
        env = {**os.environ, "PEERS_NODE_MODULES": str(FOLDER / "node" / "package.json")}
        with program(command, env) as node:
            return _measure(node, [node.pid], redis_pid, count)


def celery(equal: str, count: int) -> Figures:
    with sink(core=LOAD_CORE) as port, redis() as (redis_port, redis_pid), ExitStack() as stack:
        env = {**os.environ, "REDIS_PORT": str(redis_port), "SINK_PORT": str(port), "EQUAL": equal}
        python = str(FOLDER / "python" / "bin" / "python")
        work = [python, "-m", "celery", "-A", "celery_app", "worker", "--pool", "prefork", "--loglevel", "ERROR"]
        work += ["--concurrency", str(CELERY_PROCESSES), "--without-gossip", "--without-mingle", "--without-heartbeat"]
        worker = stack.enter_context(program(work, env, says_nothing=True))
        producer = stack.enter_context(program([python, "celery_producer.py"], env))
        return _measure(producer, [producer.pid, worker.pid], redis_pid, count)


def _measure(asked: "subprocess.Popen[str]", pids: list[int], redis_pid: int, count: int) -> Figures:
    deliver(asked, WARM_UP_EVENTS)
    cpu, redis_cpu, begun = sum(map(cpu_seconds, pids)), cpu_seconds(redis_pid), time.perf_counter()
    deliver(asked, count)
    seconds = time.perf_counter() - begun
    cpu, redis_cpu = sum(map(cpu_seconds, pids)) - cpu, cpu_seconds(redis_pid) - redis_cpu
    return {"cpu_us": cpu / count * 1e6, "per_second": count / seconds, "redis_us": redis_cpu / count * 1e6}


def deliver(asked: "subprocess.Popen[str]", count: int) -> None:
    assert asked.stdin is not None
    asked.stdin.write(f"{count}\n")
    asked.stdin.flush()
    assert _line(asked) == "done"


def _line(asked: "subprocess.Popen[str]") -> str:
    assert asked.stdout is not None
    ready, _, _ = select.select([asked.stdout], [], [], DELIVER_SECONDS_MAX)
    assert ready, "nothing is delivered"
    return asked.stdout.readline().strip()


@contextmanager
def program(
    command: list[str], env: dict[str, str], *, says_nothing: bool = False
) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*on_core(DAEMON_CORE), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=env,
        cwd=PROGRAMS,
        start_new_session=True,
    )
    try:
        if not says_nothing:
            assert _line(process), f"{command[0]} does not start"
        yield process
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


@contextmanager
def redis() -> Iterator[tuple[int, int]]:
    """Its port and its process; in memory only."""
    with tempfile.TemporaryDirectory() as directory:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            *on_core(LOAD_CORE),
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            directory,
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + DELIVER_SECONDS_MAX
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None, "Redis does not start"
                    assert time.monotonic() < deadline, "Redis does not listen"
                    time.sleep(0.05)
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


# Setting up


def install_node() -> None:
    """Raises NotInstalled where it cannot be."""
    require("node", "npm")
    folder = FOLDER / "node"
    if not (folder / "node_modules" / "bullmq").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        _install(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *NODE_PACKAGES])


def install_python() -> None:
    """Raises NotInstalled where it cannot be."""
    folder = FOLDER / "python"
    if not (folder / "bin" / "celery").exists():
        _install([sys.executable, "-m", "venv", str(folder)])
        _install([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PYTHON_PACKAGES])


def _install(command: list[str]) -> None:
    progress(f"setting up: {' '.join(command[:4])} …")
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise NotInstalled(f"{' '.join(command[:3])} failed: {said.strip()[-300:]}") from None


if __name__ == "__main__":
    sys.exit(main())
