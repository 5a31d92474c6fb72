"""The sub-command that makes tile lists."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, say


def _describe_tiles(command: argparse.ArgumentParser) -> None:
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--area",
        type=float,
        nargs=4,
        metavar=("RA", "DEC", "WIDTH", "HEIGHT"),
        help="make up tiles over a box: centre in deg, size in arcmin",
    )
    source.add_argument(
        "--xml", type=Path, help="folder of DpdMerTile XML files: the official tiles and cores"
    )
    command.add_argument(
        "--output", type=Path, required=True, help="the list, .csv or .parquet (with cores)"
    )


def _tiles(options: argparse.Namespace) -> None:
    from constellation.tile_lists import tiles_over, write_tiles

    if options.xml is not None:
        from constellation.tile_xml import read_xml_tiles

        tiles = read_xml_tiles(options.xml)
        n_cells = len(tiles.cores.nuniq)
        what = f"{len(tiles.index)} tiles, their cores of {n_cells} HEALPix cells"
    else:
        tiles = tiles_over(*options.area)
        what = f"{len(tiles.index)} tiles; their indices are made up, not Euclid's"
    write_tiles(tiles, options.output)
    say(f"{options.output}: {what}")


COMMANDS = {
    "tiles": Command(_describe_tiles, _tiles, "make a tile list: of an area, or from Euclid's XML")
}
