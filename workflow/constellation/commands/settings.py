"""Sub-commands about the configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, say


def _describe_schema(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", type=Path, help="file to write; without it, print")


def _schema(options: argparse.Namespace) -> None:
    from constellation.config import schema_json
    from shine.atomic import write_atomically

    if options.output is None:
        say(schema_json().rstrip())
    else:
        write_atomically(options.output, schema_json().encode("utf-8"))


def _describe_shine_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--sections",
        required=True,
        help="pipeline YAML, or JSON text with the keys inference and gal",
    )
    command.add_argument("--output", type=Path, required=True, help="the YAML file for shine")


def _shine_config(options: argparse.Namespace) -> None:
    from constellation.config import write_shine_config

    write_shine_config(options.sections, options.output)


COMMANDS = {
    "schema": Command(_describe_schema, _schema, "show the JSON schema of the configuration"),
    "shine-config": Command(
        _describe_shine_config, _shine_config, "write the sections that shine reads"
    ),
}
