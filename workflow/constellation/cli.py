"""The command `constellation`: each sub-command is one step of the workflow, usable by hand."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from constellation.commands import (
    ReaderGone,
    catalogue,
    lakehouse,
    planning,
    products,
    quality,
    queries,
    report,
    say,
    settings,
    status,
    survey,
    tiles,
    tracing,
    validation,
)
from shine.errors import INTERRUPTED_EXIT_CODE, ShineError

READER_GONE_EXIT_CODE = 141  # as a shell tells of a program that SIGPIPE has ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns the exit status (0, or that of the error's class)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("botocore").setLevel(logging.INFO)  # below, it logs access keys
    if not options.verbose:
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of connections it closes
    try:
        return options.run(options) or 0
    except ShineError as error:
        say(f"error: {error}", sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted", sys.stderr)
        return INTERRUPTED_EXIT_CODE
    except ReaderGone:
        return READER_GONE_EXIT_CODE


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="constellation",
        description="Cut a survey into sub-tiles, and merge their shear into one catalogue.",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    commands = parser.add_subparsers(title="sub-commands", metavar="COMMAND", required=True)
    for name, (describe, run, help_text) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}."
        )
        if name in arguments:
            describe(command)
        command.set_defaults(run=run)
    return parser


_COMMANDS = (
    planning.COMMANDS
    | tiles.COMMANDS
    | survey.COMMANDS
    | status.COMMANDS
    | catalogue.COMMANDS
    | queries.COMMANDS
    | tracing.COMMANDS
    | lakehouse.COMMANDS
    | quality.COMMANDS
    | products.COMMANDS
    | report.COMMANDS
    | settings.COMMANDS
    | validation.COMMANDS
)
