"""The sub-command that makes the report of a campaign."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, say


def _describe(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", required=True, help="pipeline YAML of the campaign, or its content as JSON text"
    )
    command.add_argument(
        "--results",
        type=Path,
        help="folder of the results, where it is another than that of the configuration",
    )
    command.add_argument("--output", type=Path, required=True, help="the page (HTML)")
    command.add_argument("--dvc-lock", type=Path, help="dvc.lock, whose digest the page names")
    command.add_argument("--iceberg-snapshot", help="snapshot of the catalogue, which it names")


def _run(options: argparse.Namespace) -> None:
    from constellation.report.campaign import Request, read_settings
    from constellation.report.page import write_report
    from constellation.run_layout import Run

    settings = read_settings(options.config)
    request = Request(
        settings,
        options.results or Run.from_config(settings).results,
        options.output,
        options.dvc_lock,
        options.iceberg_snapshot,
    )
    page, folder = write_report(request)
    say(f"{page}: {page.stat().st_size / 1e6:.1f} MB, with {folder}")


COMMANDS = {
    "report": Command(_describe, _run, "make the report of a campaign, one HTML page"),
}
