"""The nearest object of another catalogue to each source, by great-circle distance.

The other catalogue is in memory, in a k-d tree of its unit vectors, whose chords c are angles
2 arcsin(c / 2): so neither 0h nor a pole is special. The sources come file by file, and files that
are too far from any object are not opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from constellation.catalogue.other import OtherCatalogue
from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.rows import Rows
from constellation.catalogue.schema import SOURCES
from constellation.sphere import unit_vectors
from shine.errors import InputError, explain

PREFIX = "OTHER_"
ARCSEC_PER_RADIAN = np.degrees(1.0) * 3600.0
_ABOUT = (
    pa.field(
        "SEPARATION",
        pa.float64(),
        False,
        {"unit": "arcsec", "description": "distance of source and object on the sky"},
    ),
    pa.field(
        "N_WITHIN",
        pa.int32(),
        False,
        {"unit": "", "description": "objects within the radius of the source"},
    ),
    pa.field(
        "N_SHARING",
        pa.int32(),
        False,
        {"unit": "", "description": "sources whose nearest object is this one"},
    ),
)


@dataclass(frozen=True)
class Matches:
    """The matched sources of one file: their rows in it, the object of each, and how sure it is."""

    path: str
    row: NDArray[np.int64]  # (m,)
    other: NDArray[np.int64]  # (m,) row of the other catalogue
    separation_arcsec: NDArray[np.float64]  # (m,)
    n_within: NDArray[np.int32]  # (m,)


@dataclass(frozen=True)
class CrossMatch:
    """Each source with its nearest object within a radius, if it has one."""

    catalogue: PublishedCatalogue
    other: OtherCatalogue
    matches: tuple[Matches, ...]  # of the files that have any

    @classmethod
    def of(
        cls, catalogue: PublishedCatalogue, other: OtherCatalogue, radius_arcsec: float
    ) -> CrossMatch:
        """Match by positions alone; raises `InputError` if the sources cannot be read."""
        placed = np.flatnonzero(np.isfinite(other.ra_deg) & np.isfinite(other.dec_deg))
        if not len(placed):
            found = f"no position in {other.table.num_rows} rows"
            action = "Check the file and the columns of its positions."
            raise InputError(explain(other.path, found, "at least one", action))
        tree = cKDTree(other.vectors[placed])
        radius = radius_arcsec / ARCSEC_PER_RADIAN
        found = []
        for path in _files_near(catalogue, tree, radius):
            table = catalogue.sources_in(path, ["RA", "DEC"])
            matches = _nearest(path, table, tree, radius)
            if len(matches.row):
                others = placed[matches.other]
                found.append(
                    Matches(path, matches.row, others, matches.separation_arcsec, matches.n_within)
                )
        return cls(catalogue, other, tuple(found))

    @property
    def claims(self) -> NDArray[np.int32]:
        """(n,) how many sources each object of the other catalogue is the nearest of."""
        count = np.zeros(self.other.table.num_rows, np.int32)
        for matches in self.matches:
            np.add.at(count, matches.other, 1)
        return count

    def summary(self) -> list[str]:
        """Lines that say how many matched, and how many matches are ambiguous."""
        n_sources = sum(self.catalogue.files["N_ROWS"].to_pylist())
        n_matched = sum(len(matches.row) for matches in self.matches)
        n_crowded = sum(int((matches.n_within > 1).sum()) for matches in self.matches)
        claims = self.claims
        return [
            f"{n_matched} of {n_sources} sources have an object of {self.other.path} in reach",
            f"{n_crowded} of them have several, of which the nearest was taken",
            f"{int((claims > 0).sum())} of {len(claims)} objects are matched, "
            f"{int((claims > 1).sum())} of them to several sources",
        ]

    def rows(self, columns: Sequence[str] | None = None) -> Rows:
        """The matched sources, and the columns of their objects with a prefix."""
        names = SOURCES.names if columns is None else list(columns)
        others = [field.with_name(PREFIX + field.name) for field in self.other.table.schema]
        schema = pa.schema([*(SOURCES.field(name) for name in names), *others, *_ABOUT])
        return Rows("MATCHES", schema, self._pieces)

    def _pieces(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        own = [name for name in columns if name in SOURCES.names]
        foreign = [name for name in columns if name.startswith(PREFIX)]
        objects = self.other.table.rename_columns(
            [PREFIX + name for name in self.other.table.column_names]
        ).select(foreign)
        claims = self.claims
        for matches in self.matches:
            # a table without columns would have no rows
            table = self.catalogue.sources_in(matches.path, own or ["OBJECT_ID"])
            parts = dict(zip(table.column_names, table.take(matches.row).columns, strict=True))
            parts |= dict(zip(foreign, objects.take(matches.other).columns, strict=True))
            parts["SEPARATION"] = pa.array(matches.separation_arcsec)
            parts["N_WITHIN"] = pa.array(matches.n_within)
            parts["N_SHARING"] = pa.array(claims[matches.other])
            yield pa.table({name: parts[name] for name in columns})


def _files_near(catalogue: PublishedCatalogue, tree: cKDTree, radius: float) -> list[str]:
    """The files that can hold a source within a radius (rad) of any object."""
    files = catalogue.files.filter(catalogue.files["RA"].is_valid())
    if not files.num_rows:
        return []
    centres = unit_vectors(files["RA"].to_numpy(), files["DEC"].to_numpy())
    reach = np.minimum(np.radians(files["RADIUS"].to_numpy()) + radius, np.pi) * (1.0 + 1e-9)
    nearest, _ = tree.query(centres)
    near = _angle(nearest) <= reach + 1e-12
    return files.filter(pa.array(near))["PATH"].to_pylist()


def _nearest(path: str, table: pa.Table, tree: cKDTree, radius: float) -> Matches:
    ra, dec = (np.asarray(table[name].to_numpy(), np.float64) for name in ("RA", "DEC"))
    rows = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    vectors = unit_vectors(ra[rows], dec[rows])
    chord = 2.0 * np.sin(min(radius, np.pi) / 2.0)
    distance, other = tree.query(vectors, distance_upper_bound=chord)
    hit = np.isfinite(distance)
    within = tree.query_ball_point(vectors[hit], chord, return_length=True)
    return Matches(
        path,
        rows[hit],
        other[hit],
        _angle(distance[hit]) * ARCSEC_PER_RADIAN,
        np.maximum(within, 1).astype(np.int32),
    )


def _angle(chord: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))
