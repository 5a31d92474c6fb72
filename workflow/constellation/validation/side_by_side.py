"""shine and other codes on the same images: figures of the blocks that the others measured, too."""

from __future__ import annotations

from pathlib import Path

from constellation.validation.campaign import Campaign
from constellation.validation.outcomes import Outcome, outcomes
from constellation.validation.records import Block


def read_peers(campaign: Campaign, folder: Path) -> dict[str, list[Block]]:
    """Other codes' blocks by case, those of `{folder}/{case}/{block}.parquet` that are there."""
    found = {}
    for case in campaign.cases:
        if not case.peers:
            continue
        paths = [folder / case.name / f"{number}.parquet" for number in range(case.peer_blocks)]
        blocks = [Block.read(path) for path in paths if path.exists()]
        if blocks:
            found[case.name] = blocks
    return found


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
