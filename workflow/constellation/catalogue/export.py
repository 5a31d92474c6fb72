"""The published catalogue as one FITS file, for tools that read nothing else."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import pyarrow.compute as pc
from astropy.io import fits

from constellation.catalogue.fits_tables import write_fits
from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.rows import Rows
from constellation.catalogue.schema import SHEAR, SOURCES
from shine.provenance import DISTRIBUTION
from shine.result_schema import CONVENTIONS, SCHEMA_VERSION

SAMPLES = ("SHAPE_SAMPLES", "SAMPLE_LOG_WEIGHT")
# keyword, column of the shear, and what it is
_ORIGIN = (
    ("GITCOMM", "GIT_COMMIT", "commit that last changed shine"),
    ("CODEDIG", "CODE_DIGEST", "SHA-256 of the code"),
    ("CONFHASH", "CONFIG_HASH", "SHA-256 of the settings"),
    ("SEED", "SEED", "of all random numbers"),
)


def export(catalogue: PublishedCatalogue, path: Path, with_samples: bool) -> list[int]:
    """Write the tables SHEAR and SOURCES; returns their numbers of rows.

    The sources are read and written one file after the other. Raises `InputError` if the catalogue
    cannot be read.
    """
    names = [name for name in SOURCES.names if with_samples or name not in SAMPLES]
    sources = Rows("SOURCES", SOURCES, catalogue.sources_by_file).select(names)
    shear = Rows.of(catalogue.shear.select(SHEAR.names).cast(SHEAR), "SHEAR")
    return write_fits(path, [shear, sources], _cards(catalogue), _comment())


def _comment() -> str:
    """The conventions, of which that of missing values is FITS's own."""
    *conventions, _ = CONVENTIONS.rsplit("; ", 1)
    return "; ".join([*conventions, "missing values are NaN, TNULL or an empty text"])


def _cards(catalogue: PublishedCatalogue) -> list[fits.Card]:
    """Where the rows come from; what differs between sub-tiles is in the table SHEAR."""
    cards = [
        fits.Card("CREATOR", f"constellation {metadata.version(DISTRIBUTION)}"),
        fits.Card("SCHEMA", SCHEMA_VERSION, "version of the columns, see docs/data-model.md"),
        fits.Card("SHEARSUM", _sha256(catalogue.folder / "shear.parquet"), ""),
        fits.Card("FILESSUM", _sha256(catalogue.folder / "files.parquet"), ""),
    ]
    for keyword, column, meaning in _ORIGIN:
        values = pc.unique(catalogue.shear[column]).to_pylist()
        value = values[0] if len(values) == 1 else f"{len(values)} values, see table SHEAR"
        comment = meaning if len(str(value)) < 40 else ""  # a long one leaves no room
        cards.append(fits.Card(keyword, value, comment))
    return cards


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
