"""Sub-commands that measure the biases of the shear."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from constellation.commands import Command, say
from shine.errors import ConfigurationError


def _describe_block(command: argparse.ArgumentParser) -> None:
    command.add_argument("--campaign", type=Path, required=True, help="the campaign's YAML")
    command.add_argument("--case", required=True, help="name of a case in it")
    command.add_argument(
        "--block", type=int, nargs="+", required=True, help="numbers of blocks, from 0"
    )
    command.add_argument(
        "--output", type=Path, nargs="+", required=True, help="the Parquet file of each block"
    )


def _blocks(options: argparse.Namespace) -> list[tuple[int, Path]]:
    """The blocks that are asked for, and where they go."""
    if len(options.block) != len(options.output):
        raise ConfigurationError(
            f"--output: found {len(options.output)} files for {len(options.block)} blocks, "
            "expected one for each. Name as many."
        )
    return list(zip(options.block, options.output, strict=True))


def _block(options: argparse.Namespace) -> None:
    import jax

    from constellation.validation.campaign import load_campaign
    from constellation.validation.records import Cost
    from constellation.validation.runner import run_block

    begin, used = time.perf_counter(), 0.0  # what it took to start belongs to the first
    campaign = load_campaign(options.campaign)
    case = campaign.case(options.case)
    for number, output in _blocks(options):
        output.parent.mkdir(parents=True, exist_ok=True)
        block = run_block(campaign, case, number, output.parent)
        now, cpu_s = time.perf_counter(), time.process_time()
        replace(block, cost=Cost(now - begin, cpu_s - used)).write(output)
        begin, used = now, cpu_s
        if case.field is not None:  # scenes of other shapes: their programs would only pile up
            jax.clear_caches()


def _describe_sample(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", type=Path, required=True, help="folder for the FITS files")


def _sample(options: argparse.Namespace) -> None:
    from constellation.validation.cosmos_sample import fetch_sample

    fetch_sample(options.output)


def _peers(options: argparse.Namespace) -> None:
    from constellation.validation.campaign import load_campaign
    from constellation.validation.peers.run import run_peers

    campaign = load_campaign(options.campaign)
    for number, output in _blocks(options):
        run_peers(campaign, campaign.case(options.case), number).write(output)


def _describe_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("--campaign", type=Path, required=True, help="the campaign's YAML")
    command.add_argument("--blocks", type=Path, required=True, help="folder of {case}/{block}")
    command.add_argument(
        "--peers", type=Path, nargs="*", default=[], help="Parquet files of other codes' blocks"
    )
    command.add_argument("--command", default="make validate-full", help="to quote in the report")
    command.add_argument(
        "--output", type=Path, required=True, help="folder for validation.{json,md,png}"
    )


def _report(options: argparse.Namespace) -> None:
    from constellation.validation.campaign import load_campaign
    from constellation.validation.outcomes import calibrations, outcomes, read_blocks
    from constellation.validation.records import total_cost
    from constellation.validation.report import Report, write_report
    from constellation.validation.side_by_side import not_asked, read_peers, side_by_side
    from constellation.validation.tables import markdown

    campaign = load_campaign(options.campaign)
    blocks = read_blocks(campaign, options.blocks)
    found = outcomes(campaign, blocks)
    asked = read_peers(campaign, options.peers)
    peers = side_by_side(campaign, blocks, asked)
    coverage = calibrations(campaign, blocks)
    every = [block for own in blocks.values() for block in own]
    report = Report(campaign.seed, found, coverage, options.command, peers, total_cost(every))
    write_report(report, options.output)
    say(markdown(report))
    missing = not_asked(campaign, asked)
    if missing:
        blocks_of = ", ".join(f"{n} of {name}" for name, n in missing.items())
        say(
            f"Blocks that other codes have not measured: {blocks_of}. `make validate-peers` "
            "installs AnaCal and LensMC, asks them, and goes on from here."
        )


def _describe_limits(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", type=Path, required=True, help="a report, validation.json")


def _limits(options: argparse.Namespace) -> int:
    import json

    broken = json.loads(options.json.read_text())["broken_limits"]
    say("\n".join(broken) if broken else "All limits are kept.")
    return 1 if broken else 0


COMMANDS = {
    "validation-block": Command(
        _describe_block, _block, "draw and measure blocks of a validation campaign"
    ),
    "validation-sample": Command(
        _describe_sample, _sample, "fetch the galaxies that Hubble saw, for a validation campaign"
    ),
    "validation-peers": Command(
        _describe_block, _peers, "measure blocks' images with AnaCal and LensMC, if installed"
    ),
    "validation-report": Command(
        _describe_report, _report, "report the biases that a validation campaign measured"
    ),
    "validation-limits": Command(
        _describe_limits, _limits, "say which limits a validation report breaks; 1 if any"
    ),
}
