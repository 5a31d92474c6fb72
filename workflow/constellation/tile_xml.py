"""The official tiles: DpdMerTile XML files, with each tile's index, centre and true core.

Of such a file four elements are used, wherever they stand and in whatever namespace: `TileIndex`,
`RaCen` and `DecCen` (degrees), and `InnerNUNIQIndex`, the core as NUNIQ numbers of HEALPix cells
with white space between them, in the element itself or in elements inside it. That much is known
from public code of Euclid's ground segment; no file of this kind is public, and polygons, whose
elements are not known, are not read.

The files are not trusted: a document type declaration, without which there are no entities to
expand, is refused.
"""

from __future__ import annotations

from pathlib import Path
from xml.parsers import expat

import numpy as np

from constellation.sphere import Integers, unit_vectors
from constellation.tile_cores import TileCores, outlines
from constellation.tiling import MAX_REACH_DEG, Tiles
from shine.errors import InputError, explain

INDEX, RA, DEC, CORE = ELEMENTS = ("TileIndex", "RaCen", "DecCen", "InnerNUNIQIndex")
FETCH_AGAIN = "Fetch the file again."


def read_xml_tiles(folder: Path) -> Tiles:
    """Read the tiles of all `*.xml` below a folder.

    Raises `InputError` that names the file and the element: a folder without XML, a file that is no
    DpdMerTile, a core that is not where the centre is, a tile in two files.
    """
    paths = sorted(folder.rglob("*.xml"))
    if not paths:
        raise InputError(
            explain(folder, "no XML file", "DpdMerTile XML files", "Check the folder.")
        )
    seen: dict[int, Path] = {}
    rows = []
    for path in paths:
        tile_index, ra, dec, core = _read_tile(path)
        if tile_index in seen:
            raise InputError(
                explain(
                    f"{path}, element {INDEX}",
                    f"tile {tile_index}, which is also that of {seen[tile_index]}",
                    "each tile in one file",
                    "Remove the wrong one.",
                )
            )
        seen[tile_index] = path
        rows.append((tile_index, ra, dec, core))
    index, ra, dec, cores = zip(*rows, strict=True)
    try:
        return Tiles.from_columns(index, ra, dec, TileCores.from_lists(cores))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error


def _read_tile(path: Path) -> tuple[int, float, float, Integers]:
    texts = _texts(path)
    for name in ELEMENTS:
        found = sorted(texts[name])
        if len(found) != 1:
            shown = " and ".join(found) if len(found) < 4 else f"{len(found)} different ones"
            raise InputError(
                explain(
                    f"{path}, element {name}", shown or "none", "one value", "Check the product."
                )
            )
    tile_index = int(_numbers(path, INDEX, texts, np.int64, 1)[0])
    ra, dec = (float(_numbers(path, name, texts, np.float64, 1)[0]) for name in (RA, DEC))
    core = _numbers(path, CORE, texts, np.int64)
    _check(path, (ra, dec), core)
    return tile_index, ra, dec, core


def _numbers(
    path: Path, name: str, texts: dict[str, set[str]], dtype: type, count: int | None = None
) -> np.ndarray:
    """The numbers in the one text of an element: `count` of them, or some."""
    [text] = texts[name]
    words = text.split()
    try:
        numbers = np.array(words, dtype=dtype)
    except (ValueError, OverflowError) as error:
        raise InputError(
            explain(f"{path}, element {name}", f"{text[:40]!r}", "numbers", FETCH_AGAIN)
        ) from error
    if len(numbers) != (count or max(len(numbers), 1)):
        expected = f"{count} number" if count else "numbers"
        raise InputError(
            explain(f"{path}, element {name}", f"{len(numbers)}", expected, FETCH_AGAIN)
        )
    return numbers


def _check(path: Path, centre: tuple[float, float], core: Integers) -> None:
    """Raise `InputError` unless the core is made of cells near the centre (degrees)."""
    ra, dec = centre
    if not (np.isfinite(ra) and abs(dec) <= 90.0):
        raise InputError(
            explain(f"{path}, elements {RA} and {DEC}", f"{ra}, {dec}", "degrees", FETCH_AGAIN)
        )
    where = f"{path}, element {CORE}"
    try:
        TileCores.from_lists([core])
    except InputError as error:
        raise InputError(f"{where}: {error}. {FETCH_AGAIN}") from error
    # ownership looks no further for a tile than this
    far = outlines(core, 1) @ unit_vectors(ra, dec) < np.cos(np.deg2rad(MAX_REACH_DEG))
    if far.any():
        raise InputError(
            explain(
                where,
                f"cell {core[far.any(axis=1)][0]}",
                f"cells within {MAX_REACH_DEG:g} deg of the centre",
                FETCH_AGAIN,
            )
        )


def _texts(path: Path) -> dict[str, set[str]]:
    """The different texts of the elements that are used, those of elements inside them included."""
    reader = _Reader()
    try:
        with path.open("rb") as stream:
            reader.parser.ParseFile(stream)
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror}") from error
    except expat.ExpatError as error:
        raise InputError(
            explain(path, f"broken XML ({error})", "a DpdMerTile", FETCH_AGAIN)
        ) from error
    except _DoctypeFound as error:
        raise InputError(
            explain(
                path,
                "a document type declaration",
                "plain XML, without entities",
                "Do not trust the file.",
            )
        ) from error
    return reader.texts


class _DoctypeFound(Exception):
    pass


class _Reader:
    """Collects texts while the parser goes through a file."""

    def __init__(self) -> None:
        self.texts: dict[str, set[str]] = {name: set() for name in ELEMENTS}
        self._open: str | None = None
        self._depth = 0
        self._pieces: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._pieces_of_open
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _refuse(self, *declaration: object) -> None:
        raise _DoctypeFound

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if self._open is not None:
            self._depth += 1
            self._pieces.append(" ")
        elif local in self.texts:
            self._open, self._depth, self._pieces = local, 1, []

    def _pieces_of_open(self, text: str) -> None:
        if self._open is not None:
            self._pieces.append(text)

    def _end(self, name: str) -> None:
        if self._open is None:
            return
        self._depth -= 1
        self._pieces.append(" ")
        if self._depth == 0:
            self.texts[self._open].add(" ".join("".join(self._pieces).split()))
            self._open = None
