"""The sub-commands of `constellation`, and what they share.

A module here imports at its top what is light; the rest is imported by the command that needs it,
so that `--help` and errors come at once.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TextIO

from shine.errors import InputError


class Command(NamedTuple):
    """A sub-command: what declares its options, what runs it, and a line of help."""

    describe: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    help: str


class ReaderGone(Exception):
    """Whatever read what is printed has seen enough, as `head` does."""


def say(text: str, stream: TextIO | None = None) -> None:
    """Print for the user; raises `ReaderGone`."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # what is left in the buffer would be tried again, and complained of, when Python ends
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        raise ReaderGone from None


def add_tiling(command: argparse.ArgumentParser) -> None:
    """Declare the option that `plan_of` reads."""
    command.add_argument(
        "--tiling", required=True, help="pipeline YAML, or JSON text of its section tiling"
    )


def add_catalogue(command: argparse.ArgumentParser) -> None:
    """Declare the option that names the published catalogue."""
    command.add_argument(
        "--catalogue",
        type=Path,
        default=Path("results/catalogue"),
        help="folder of the published catalogue; default: %(default)s",
    )


def plan_of(options: argparse.Namespace, shard=None):
    """The plan that the options ask for, or the part of it in a shard."""
    from constellation.config import TilingConfig, load_section
    from constellation.plan import Plan

    return Plan.from_config(load_section(TilingConfig, "tiling", options.tiling), shard)


def check_planned(plan, tile_id: int) -> None:
    """Raise `InputError` if no sub-tile of the tile is planned."""
    if tile_id not in plan.by_tile:
        raise InputError(f"tile {tile_id}: no sub-tile of it is planned")


def positive(text: str) -> float:
    """A positive number; raises `ArgumentTypeError`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0.0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"found {text}, expected a positive number")
    return value


def count(text: str) -> int:
    """A positive whole number; raises `ArgumentTypeError`."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"found {text}, expected a positive whole number")
    return int(text)
