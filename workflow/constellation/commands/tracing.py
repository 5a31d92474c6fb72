"""The sub-command that tells where a row of the catalogue comes from."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, say


def _describe(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "what", metavar="WHAT", help="OBJECT_ID of a source, or tile,row,col of a sub-tile"
    )
    command.add_argument(
        "--config",
        type=Path,
        default=Path("config/config.yaml"),
        help="pipeline YAML; default: %(default)s",
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace) -> None:
    import json

    from constellation.run_layout import Run
    from constellation.trace import trace
    from constellation.trace_report import format_trace, to_json

    traced = trace(options.what, Run.from_config(options.config))
    if options.json:
        say(json.dumps(to_json(traced), indent=2, ensure_ascii=False))
    else:
        say(format_trace(traced).rstrip())


COMMANDS = {
    "trace": Command(_describe, _run, "tell what a row was made from, and how to make it again"),
}
