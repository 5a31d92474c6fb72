"""Command line of one sub-tile: `python -m shine.euclid.run --manifest M --config C --output DIR`.

Several manifests are worked on one after the other in one process, and one that fails does not
stop the others. Exit status (of several, the first failure's): 0 done, 2 wrong configuration,
3 missing or bad input, 4 not converged (the result is written and flagged), 5 out of memory,
130 interrupted.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from shine.errors import (
    INTERRUPTED_EXIT_CODE,
    ConvergenceError,
    MemoryExhaustedError,
    ShineError,
)

__all__ = ["main", "run_subtile"]


def run_subtile(manifest_path: Path | str, config_path: Path | str, output_dir: Path | str) -> Path:
    """See `shine.euclid.subtile.run_subtile`; JAX is imported only when it is called."""
    from shine.euclid import subtile

    return subtile.run_subtile(manifest_path, config_path, output_dir)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sub-tiles; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("shine").setLevel(logging.INFO if options.verbose else logging.WARNING)
    try:
        if options.keep_alive is not None:
            from shine.euclid import worker

            return worker.delegate(_without_keep_alive(options), options.keep_alive)
        _choose_device(options)
    except ShineError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    statuses = []
    for manifest in options.manifest:
        statuses.append(_run_one(manifest, options))
        if statuses[-1] == INTERRUPTED_EXIT_CODE:
            break
    # Not converged is the mildest: its result is there.
    graver = [status for status in statuses if status not in (0, ConvergenceError.exit_code)]
    return (graver or [max(statuses)])[0]


def _without_keep_alive(options: argparse.Namespace) -> list[str]:
    """The arguments of the same work, done by the process that gets them."""
    arguments = ["--manifest", *map(str, options.manifest)]
    arguments += ["--config", str(options.config), "--output", str(options.output)]
    flags = ("verbose", "require_gpu", "share_gpu")
    return arguments + [f"--{flag.replace('_', '-')}" for flag in flags if getattr(options, flag)]


def _choose_device(options: argparse.Namespace) -> None:
    """Before anything is read: a missing graphics card shows at once."""
    from shine.euclid import device

    device.claim_gpu(options.share_gpu)
    if options.require_gpu:
        device.require_gpu()


def _run_one(manifest: Path, options: argparse.Namespace) -> int:
    """Run one sub-tile; a failure is told and does not stop those that follow."""
    try:
        result = run_subtile(manifest, options.config, options.output)
    except ShineError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except MemoryError as error:
        sys.stderr.write(f"error: {manifest}: out of memory: {error}\n")
        return MemoryExhaustedError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted: {manifest}: nothing half-written\n")
        return INTERRUPTED_EXIT_CODE
    sys.stdout.write(f"{result}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shine.euclid.run",
        description="Infer the shear of one sub-tile from Euclid VIS pixels.",
        epilog="exit status: 0 done, 2 configuration, 3 input, 4 not converged, 5 memory, "
        "130 interrupted",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        nargs="+",
        required=True,
        help="the sub-tile's manifest; several are worked on in turn, sharing compiled programs",
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="YAML with the sections inference and gal"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the result files")
    parser.add_argument(
        "--verbose", action="store_true", help="say what is read, cut and fitted, step by step"
    )
    parser.add_argument(
        "--require-gpu", action="store_true", help="fail at once if JAX sees no graphics card"
    )
    parser.add_argument(
        "--share-gpu", action="store_true", help="use a graphics card that others are using, too"
    )
    parser.add_argument(
        "--keep-alive",
        type=int,
        metavar="PID",
        help="work in a process that stays until process PID ends, and serves other commands "
        "with the same PID: what sub-tiles share is then paid for once",
    )
    return parser
