"""The sub-command that shows where a running or stopped campaign stands."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from constellation.commands import Command, count, positive, say

_CLEAR = "\x1b[2J\x1b[H"


def _describe(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, required=True, help="pipeline YAML of the campaign")
    command.add_argument(
        "--storage", help="where results are in S3: Snakemake's --default-storage-prefix"
    )
    command.add_argument(
        "--snakemake",
        type=Path,
        default=Path(".snakemake"),
        help="Snakemake's own folder; default: %(default)s",
    )
    command.add_argument(
        "--most-files",
        type=count,
        default=3000,
        help="logs, and result files, opened per look; default: %(default)s of each",
    )
    command.add_argument("--watch", action="store_true", help="look again and again, until Ctrl-C")
    command.add_argument(
        "--interval",
        type=positive,
        default=30.0,
        help="with --watch, seconds; default: %(default)s",
    )
    command.add_argument("--json", type=Path, help="write the numbers to this file")
    command.add_argument("--map", type=Path, help="draw a map of the sky (PNG)")


def _run(options: argparse.Namespace) -> None:
    from constellation.campaign_files import Planned
    from constellation.outcome import Results
    from constellation.run_layout import Run
    from constellation.snakemake_records import SnakemakeRecords
    from constellation.status import Watch

    run = Run.from_config(options.config)
    watch = Watch(
        Planned.of(run.plan),
        Results.of(run.results, options.storage),
        SnakemakeRecords(options.snakemake),
        options.most_files,
    )
    _tell(options, run, watch)
    while options.watch:
        time.sleep(options.interval)
        _tell(options, run, watch)


def _tell(options: argparse.Namespace, run, watch) -> None:
    import json

    from constellation.status_report import format_status, to_json
    from shine.atomic import write_atomically
    from shine.s3_settings import set_aside

    with set_aside():  # it is the survey that they are about
        found = watch.look()
    if options.json is not None:
        text = json.dumps(to_json(found), indent=2, ensure_ascii=False) + "\n"
        write_atomically(options.json, text.encode("utf-8"))
    if options.map is not None:
        from constellation.status_map import draw_map

        draw_map(found, run.plan, options.map)
    text = format_status(found, f"{options.config}, {watch.results.folder}").rstrip()
    again = options.watch and sys.stdout.isatty()
    say(f"{_CLEAR}{text}" if again else text + "\n" * options.watch)


COMMANDS = {
    "status": Command(_describe, _run, "show what is done, runs, failed or waits"),
}
