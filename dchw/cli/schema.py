"""``dchw schema``: the JSON Schema of the YAML files a user writes, for editors that complete and check them."""

from __future__ import annotations

import json

import click

from dchw.keys import FILES


@click.command(name="schema")
@click.argument("kind", type=click.Choice(list(FILES)))
def command(kind: str) -> None:
    """Print the JSON Schema of a machine, a training recipe, a study or a DRAM standard.

    Save it (dchw schema machine > machine.schema.json) and name it in the first line of a YAML file for editors that
    use the YAML language server: ``# yaml-language-server: $schema=machine.schema.json``.
    """
    from dchw.keys import json_schema

    click.echo(json.dumps(json_schema(kind), indent=2))
