"""The `mock-survey` command: settings in, survey folder out."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .config import load_mock_config
from .write import write_survey


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--config", type=Path, required=True, help="settings of the mock survey")
    parser.add_argument("--output", type=Path, required=True, help="folder of the survey")
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes (default: one per processor); the files do not depend on it",
    )


def run(args: argparse.Namespace) -> int:
    """Write the survey and say what was written; raises `MockSurveyError`."""
    files = write_survey(load_mock_config(args.config), args.output, args.workers)
    paths = files.all_paths()
    size_gb = sum(path.stat().st_size for path in paths) / 1e9
    sys.stdout.write(f"{len(paths)} files, {size_gb:.2f} GB in {args.output}\n")
    return 0
