"""Sub-commands that measure the biases of the shear."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, say


def _describe_block(command: argparse.ArgumentParser) -> None:
    command.add_argument("--campaign", type=Path, required=True, help="the campaign's YAML")
    command.add_argument("--case", required=True, help="name of a case in it")
    command.add_argument("--block", type=int, required=True, help="number of the block, from 0")
    command.add_argument("--output", type=Path, required=True, help="the block's Parquet file")


def _block(options: argparse.Namespace) -> None:
    from constellation.validation.campaign import load_campaign
    from constellation.validation.runner import run_block

    campaign = load_campaign(options.campaign)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    block = run_block(campaign, campaign.case(options.case), options.block, options.output.parent)
    block.write(options.output)


def _describe_sample(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", type=Path, required=True, help="folder for the FITS files")


def _sample(options: argparse.Namespace) -> None:
    from constellation.validation.cosmos_sample import fetch_sample

    fetch_sample(options.output)


def _peers(options: argparse.Namespace) -> None:
    from constellation.validation.asking import shears
    from constellation.validation.campaign import load_campaign
    from constellation.validation.drawing.scene import GridScene
    from constellation.validation.peers.run import run_peers

    campaign = load_campaign(options.campaign)
    case = campaign.case(options.case)
    scene = GridScene(case.scene, campaign.seed, options.block)
    block = run_peers(case, scene, shears(case.scene.shear, options.block))
    block.write(options.output)


def _describe_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("--campaign", type=Path, required=True, help="the campaign's YAML")
    command.add_argument("--blocks", type=Path, required=True, help="folder of {case}/{block}")
    command.add_argument("--peers", type=Path, required=True, help="the same of other codes")
    command.add_argument("--command", default="make validate-full", help="to quote in the report")
    command.add_argument(
        "--output", type=Path, required=True, help="folder for validation.{json,md,png}"
    )


def _report(options: argparse.Namespace) -> None:
    from constellation.validation.campaign import load_campaign
    from constellation.validation.outcomes import calibrations, outcomes, read_blocks
    from constellation.validation.report import Report, write_report
    from constellation.validation.side_by_side import read_peers, side_by_side
    from constellation.validation.tables import markdown

    campaign = load_campaign(options.campaign)
    blocks = read_blocks(campaign, options.blocks)
    found = outcomes(campaign, blocks)
    asked = read_peers(campaign, options.peers)
    peers = side_by_side(campaign, blocks, asked)
    coverage = calibrations(campaign, blocks)
    report = Report(campaign.seed, found, coverage, options.command, peers)
    write_report(report, options.output)
    say(markdown(report))
    missing = [case.name for case in campaign.cases if case.peers and case.name not in asked]
    if missing:
        say(
            f"Other codes have not measured {', '.join(missing)}: `make validate-peers` installs "
            "AnaCal and LensMC, asks them, and goes on from here."
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
        _describe_block, _block, "draw and measure one block of a validation campaign"
    ),
    "validation-sample": Command(
        _describe_sample, _sample, "fetch the galaxies that Hubble saw, for a validation campaign"
    ),
    "validation-peers": Command(
        _describe_block, _peers, "measure a block's images with AnaCal and LensMC, if installed"
    ),
    "validation-report": Command(
        _describe_report, _report, "report the biases that a validation campaign measured"
    ),
    "validation-limits": Command(
        _describe_limits, _limits, "say which limits a validation report breaks; 1 if any"
    ),
}
