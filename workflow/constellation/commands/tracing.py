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

    run = Run.from_config(options.config)
    traced = trace(options.what, run)
    receipt = traced.row and traced.row.receipt_sha256
    snapshots = _snapshots(run, receipt) if receipt else []
    if options.json:
        say(json.dumps(to_json(traced, snapshots), indent=2, ensure_ascii=False))
    else:
        say(format_trace(traced, snapshots).rstrip())


def _snapshots(run, receipt_sha256: str):
    """The Iceberg snapshots of this very catalogue; none where nothing was published."""
    from importlib.util import find_spec

    from constellation.trace_report import Snapshot

    is_published = run.config.iceberg is not None or (run.results / "iceberg").exists()
    if not is_published or find_spec("pyiceberg") is None:
        return []
    from constellation.lakehouse.publication import RECEIPT
    from constellation.lakehouse.releases import history
    from constellation.lakehouse.tables import Lakehouse, answered

    lakehouse = Lakehouse.of(run.config)
    with answered():
        if not all(lakehouse.holds(name) for name in ("sources", "shear")):
            return []
        entries = history(lakehouse)
    return [
        Snapshot(f"{lakehouse.namespace}.{table}", snapshot_id, entry.time.isoformat())
        for entry in entries
        if entry.properties.get(RECEIPT) == receipt_sha256
        for table, snapshot_id in entry.snapshots.items()
    ]


COMMANDS = {
    "trace": Command(_describe, _run, "tell what a row was made from, and how to make it again"),
}
