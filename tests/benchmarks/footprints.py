"""The footprints of a survey that was never made, and pairs of polygons that nearly touch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from constellation.sky_order import INDEX_SCHEMA
from constellation.spherical import Polygons, convex_polygon
from constellation.tiling import RADIANS_PER_ARCMIN, Flags, Floats, TangentPlane, Tiles

RADIANS_PER_ARCSEC = RADIANS_PER_ARCMIN / 60.0
# 6 x 6 CCDs of four quadrants of 204.8" x 206.6", with the gaps of the mock survey
CCD_ARCSEC = (409.6, 413.2)
GAP_ARCSEC = (19.0, 70.0)
FIELD_ARCMIN = (42.5, 47.2)
DITHERS_ARCSEC = ((0.0, 0.0), (50.0, 100.0), (50.0, 200.0), (100.0, 300.0))
FIELDS_AT_A_TIME = 250
ARCHIVE = "s3://nasa-irsa-euclid-q1/q1/VIS"


def rings(n: int, step_arcmin: tuple[float, float]) -> tuple[Floats, Floats]:
    """Right ascension and declination (deg) of n centres in rings from the south pole upward."""
    ra, dec = [np.zeros(1)], [np.full(1, -90.0)]
    width_deg, height_deg = (step / 60.0 for step in step_arcmin)
    while sum(map(len, ra)) < n:
        ring_dec = -90.0 + height_deg * len(ra)
        n_ring = int(np.ceil(360.0 * np.cos(np.deg2rad(ring_dec)) / width_deg))
        ra.append(np.arange(n_ring) * 360.0 / n_ring)
        dec.append(np.full(n_ring, ring_dec))
    return np.concatenate(ra)[:n], np.concatenate(dec)[:n]


def covered_tiles(n: int, n_fields: int) -> Tiles:
    """n tiles, all where the survey is: more crowded than real ones where the survey is small."""
    step = np.sqrt(FIELD_ARCMIN[0] * FIELD_ARCMIN[1] * n_fields / n) * 0.99
    return Tiles.from_columns(range(1, n + 1), *rings(n, (step, step)))


def survey(n_fields: int) -> pa.Table:
    """Rows for `in_sky_order`: n_fields fields of four dithers of 144 quadrants, in their order."""
    rng = np.random.default_rng(7)
    plane = _focal_plane()
    centres = np.stack(rings(n_fields, FIELD_ARCMIN), axis=-1)
    corners = [
        _on_sky(centres[start : start + FIELDS_AT_A_TIME], plane, rng)
        for start in range(0, n_fields, FIELDS_AT_A_TIME)
    ]
    ra, dec = (np.concatenate([part[axis] for part in corners]).reshape(-1) for axis in (0, 1))
    n_exposures, n_dithers = n_fields * len(DITHERS_ARCSEC), len(DITHERS_ARCSEC)
    n = n_exposures * len(plane)
    exposure = np.repeat(np.arange(n_exposures, dtype=np.int32), len(plane))
    obs_id, dither = exposure // n_dithers + 1, exposure % n_dithers
    names = [f"{r}-{c}.{letter}" for r in range(1, 7) for c in range(1, 7) for letter in "EFGH"]
    stem = "{}/{:06d}/EUC_VIS_{}-{:06d}-{:02d}-1-0000000__20241017T042839.422992Z.fits"
    places = {
        column: [
            stem.format(ARCHIVE, e // n_dithers + 1, tag, e // n_dithers + 1, e % n_dithers)
            for e in range(n_exposures)
        ]
        for column, tag in (
            ("FRAME", "SWL-DET"),
            ("BACKGROUND", "SWL-BKG"),
            ("PSF", "GRD-PSF"),
            ("WEIGHT", "SWL-WGT"),
        )
    }
    columns = {
        "OBS_ID": obs_id.astype(np.int64),
        "DITHER": dither.astype(np.int16),
        "KIND": np.ones(n, np.int8),
        "QUADRANT": pa.DictionaryArray.from_arrays(
            np.tile(np.arange(len(plane), dtype=np.int32), n_exposures), names
        ),
        **{name: pa.DictionaryArray.from_arrays(exposure, place) for name, place in places.items()},
        "NX": np.full(n, 2048, np.int32),
        "NY": np.full(n, 2066, np.int32),
        "EXPTIME": np.full(n, 560.52),
        "MAGZEROP": np.repeat(rng.normal(24.57, 0.01, n_exposures), len(plane)),
        "MJD": 60500.0 + exposure * 0.01,
        "RA_CORNERS": pa.FixedSizeListArray.from_arrays(ra, 4),
        "DEC_CORNERS": pa.FixedSizeListArray.from_arrays(dec, 4),
        "DATASUM": pa.array(rng.integers(10**8, 2**32, n)).cast(pa.string()),
        "STAMP": _hexadecimal(n, rng),
    }
    return pa.table({name: columns[name] for name in INDEX_SCHEMA.names if name in columns})


def _focal_plane() -> Floats:
    """Corners (144, 4, 2) of the quadrants, xi and eta in arcsec from the field's centre."""
    size, gap = np.array(CCD_ARCSEC), np.array(GAP_ARCSEC)
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    quarters = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    ccds = np.array([[c, r] for r in range(6) for c in range(6)])
    lower = (ccds * (size + gap))[:, None] + quarters * size / 2
    corners = lower[:, :, None] + unit * size / 2
    return corners.reshape(-1, 4, 2) - (6 * size + 5 * gap) / 2


