"""Maps of the shear: inferred again from the stored samples, for cells of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from constellation.products.cells import Cells
from constellation.products.frames import great_circles
from constellation.products.reading import Galaxies
from constellation.products.saving import described_table
from constellation.sphere import Integers
from shine.errors import InputError, explain
from shine.population import GroupShears, ShapePrior, infer_groups
from shine.reinference import shape_samples

_DESCRIPTIONS = {
    "HEALPIX": ("", "nested HEALPix index"),
    "TILE_ID": ("", "MER tile"),
    "SUBTILE_ROW": ("", "row of the sub-tile"),
    "SUBTILE_COL": ("", "its column"),
    "ROW": ("", "row of the square, growing to north"),
    "COL": ("", "its column, growing to east"),
    "RA": ("deg", "right ascension of the cell's centre"),
    "DEC": ("deg", "declination of the cell's centre"),
    "G1": ("", "reduced shear in the frame of the cell's centre: g1 > 0 is east-west"),
    "G2": ("", "reduced shear, along the direction u = v"),
    "G1_ERR": ("", "standard deviation of G1"),
    "G2_ERR": ("", "standard deviation of G2"),
    "G1G2_COV": ("", "covariance of G1 and G2"),
    "N_SOURCES": ("", "galaxies in the cell"),
    "ELLIPTICITY_SIGMA": ("", "dispersion of each component of the intrinsic ellipticities"),
    "ELLIPTICITY_SIGMA_ERR": ("", "its standard deviation; 0 where it was given"),
}


def shear_map(galaxies: Galaxies, cells: Cells, prior: ShapePrior) -> pa.Table:
    """The shear of each cell that holds a galaxy, sorted by cell.

    The galaxies' shapes are carried to the frame of the cell's centre, but for sub-tiles. Files are
    read one by one; galaxies of cells that later files also reach are kept, so that the memory is
    that of a file and of the cells that are not complete. Raises `InputError`.
    """
    parts = [_infer(ready, cells, prior) for ready in _complete(galaxies, cells) if ready.num_rows]
    if not parts:
        action = "Infer it with inference.method: marginal."
        where = galaxies.catalogue.folder
        raise InputError(explain(where, "no galaxy with samples", "at least one", action))
    table = pa.concat_tables(parts)
    return table.sort_by([(name, "ascending") for name in table.column_names[: -len(_RESULTS)]])


def _complete(galaxies: Galaxies, cells: Cells) -> Iterator[pa.Table]:
    """The galaxies of all cells, each cell's at once, from one file after another."""
    last = _LastFiles(galaxies, cells)
    held: list[pa.Table] = []
    for n, found in enumerate(galaxies.by_file()):
        table = pa.concat_tables([*held, found])
        ready = last.of(cells.labels(table)) <= n
        yield table.filter(pa.array(ready))
        held = [table.filter(pa.array(~ready)).combine_chunks()]


@dataclass(frozen=True)
class _LastFiles:
    """Which file is the last that has sources of a cell; reads positions alone."""

    galaxies: Galaxies
    cells: Cells

    @cached_property
    def _known(self) -> tuple[Integers, Integers]:
        label, file = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for n, table in enumerate(self.galaxies.catalogue.sources_by_file(self.cells.columns)):
            found = np.unique(self.cells.labels(table.filter(pc.is_valid(table["HEALPIX"]))))
            earlier = ~np.isin(label, found)
            label = np.append(label[earlier], found)
            file = np.append(file[earlier], np.full(len(found), n))
        order = np.argsort(label)
        return label[order], file[order]

    def of(self, labels: Integers) -> Integers:
        known, file = self._known
        return file[np.searchsorted(known, labels)]


def _infer(table: pa.Table, cells: Cells, prior: ShapePrior) -> pa.Table:
    labels = cells.labels(table)
    unique, cell = np.unique(labels, return_inverse=True)
    ra, dec = cells.centres(unique)
    shapes = shape_samples(table)
    if not cells.own_frames:
        here = np.asarray(table["RA"]), np.asarray(table["DEC"])
        shapes = shapes.turned(great_circles(*here, ra[cell], dec[cell]).turn)
    shears = infer_groups(shapes, labels, prior)
    columns = cells.names(unique) | {"RA": ra, "DEC": dec} | _results(shears)
    return described_table(columns, _DESCRIPTIONS, cells.description)


_RESULTS = list(_DESCRIPTIONS)[6:]


def _results(found: GroupShears) -> dict[str, np.ndarray]:
    error = np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))
    return {
        "G1": found.shear[:, 0],
        "G2": found.shear[:, 1],
        "G1_ERR": error[:, 0],
        "G2_ERR": error[:, 1],
        "G1G2_COV": found.covariance[:, 0, 1],
        "N_SOURCES": found.n_galaxies.astype(np.int32),
        "ELLIPTICITY_SIGMA": found.ellipticity_sigma,
        "ELLIPTICITY_SIGMA_ERR": found.ellipticity_sigma_err,
    }
