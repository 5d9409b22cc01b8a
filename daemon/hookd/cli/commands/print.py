"""Owns `hookd print`: a file of `config/` as it is installed, to be redirected to where it is wanted."""

import click
from click.shell_completion import CompletionItem

from hookd.cli.failures import usage
from hookd.config.shipped import shipped_file, shipped_names


def _complete(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in shipped_names() if name.startswith(begun)]


@click.command("print")
@click.argument("name", required=False, shell_complete=_complete)
def print_file(name: str | None) -> None:
    """Write a file that comes with hookd: the configuration, units, proxies, containers, alerts.

    Without NAME it lists what there is.
    """
    if name is None:
        click.echo("\n".join(shipped_names()))
        return
    try:
        text = shipped_file(name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        usage(f"{error}; there are {', '.join(shipped_names())}")
    click.echo(text, nl=False)