def _on_sky(centres: Floats, plane: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Right ascension and declination (deg) of the corners of all dithers of some fields."""
    ra, dec = [], []
    for ra0, dec0 in centres:
        offsets = np.array(DITHERS_ARCSEC) + rng.normal(0.0, 2.0, (len(DITHERS_ARCSEC), 2))
        tangents = (plane + offsets[:, None, None]) * RADIANS_PER_ARCSEC
        vectors = TangentPlane.at(ra0, dec0).unproject(tangents[..., 0], tangents[..., 1])
        ra.append(np.rad2deg(np.arctan2(vectors[..., 1], vectors[..., 0])) % 360.0)
        dec.append(np.rad2deg(np.arcsin(vectors[..., 2])))
    return np.concatenate(ra), np.concatenate(dec)


def _hexadecimal(n: int, rng: np.random.Generator) -> pa.Array:
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)[rng.integers(0, 16, 16 * n, np.uint8)]
    offsets = np.arange(0, 16 * n + 1, 16, dtype=np.int32)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(digits))


def near_misses(n: int, seed: int) -> tuple[Floats, Floats]:
    """n pairs of an area and a quadrant (n, 4, 3) each, about as often apart as not.

    A third each lie anywhere, within 10 arcmin of a pole, and across 0h. Of every hundred pairs,
    five share a corner.
    """
    rng = np.random.default_rng(seed)
    areas, quadrants = np.empty((n, 4, 3)), np.empty((n, 4, 3))
    for number in range(n):
        ra, dec = _place(number % 3, rng)
        areas[number] = _box(TangentPlane.at(ra, dec), np.zeros(2), rng.uniform(5.0, 15.0, 2), rng)
        plane = TangentPlane.at(ra, dec)
        size = rng.uniform(3.0, 4.0, 2)
        quadrants[number] = _box(plane, rng.uniform(-11.0, 11.0, 2), size, rng)
        if number % 100 < 5:
            quadrants[number] = _at_a_corner(areas[number], size)
    return areas, quadrants


def disagreements(areas: Floats, quadrants: Floats) -> tuple[Flags, Flags]:
    """What we say of each pair, and what sphgeom's polygons say: whether they overlap."""
    ours = np.array(
        [len(Polygons(q[None]).overlapping(a)) == 1 for a, q in zip(areas, quadrants, strict=True)]
    )
    theirs = [
        not convex_polygon(quadrant).isDisjointFrom(convex_polygon(area))
        for area, quadrant in zip(areas, quadrants, strict=True)
    ]
    return ours, np.array(theirs)


def _place(kind: int, rng: np.random.Generator) -> tuple[float, float]:
    if kind == 0:
        return rng.uniform(0.0, 360.0), float(np.rad2deg(np.arcsin(rng.uniform(-1.0, 1.0))))
    if kind == 1:
        return rng.uniform(0.0, 360.0), rng.choice([-1.0, 1.0]) * (90.0 - rng.uniform(0.0, 0.17))
    return rng.normal(0.0, 0.05) % 360.0, rng.uniform(-80.0, 80.0)


def _box(plane: TangentPlane, centre: Floats, size: Floats, rng: np.random.Generator) -> Floats:
    """Corners (4, 3) of a turned and slightly distorted box; centre and size in arcmin."""
    turn = rng.uniform(0.0, 2.0 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2.0
    corners = corners @ np.array([[cos, sin], [-sin, cos]]) + rng.normal(0.0, 0.01, (4, 2))
    corners = corners[:: rng.choice([-1, 1])]  # either way round
    return plane.unproject(*((corners + centre) * RADIANS_PER_ARCMIN).T)


def _at_a_corner(area: Floats, size: Floats) -> Floats:
    """A box outside an area that has the area's first corner in common with it."""
    corner = area[0]
    outward = corner - area.mean(axis=0)
    outward -= (outward @ corner) * corner
    outward /= np.linalg.norm(outward)
    aside = np.cross(corner, outward)
    far, wide = size * RADIANS_PER_ARCMIN / 2.0
    others = [
        corner + far * outward + wide * aside,
        corner + 2.0 * far * outward,
        corner + far * outward - wide * aside,
    ]
    return np.array([corner, *(v / np.linalg.norm(v) for v in others)])
