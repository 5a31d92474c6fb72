"""Loads mutants of good files, one after the other, and says what came of each.

    python -m tests.shine.euclid.hostile FOLDER KIND COUNT

In a process of its own, which the interpreter's crash or a hang would end.
"""

from __future__ import annotations

import gzip
import io
import json
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits
from pyarrow import parquet

from shine.errors import InputError
from shine.euclid.catalog_files import read_rows
from shine.euclid.data_loader import load_quadrant
from shine.euclid.flags import BAD_PIXELS
from tests.shine.survey_files import Frame, write_frames

SECONDS_PER_MUTANT = 20
IDS = np.arange(50, dtype=np.int64)
KINDS = ("plain", "gzip", "tiles", "catalogue", "parquet")
# what a card's value can become
ABSURD = ("NaN", "1E400", "-5", "0", "1000000000000", "'text'", "T", "1E-300", "", "(1, 2)")


def mutate(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Damage a file in one of many ways; returns which, and the damaged file."""
    name = rng.choice(sorted(MUTATIONS))
    return name, MUTATIONS[name](bytearray(content), rng)


def _truncate(content: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(content[: rng.integers(len(content))])


def _flip(content: bytearray, rng: np.random.Generator) -> bytes:
    for place in rng.integers(len(content), size=rng.integers(1, 20)):
        content[place] ^= 1 << rng.integers(8)
    return bytes(content)


def _fill(content: bytearray, rng: np.random.Generator) -> bytes:
    pattern = [b"\xff" * 4, b"\0" * 4, b"\x7f\x80\0\0", b"\x7f\xc0\0\0"][rng.integers(4)]
    start, words = rng.integers(len(content)), rng.integers(1, 2000)
    end = min(start + 4 * words, len(content))
    content[start:end] = (pattern * words)[: end - start]
    return bytes(content)


def _swap_blocks(content: bytearray, rng: np.random.Generator) -> bytes:
    one, other = 2880 * rng.integers(max(len(content) // 2880, 1), size=2)
    first, second = content[one : one + 2880], content[other : other + 2880]
    content[one : one + 2880], content[other : other + 2880] = second, first
    return bytes(content)


def _drop_block(content: bytearray, rng: np.random.Generator) -> bytes:
    start = 2880 * rng.integers(max(len(content) // 2880, 1))
    del content[start : start + 2880]
    return bytes(content)


def _absurd_card(content: bytearray, rng: np.random.Generator) -> bytes:
    places = [
        start
        for start in range(0, len(content) - 80, 80)
        if content[start + 8 : start + 10] == b"= " and content[start : start + 1].isalpha()
    ]
    if places:
        start = places[rng.integers(len(places))]
        content[start + 10 : start + 80] = f"{ABSURD[rng.integers(len(ABSURD))]:>20s}".ljust(
            70
        ).encode()
    return bytes(content)


MUTATIONS: dict[str, Callable[[bytearray, np.random.Generator], bytes]] = {
    "truncated": _truncate,
    "bits flipped": _flip,
    "block filled": _fill,
    "blocks swapped": _swap_blocks,
    "block dropped": _drop_block,
    "absurd card": _absurd_card,
}


def write_frame(folder: Path, kind: str, sums: bool) -> tuple[list[Path], Callable[[], str]]:
    """Write one quadrant's files; returns them, and what loads them into a digest."""
    suffix = ".fits.gz" if kind == "gzip" else ".fits"
    files = write_frames(folder, Frame(compressed=kind == "tiles"), suffix=suffix)
    paths = [Path(path) for path in (files.sci_path, files.bkg_path, files.psf_path)]
    if not sums:
        for path in paths:
            _remove_sums(path)

    def load() -> str:
        quadrant = load_quadrant(files, int(BAD_PIXELS))
        assert np.isfinite(quadrant.image_adu).all() and np.isfinite(quadrant.weight).all()
        assert (quadrant.weight >= 0.0).all() and 0.0 < quadrant.adu_per_ujy < np.inf
        return quadrant.digest

    return paths, load


def _remove_sums(path: Path) -> None:
    with fits.open(path, disable_image_compression=True) as hdus:
        for hdu in hdus:
            for key in ("CHECKSUM", "DATASUM"):
                hdu.header.remove(key, ignore_missing=True)
        hdus.writeto(stream := io.BytesIO())
    content = stream.getvalue()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_catalogue(folder: Path, kind: str, sums: bool) -> tuple[list[Path], Callable[[], str]]:
    """Write a catalogue; returns it, and what loads it into a text."""
    columns = {"OBJECT_ID": IDS, "FLUX": np.linspace(1.0, 9.0, 50), "FLAG": IDS.astype(np.int32)}
    path = folder / f"catalogue.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table(columns), path, write_page_checksum=True)
    else:
        formats = {"OBJECT_ID": "K", "FLUX": "D", "FLAG": "J"}
        made = [fits.Column(name, formats[name], array=array) for name, array in columns.items()]
        fits.BinTableHDU.from_columns(made).writeto(path, checksum=sums)

    def load() -> str:
        rows = read_rows(str(path), ["FLUX", "FLAG"], IDS)
        return repr({name: values.tolist() for name, values in rows.items()})

    return [path], load


def main(folder: Path, kind: str, count: int, sums: bool) -> None:
    """Print one line of JSON for each mutant."""
    write = write_frame if kind in ("plain", "gzip", "tiles") else write_catalogue
    paths, load = write(folder, kind, sums)
    intact = {path: path.read_bytes() for path in paths}
    expected = load()
    before_mb = _peak_mb()
    for number in range(count):
        rng = np.random.default_rng(number)
        path = paths[rng.integers(len(paths))]
        mutation, content = mutate(intact[path], rng)
        path.unlink()  # a new file, as if it had been fetched
        path.write_bytes(content)
        signal.alarm(SECONDS_PER_MUTANT)
        try:
            outcome = "same" if load() == expected else "other"
        except InputError as error:
            outcome = "named" if str(path) in str(error) else f"not named: {error}"
        except Exception as error:  # noqa: BLE001
            outcome = f"{type(error).__name__}: {error}"
        signal.alarm(0)
        line = {"number": number, "mutation": f"{mutation} in {path.name}", "outcome": outcome}
        print(json.dumps(line | {"grown_mb": _peak_mb() - before_mb}), flush=True)  # noqa: T201
        path.unlink()
        path.write_bytes(intact[path])


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "sums")
