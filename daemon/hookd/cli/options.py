"""Options that several commands share."""

import click

from hookd.cli.completion import complete_file

url_option = click.option("--url", metavar="URL", help="The daemon's address (HOOKD_URL; http://127.0.0.1:8080).")
token_option = click.option(
    "--token-file", metavar="FILE", shell_complete=complete_file, help="A file with the token (HOOKD_TOKEN_FILE)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
