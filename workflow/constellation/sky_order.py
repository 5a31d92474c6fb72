"""The quadrant index in the order of the sky, so that what lies together is read together.

Quadrants are sorted along the Hilbert curve of sphgeom's modified Q3C pixels, which sphgeom, a
dependency already, also gives the envelope of an area in; HEALPix would need another package. Each
row group of the file then is a patch of sky, and the statistics of the column PIXEL tell which.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lsst import sphgeom
from pyarrow import parquet

from constellation.exposure_headers import ROW_SCHEMA
from constellation.spherical import Polygons
from constellation.tiling import Floats, unit_vectors
from shine.atomic import open_atomically

LEVEL = 10  # of the pixels: about 5 arcmin, a little more than a quadrant
PIXELS = sphgeom.Mq3cPixelization(LEVEL)
ROWS_PER_GROUP = 4096
ROWS_AT_A_TIME = 100_000  # to work out where they are
ROW_ORDER = ("OBS_ID", "DITHER", "KIND", "QUADRANT")  # of the rows of one pixel, and of manifests
REACH = "largest_radius_rad"  # in the table's metadata: of the circles around the quadrants

INDEX_SCHEMA = ROW_SCHEMA.append(
    pa.field(
        "PIXEL",
        pa.int64(),
        metadata={"comment": f"of the centre: sphgeom's Mq3cPixelization, level {LEVEL}"},
    )
)
# Names and places repeat: in memory each is held once.
REPEATED = ("QUADRANT", "FRAME", "BACKGROUND", "PSF", "WEIGHT")


def corners_of(table: pa.Table) -> Floats:
    """Unit vectors (n, 4, 3) of the corners of a table's quadrants."""
    ra, dec = (
        table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
        for name in ("RA_CORNERS", "DEC_CORNERS")
    )
    return unit_vectors(ra, dec)


def encoded(table: pa.Table) -> pa.Table:
    """The columns of ROW_SCHEMA, and no other metadata, with what repeats held once."""
    columns = [
        table[name].dictionary_encode() if name in REPEATED else table[name]
        for name in ROW_SCHEMA.names
    ]
    fields = [
        field.with_type(column.type) for field, column in zip(ROW_SCHEMA, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def in_sky_order(table: pa.Table) -> pa.Table:
    """Sort rows along the sky, adding the column PIXEL and the largest radius as metadata."""
    pixels = np.empty(len(table), dtype=np.int64)
    reach_rad = 0.0
    for start in range(0, len(table), ROWS_AT_A_TIME):
        some = slice(start, start + ROWS_AT_A_TIME)
        centres, radii = Polygons(corners_of(table[some])).circles
        pixels[some] = [PIXELS.index(sphgeom.UnitVector3d(*centre)) for centre in centres.tolist()]
        reach_rad = max(reach_rad, float(radii.max()))
    table = table.append_column(INDEX_SCHEMA.field("PIXEL"), pa.array(pixels))
    # names are sorted as texts, however they are encoded
    keys = {name: _sortable(table[name]) for name in ("PIXEL", *ROW_ORDER)}
    order = pc.sort_indices(pa.table(keys), [(name, "ascending") for name in keys])
    return table.take(order).replace_schema_metadata({REACH: repr(reach_rad)})


def write_index(table: pa.Table, path: Path) -> None:
    """Write an index that is in the order of the sky, atomically; equal tables, equal bytes."""
    schema = INDEX_SCHEMA.with_metadata(table.schema.metadata)
    with (
        open_atomically(path) as stream,
        parquet.ParquetWriter(
            stream,
            schema,
            compression="zstd",
            use_dictionary=[*REPEATED, "OBS_ID", "DITHER", "KIND", "NX", "NY"],
            write_statistics=["PIXEL"],
        ) as writer,
    ):
        for start in range(0, len(table), ROWS_PER_GROUP):
            # as plain texts: else each group would have the dictionary of the whole survey
            writer.write_table(table.slice(start, ROWS_PER_GROUP).cast(schema))


def _sortable(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if not pa.types.is_dictionary(column.type):
        return column
    encoded_column = column.unify_dictionaries().combine_chunks()
    texts = encoded_column.dictionary
    ranks = np.empty(len(texts), dtype=np.int64)
    ranks[pc.sort_indices(texts).to_numpy()] = np.arange(len(texts))
    return pa.array(ranks).take(encoded_column.indices)
