"""Write docs/data-model.md from the schema in the code: `python docs/write_data_model.py`.

tests/test_repository.py fails when the file is not what this script would write.
"""

from collections.abc import Iterable
from pathlib import Path

from constellation.catalogue.schema import FAILURES, FILES, HEALPIX, ORIGIN
from shine.errors import SourceFlag, Status, SubtileFlag
from shine.result_schema import CONVENTIONS, SCHEMA_VERSION, SHEAR_COLUMNS, SOURCE_COLUMNS

TARGET = Path(__file__).with_name("data-model.md")

HEAD = f"""# Data model

Two Parquet files for each sub-tile, merged into a catalogue for a survey, which has the same
columns and some more. Schema version {SCHEMA_VERSION}. Generated from the code by
`python docs/write_data_model.py`.

Bad input is flagged where it is, and never becomes a NaN or a silent zero of the shear.

Conventions: {CONVENTIONS}.

The metadata of every file hold the git commit, package versions, configuration hash, input hashes
and seed that it depends on, and under `left_out` how many sources each cut took and how many pixels
were masked and why; those of every column its unit and a line of description. What differs
from run to run (times, memory, host, the solver's history) is in `.run.json` beside them.
"""

COLUMNS_HEAD = ("column", "type", "unit", "may be null", "meaning")
CATALOGUE = (
    ("Catalogue: `shear.parquet`, one row per sub-tile: all of the above, and", [HEALPIX, *ORIGIN]),
    ("Catalogue: `sources/*.parquet`, one file per tile: all of the above, and", [HEALPIX]),
    ("Catalogue: `files.parquet`, one row per file of sources", FILES),
    ("Catalogue: `failures.parquet`, one row per sub-tile without a result", FAILURES),
)

# input, and what happens with it
BAD_INPUT = (
    ("pixel or background not finite", "weight 0; counted in the log"),
    ("RMS not finite, zero or negative, or a flagged pixel", "weight 0; counted in the log"),
    ("weight map zero, negative or not finite", "weight 0; counted in the log"),
    ("source without a valid pixel", "NOT_OBSERVED, no values; carries no shear"),
    (
        "PSF stamp of zeros or not finite",
        "sources whose PSF would rest on it are not fitted to that quadrant: BAD_PSF",
    ),
    (
        "all stamps of a PSF grid broken, or none fits the telescope",
        "the sub-tile fails with exit status 3, naming file and HDU",
    ),
    ("flux not finite or not positive", "BAD_FLUX, not modelled"),
    ("position not finite", "BAD_POSITION, not modelled"),
    (
        "size not measured, or unresolved",
        "SIZE_UNKNOWN, SIZE_FLOORED: the fit starts from a default",
    ),
    ("sources at identical positions", "one blend, fitted together; the priors keep it finite"),
    ("fitted shape near the edge of the unit disc", "AT_BOUND; the fit cannot leave the disc"),
    ("too large a blend", "divided at its weakest links, NEAR_NEIGHBOUR"),
)


def data_model() -> str:
    """The whole document."""
    parts = [HEAD]
    for title, columns in (
        ("Shear: `{tile}_{row}_{col}.parquet`, one row", SHEAR_COLUMNS),
        ("Sources: `{tile}_{row}_{col}_sources.parquet`, one row per core source", SOURCE_COLUMNS),
    ):
        rows = [
            (c.name, str(c.type), c.unit, "yes" if c.nullable else "no", c.description)
            for c in columns
        ]
        parts.append(_section(title, COLUMNS_HEAD, rows))
    for title, fields in CATALOGUE:
        rows = [
            (
                field.name,
                str(field.type),
                field.metadata[b"unit"].decode(),
                "yes" if field.nullable else "no",
                field.metadata[b"description"].decode(),
            )
            for field in fields
        ]
        parts.append(_section(title, COLUMNS_HEAD, rows))
    status = [(str(int(s)), s.name, s.meaning) for s in Status]
    parts.append(_section("STATUS of the shear row", ("value", "name", "meaning"), status))
    for title, flags in (("shear row", SubtileFlag), ("source rows", SourceFlag)):
        rows = [(str(flag.value.bit_length() - 1), flag.name, flag.meaning) for flag in flags]
        parts.append(_section(f"FLAGS of the {title}", ("bit", "name", "meaning"), rows))
    bad = _section("What becomes of bad input", ("input", "what happens"), BAD_INPUT)
    return "\n".join([*parts, bad])


def _section(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows)]
    return f"## {title}\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(data_model())
