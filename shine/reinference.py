"""Shear again from the samples of a catalogue: other regions, other priors, no pixels.

shear = shine.reinfer("results/catalogue/sources")
by_region = shine.reinfer(table, groups=healpix_index)
"""

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from shine.errors import InputError, explain
from shine.population import ShapePrior, ShapeSamples, ShearPosterior, infer_groups, infer_shear
from shine.result_schema import LOG_WEIGHT_STEPS, SHAPE_STEPS

_PLACE = ["TILE_ID", "SUBTILE_ROW", "SUBTILE_COL", "BLEND"]
_COLUMNS = [*_PLACE, "SHAPE_SAMPLES", "SAMPLE_LOG_WEIGHT"]

Table = str | Path | pa.Table


def reinfer(
    samples: Table | Sequence[Table],
    prior: ShapePrior | None = None,
    groups: ArrayLike | None = None,
) -> ShearPosterior | dict[Hashable, ShearPosterior]:
    """The shear of the galaxies in source files of `method: marginal`, or of groups of them.

    `samples` are source files, folders of them or tables (all rows of any number of sub-tiles; rows
    without samples are left out), `prior` what is believed of the shear and the population, and
    `groups` one label per row: with it the answer is a posterior for each label. Galaxies of one
    blend that are in one group share their samples; where a blend is divided between groups, each
    group takes the blend's samples for its own members.

    Raises `InputError` if a file is no source file, a folder holds none, or nothing has samples.
    """
    given = [samples] if isinstance(samples, str | Path | pa.Table) else list(samples)
    table = pa.concat_tables([_read(table) for one in given for table in _files_of(one)])
    has = np.asarray(pa.compute.is_valid(table["SAMPLE_LOG_WEIGHT"]))
    if groups is not None and len(groups) != len(has):
        raise ValueError(f"groups has {len(groups)} labels for {len(has)} rows: give one per row")
    if not has.any():
        action = "Infer it with inference.method: marginal."
        raise InputError(explain("samples", "no row with samples", "samples of galaxies", action))
    shapes = shape_samples(table.filter(pa.array(has)))
    prior = prior or ShapePrior(ellipticity_sigma=0.25)
    if groups is None:
        return infer_shear(shapes, prior)
    label = np.asarray(groups)[has]
    found = infer_groups(shapes, label, prior)
    rows = np.split(np.argsort(label, kind="stable"), np.cumsum(found.n_galaxies)[:-1])
    return {
        value.item(): ShearPosterior(
            shear=found.shear[n],
            covariance=found.covariance[n],
            ellipticity_sigma=float(found.ellipticity_sigma[n]),
            ellipticity_sigma_err=float(found.ellipticity_sigma_err[n]),
            n_galaxies=len(rows[n]),
            _samples=shapes.select(rows[n]),
            _prior=prior,
        )
        for n, value in enumerate(found.label)
    }


def _files_of(table: Table) -> list[Table]:
    """The Parquet files of a folder in the order of their names; anything else as it is."""
    if isinstance(table, pa.Table) or not Path(table).is_dir():
        return [table]
    paths = [path for path in sorted(Path(table).glob("*.parquet")) if path.name[0] != "."]
    if not paths:
        action = "Check the path."
        raise InputError(explain(table, "no Parquet file", "source files", action))
    return paths


def _read(table: Table) -> pa.Table:
    where = "table" if isinstance(table, pa.Table) else table
    try:
        found = table if isinstance(table, pa.Table) else _read_columns(table)
    except (OSError, pa.ArrowException) as error:
        problem = " ".join(str(error).split())
        raise InputError(explain(where, problem, "a source file", "Check the path.")) from error
    absent = [name for name in _COLUMNS if name not in found.column_names]
    if absent:
        action = "Give the _sources.parquet files, or the folder sources of the catalogue."
        raise InputError(explain(where, f"no column {', '.join(absent)}", "a source file", action))
    return found.select(_COLUMNS).replace_schema_metadata()


def _read_columns(path: str | Path) -> pa.Table:
    """The needed columns of a file, as far as it has them."""
    file = pq.ParquetFile(path, pre_buffer=False)
    names = [name for name in _COLUMNS if name in file.schema_arrow.names]
    return file.read(columns=names, use_threads=False)


def shape_samples(table: pa.Table) -> ShapeSamples:
    """The samples in rows of a source table that all have some."""
    weights = table["SAMPLE_LOG_WEIGHT"].combine_chunks()
    count = np.diff(np.asarray(weights.offsets))
    pairs = np.asarray(table["SHAPE_SAMPLES"].combine_chunks().flatten()).reshape(-1, 2)
    real = np.arange(count.max()) < count[:, None]
    shape = np.zeros(real.shape, complex)
    shape[real] = (pairs[:, 0] + 1j * pairs[:, 1]) / SHAPE_STEPS
    log_weight = np.full(real.shape, -np.inf)
    log_weight[real] = np.asarray(weights.flatten()) / LOG_WEIGHT_STEPS
    place = np.column_stack([np.asarray(table[name]) for name in _PLACE])
    return ShapeSamples(shape, log_weight, np.unique(place, axis=0, return_inverse=True)[1].ravel())
