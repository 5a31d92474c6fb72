"""The columns of the two result files, each with its type, unit and one line that explains it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shine.errors import ResultError

SCHEMA_VERSION = "5"
PARAMETERS = ("FLUX", "HALF_LIGHT_RADIUS", "E1", "E2", "OFFSET_U", "OFFSET_V")
N_COVARIANCE = len(PARAMETERS) * (len(PARAMETERS) + 1) // 2

# Samples are stored as whole numbers of these parts: finer than any noise, and two bytes each
SHAPE_STEPS, LOG_WEIGHT_STEPS = 32767, 1000

CONVENTIONS = (
    "u = west, v = north on the tangent plane at each position (GalSim's convention); g1 > 0 "
    "stretches along east-west, g2 > 0 along the direction u = v; g is reduced shear; "
    "|e| = (a - b) / (a + b); pixel (0, 0) is the centre of the first pixel; "
    "missing values are null"
)


class Column(NamedTuple):
    """One column of a result file."""

    name: str
    type: pa.DataType
    unit: str  # empty for pure numbers
    description: str
    nullable: bool = False


_PLACE = (
    Column("TILE_ID", pa.int64(), "", "MER tile"),
    Column("SUBTILE_ROW", pa.int8(), "", "row of the sub-tile, growing northwards"),
    Column("SUBTILE_COL", pa.int8(), "", "column, growing eastwards"),
)


def _psf(of_what: str) -> tuple[Column, ...]:
    """Adaptive moments, of an elliptical Gaussian weight of the PSF's own shape."""
    shape = f"ellipticity of the PSF, pixel included, {of_what}"
    return (
        Column("PSF_E1", pa.float32(), "", f"{shape}: east-west, as g1", True),
        Column("PSF_E2", pa.float32(), "", f"{shape}: along u = v", True),
        Column("PSF_FWHM", pa.float32(), "arcsec", f"its width {of_what}, of that Gaussian", True),
    )


SHEAR_COLUMNS = (
    *_PLACE,
    Column("RA", pa.float64(), "deg", "right ascension of the centre of the core area"),
    Column("DEC", pa.float64(), "deg", "declination of the centre of the core area"),
    Column("G1", pa.float32(), "", "reduced shear, g1 > 0 stretches along east-west", True),
    Column("G2", pa.float32(), "", "reduced shear, along the direction u = v", True),
    Column("G1_ERR", pa.float32(), "", "standard deviation of g1", True),
    Column("G2_ERR", pa.float32(), "", "standard deviation of g2", True),
    Column("G1G2_COV", pa.float32(), "", "covariance of g1 and g2", True),
    Column("N_SOURCES", pa.int32(), "", "core galaxies that the shear rests on"),
    Column("METHOD", pa.string(), "", "estimator"),
    Column(
        "CONVERGENCE",
        pa.float32(),
        "",
        "in errors of the shear: its last move (method map) or its Monte Carlo error",
        True,
    ),
    Column("STATUS", pa.int8(), "", "what became of the sub-tile: shine.errors.Status"),
    Column("FLAGS", pa.int32(), "", "bits of shine.errors.SubtileFlag"),
    Column("N_MODELLED", pa.int32(), "", "all sources modelled, margins included"),
    Column("N_QUADRANTS", pa.int32(), "", "detector quadrants used"),
    Column("N_PIXELS", pa.int64(), "", "unmasked pixels used"),
    Column("CHI2", pa.float64(), "", "chi-square of those pixels at the estimate", True),
    Column(
        "ELLIPTICITY_SIGMA",
        pa.float32(),
        "",
        "dispersion of each component of the intrinsic ellipticities, where inferred",
        True,
    ),
    Column("ELLIPTICITY_SIGMA_ERR", pa.float32(), "", "its standard deviation", True),
    *_psf("mean over the core galaxies used"),
)


def _parameter(name: str, unit: str, description: str) -> tuple[Column, ...]:
    return (
        Column(name, pa.float32(), unit, description, True),
        Column(
            f"{name}_ERR",
            pa.float32(),
            unit,
            f"standard deviation of {name}",
            True,
        ),
    )


