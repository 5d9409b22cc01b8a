"""Owns `hookd print`: a file of `config/` as it was installed, to be kept or adapted."""

import click

from hookd.cli.failures import usage
from hookd.config.shipped import shipped_file, shipped_names


@click.command("print")
@click.argument("name", required=False)
def print_file(name: str | None) -> None:
    """Print a file that comes with hookd (configuration, units, proxies, containers, alerts), or the names of all."""
    names = shipped_names()
    if name is None:
        click.echo("\n".join(names))
    elif name not in names:
        usage(f"hookd ships no file called {name!r}; there are {', '.join(names)}")
    else:
        click.echo(shipped_file(name).read_bytes(), nl=False)
