"""Owns `hookd demo`; what it plays is in hookd/demo."""

import sys

import click


@click.command()
@click.option(
    "--seconds", type=click.IntRange(1, 3600), default=None, help="How long its traffic lasts; no Enter is waited for."
)
@click.option("--plain", is_flag=True, help="Line by line, without colours.")
@click.option(
    "--act", type=click.Choice(["slow", "down", "flaky", "restart", "kill"]), help="Show one failure mode only."
)
def demo(seconds: int | None, plain: bool, act: str | None) -> None:
    """See it at work: the real daemon, receivers on this machine, and each failure mode.

    On a terminal one table is drawn, until Enter.
    """
    from hookd.demo import run_demo

    sys.exit(run_demo(seconds=seconds, plain=plain, act=act))