SOURCE_COLUMNS = (
    *_PLACE,
    Column("OBJECT_ID", pa.int64(), "", "identifier in the source catalogue"),
    Column("RA", pa.float64(), "deg", "right ascension in the source catalogue", True),
    Column("DEC", pa.float64(), "deg", "declination in the source catalogue", True),
    Column("KIND", pa.int8(), "", "0 carries shear, 1 galaxy that does not, 2 star", True),
    *_parameter("FLUX", "uJy", "total flux of the model"),
    *_parameter("HALF_LIGHT_RADIUS", "arcsec", "circularised half-light radius"),
    *_parameter("E1", "", "intrinsic ellipticity: the sub-tile's shear removed"),
    *_parameter("E2", "", "intrinsic ellipticity: the sub-tile's shear removed"),
    *_parameter("OFFSET_U", "arcsec", "offset from RA, DEC towards west"),
    *_parameter("OFFSET_V", "arcsec", "offset from RA, DEC towards north"),
    Column(
        "COVARIANCE",
        pa.list_(pa.float32(), N_COVARIANCE),
        "products of the parameters' units",
        f"upper triangle, row by row, of the covariance of {', '.join(PARAMETERS)}",
        True,
    ),
    Column("CHI2", pa.float32(), "", "chi-square of the pixels in its blend's stamps", True),
    Column("N_PIXELS", pa.int32(), "", "unmasked pixels in its blend's stamps"),
    Column("N_EXPOSURES", pa.int16(), "", "exposures that see it"),
    *_psf("mean over the quadrants that see it"),
    Column("FLAGS", pa.int32(), "", "bits of shine.errors.SourceFlag"),
    Column("BLEND", pa.int32(), "", "sources of one number were fitted together", True),
    Column(
        "EFFECTIVE_SAMPLES",
        pa.float32(),
        "",
        "effective number of its samples, given the sub-tile's shear and population",
        True,
    ),
    Column(
        "SHAPE_SAMPLES",
        pa.list_(pa.int16()),
        "1/32767",
        "samples of its observed shape: s1 and s2 of the first, of the second, ... (marginal)",
        True,
    ),
    Column(
        "SAMPLE_LOG_WEIGHT",
        pa.list_(pa.int16()),
        "1/1000",
        "natural log of each sample's weight, free of any prior on the shape, given the sub-tile's "
        "distribution of fluxes and sizes; the same for all members of a blend; shine.reinfer "
        "reads it",
        True,
    ),
)


def _schema(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema(
        [
            pa.field(
                column.name,
                column.type,
                column.nullable,
                {"unit": column.unit, "description": column.description},
            )
            for column in columns
        ]
    )


SHEAR_SCHEMA = _schema(SHEAR_COLUMNS)
SOURCE_SCHEMA = _schema(SOURCE_COLUMNS)


def arrow_array(column: Column, values: np.ma.MaskedArray) -> pa.Array:
    """Return an Arrow array of the column's type; NaN and masked values become null.

    Raises ResultError for nulls where none may be, infinite values, and values that do not fit.
    """
    data = values.filled(0)
    missing = np.ma.getmaskarray(values)
    if data.dtype.kind == "f":
        missing = missing | np.isnan(data)
        data = np.where(missing, 0.0, data)
    if missing.any() and not column.nullable:
        raise ResultError(f"{column.name}: {missing.sum()} missing values, and none may be")
    if not np.isfinite(data).all():
        raise ResultError(f"{column.name}: {(~np.isfinite(data)).sum()} infinite values")
    if pa.types.is_fixed_size_list(column.type):
        return _list_array(column.type, data, missing)
    return _cast(column.name, data, column.type, missing)


def _list_array(
    kind: pa.FixedSizeListType, data: NDArray, missing: NDArray[np.bool_]
) -> pa.FixedSizeListArray:
    """Rows of a matrix as lists; a row without any value is null as a whole."""
    flat = _cast("COVARIANCE", data.ravel(), kind.value_type, missing.ravel())
    absent = pa.array(missing.all(axis=1), pa.bool_())
    return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=absent)


def _cast(name: str, data: NDArray, kind: pa.DataType, missing: NDArray[np.bool_]) -> pa.Array:
    if pa.types.is_integer(kind) and data.dtype.kind == "f" and (data != np.floor(data)).any():
        raise ResultError(f"{name}: fractions in a column of integers")
    try:
        array = pa.array(data, mask=missing).cast(kind)
    except pa.ArrowInvalid as error:
        raise ResultError(f"{name}: values do not fit into {kind}: {error}") from error
    if pa.types.is_floating(kind) and not np.isfinite(array.drop_null().to_numpy()).all():
        raise ResultError(f"{name}: values too large for {kind}")
    return array
