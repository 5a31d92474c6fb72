"""Published catalogues of simulated galaxies: positions and shears in, samples of shapes out."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa

from constellation.catalogue.published import PublishedCatalogue
from constellation.products.reading import Galaxies
from shine.errors import Status
from shine.population import ShapePrior, ShapeSamples, infer_shear
from shine.result_schema import (
    LOG_WEIGHT_STEPS,
    SHAPE_STEPS,
    SHEAR_SCHEMA,
    SOURCE_SCHEMA,
)
from tests.constellation.fake_catalogue import publish_plainly
from tests.shine.simulated_shapes import SIGMA, intrinsic, lens, samples_of

TILE = 7
_LOWEST = -32.0  # of a log weight that is stored
DEG = np.pi / 180.0


def shapes(shear, rng, count=32, noise=0.05, paired=True):
    """Samples of galaxies of given shears; of each two of one shear the shapes cancel."""
    n = len(shear)
    e = intrinsic(n, rng)
    e[np.abs(e) > 0.85] = 0.0  # or all of its samples may lie beyond the disc
    if paired:
        e[1::2] = -e[: n - n % 2 : 2]
    away = noise * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    return samples_of(lens(e, shear) + away, count, rng, noise)


def publish(folder: Path, ra, dec, samples: ShapeSamples, **columns) -> Galaxies:
    """A catalogue of these galaxies, and what products read of it.

    `columns` may give TILE_ID, SUBTILE_ROW or SUBTILE_COL of each; `status` that of sub-tiles.
    """
    status = columns.pop("status", {})
    n = len(ra)
    zero = np.zeros(n, int)
    values = {
        "TILE_ID": np.full(n, TILE),
        "SUBTILE_ROW": zero,
        "SUBTILE_COL": zero,
        "OBJECT_ID": np.arange(n),
        "RA": ra,
        "DEC": dec,
        "KIND": zero,
        "N_PIXELS": zero,
        "N_EXPOSURES": zero,
        "FLAGS": zero,
        "BLEND": samples.blend,
        **_stored(samples),
        **columns,
    }
    sources = pa.table(
        {
            field.name: pa.array(values[field.name], field.type)
            if field.name in values
            else pa.nulls(n, field.type)
            for field in SOURCE_SCHEMA
        }
    )
    shear = pa.Table.from_pylist(_shear_rows(values, samples, status), SHEAR_SCHEMA)
    return Galaxies(PublishedCatalogue(publish_plainly(folder, shear, sources)))


def _stored(samples: ShapeSamples) -> dict[str, pa.Array]:
    weight = samples.log_weight - samples.log_weight.max(axis=1, keepdims=True)
    kept = (np.abs(samples.shape) < 1.0) & (weight > _LOWEST)
    ends = np.append(0, np.cumsum(kept.sum(axis=1)))
    shape = samples.shape[kept]
    pairs = np.rint(SHAPE_STEPS * np.stack([shape.real, shape.imag], axis=-1)).ravel()
    weights = np.rint(LOG_WEIGHT_STEPS * weight[kept])
    lists = (("SHAPE_SAMPLES", 2 * ends, pairs), ("SAMPLE_LOG_WEIGHT", ends, weights))
    return {
        name: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(x.astype(np.int16)))
        for name, offsets, x in lists
    }


def _shear_rows(values: dict, samples: ShapeSamples, status: dict) -> list[dict]:
    names = ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL")
    keys = np.column_stack([values[name] for name in names])
    rows = []
    for key in np.unique(keys, axis=0):
        inside = (keys == key).all(axis=1)
        found = infer_shear(samples.select(inside), ShapePrior(0.25))
        error = np.sqrt(np.diag(found.covariance))
        middle = np.exp(1j * DEG * values["RA"][inside]).mean()
        rows.append(
            dict(zip(names, key.tolist(), strict=True))
            | {
                "RA": float(np.angle(middle) / DEG % 360.0),
                "DEC": float(np.mean(values["DEC"][inside])),
                "G1": found.shear[0],
                "G2": found.shear[1],
                "G1_ERR": error[0],
                "G2_ERR": error[1],
                "G1G2_COV": found.covariance[0, 1],
                "N_SOURCES": found.n_galaxies,
                "METHOD": "marginal",
                "STATUS": int(status.get(tuple(key.tolist()), Status.OK)),
                "FLAGS": 0,
                "N_MODELLED": found.n_galaxies,
                "N_QUADRANTS": 1,
                "N_PIXELS": 1,
                "ELLIPTICITY_SIGMA": found.ellipticity_sigma,
                "ELLIPTICITY_SIGMA_ERR": found.ellipticity_sigma_err,
            }
        )
    return rows


def galsim_shear(cluster, west_arcsec, north_arcsec, reduced=True):
    """The shear that GalSim gives at sources of redshift 1."""
    with warnings.catch_warnings():
        # GalSim 2.8 divides in a way that NumPy 2.4 warns of, for the sake of the centre
        warnings.filterwarnings("ignore", "'where' used without 'out'", UserWarning)
        return cluster.getShear((west_arcsec, north_arcsec), 1.0, reduced=reduced)


def carried(ra, dec, to_ra, to_dec):
    """By which angle parallel transport turns each shape: by rotating the sphere itself."""
    turns = []
    for here, there in zip(
        np.broadcast_to(np.column_stack([ra, dec]), (len(ra), 2)),
        np.broadcast_to(np.column_stack([to_ra, to_dec]), (len(ra), 2)),
        strict=True,
    ):
        (centre, west, _), (target, to_west, to_north) = _axes(*here), _axes(*there)
        axis = np.cross(centre, target)
        sine, cosine = np.linalg.norm(axis), centre @ target
        axis /= sine
        moved = west * cosine + np.cross(axis, west) * sine + axis * (axis @ west) * (1 - cosine)
        turns.append(np.arctan2(moved @ to_north, moved @ to_west))
    return np.array(turns)


def _axes(ra, dec):
    ra, dec = DEG * ra, DEG * dec
    centre = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    west = np.array([np.sin(ra), -np.cos(ra), 0.0])
    return centre, west, np.cross(west, centre)


SIGMA_E = SIGMA
