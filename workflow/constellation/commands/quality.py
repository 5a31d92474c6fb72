"""Sub-commands that check a published catalogue, and refuse one that fails."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, add_catalogue, add_tiling, plan_of, say


def _describe_quality(command: argparse.ArgumentParser) -> None:
    add_tiling(command)
    add_catalogue(command)
    command.add_argument("--truth", type=Path, help="table with OBJECT_ID, G1, G2")
    _add_settings(command)
    command.add_argument("--output", type=Path, required=True, help="folder of table and figure")


def _quality(options: argparse.Namespace) -> None:
    from constellation.quality.check import format_checks, to_table
    from constellation.quality.plots import plot_quality
    from constellation.quality.report import check_catalogue
    from constellation.tables import write_table
    from shine.atomic import write_atomically

    settings, plan = _settings(options), plan_of(options)
    quality = check_catalogue(options.catalogue, plan, settings, options.truth)
    text = format_checks(quality.checks, settings.stop_on)
    plot_quality(quality, options.output / "quality.png")
    write_table(to_table(quality.checks), options.output / "checks.parquet")
    write_atomically(options.output / "checks.txt", text.encode("utf-8"))
    say(text)


def _describe_gate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--checks", type=Path, required=True, help="checks.parquet of `constellation quality`"
    )
    _add_settings(command)
    command.add_argument("--output", type=Path, required=True, help="stamp of those that passed")


def _gate(options: argparse.Namespace) -> None:
    from constellation.quality.check import read_checks, refuse
    from shine.atomic import write_atomically

    settings = _settings(options)
    refuse(read_checks(options.checks), settings.stop_on, options.checks)
    passed = "".join(f"{name}\n" for name in settings.stop_on)
    write_atomically(options.output, f"these checks did not fail:\n{passed}".encode())


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--settings",
        default="{}",
        help="pipeline YAML, or JSON text of its section quality; without it, the defaults",
    )


def _settings(options: argparse.Namespace):
    from constellation.config import load_section
    from constellation.quality.settings import QualityConfig

    return load_section(QualityConfig, "quality", options.settings)


COMMANDS = {
    "quality": Command(_describe_quality, _quality, "check a catalogue: table, figure"),
    "quality-gate": Command(_describe_gate, _gate, "fail if checks failed that must not"),
}
