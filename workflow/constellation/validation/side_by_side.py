"""shine and other codes on the same images: figures of the blocks that the others measured, too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from constellation.validation.campaign import Campaign
from constellation.validation.outcomes import Outcome, outcomes
from constellation.validation.records import Block
from shine.errors import InputError, explain


def read_peers(campaign: Campaign, paths: Iterable[Path]) -> dict[str, list[Block]]:
    """Other codes' blocks by case, from these files and no others.

    Raises `InputError` if a file is no block of the campaign's, or if one block is there twice.
    """
    n_blocks = {case.name: case.blocks for case in campaign.cases}
    found: dict[str, list[Block]] = {}
    for path in paths:
        block = Block.read(path)
        known = found.setdefault(block.case, [])
        problem = None
        if block.block not in range(n_blocks.get(block.case, 0)):
            problem = "which the campaign lacks"
        elif any(other.block == block.block for other in known):
            problem = "which another file has, too"
        if problem is not None:
            what = f"block {block.block} of case {block.case!r}, {problem}"
            action = "Leave the file out, or give the campaign that it belongs to."
            raise InputError(explain(path, what, "each block of the campaign once", action))
        known.append(block)
    return found


def not_asked(campaign: Campaign, peers: dict[str, list[Block]]) -> dict[str, int]:
    """Of how many blocks other codes' answers are wanted and not there, by case."""
    missing = {}
    for case in campaign.cases:
        wanted = set(range(case.peer_blocks if case.peers else 0))
        n_missing = len(wanted - {block.block for block in peers.get(case.name, [])})
        if n_missing:
            missing[case.name] = n_missing
    return missing


def side_by_side(
    campaign: Campaign, blocks: dict[str, list[Block]], peers: dict[str, list[Block]]
) -> list[Outcome]:
    """The figures of all codes from the same blocks, case by case."""
    cases = [case for case in campaign.cases if case.name in peers]
    alone = [case.model_copy(update={"compared_with": None}) for case in cases]
    together = {}
    for name, measured in peers.items():
        numbers = {block.block for block in measured}
        together[name] = [block for block in blocks[name] if block.block in numbers] + measured
    return outcomes(campaign.model_copy(update={"cases": tuple(alone)}), together)
