"""Small published catalogues, of which everybody sees who made them, and publishers of them."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.random import Generator

from constellation.config import PipelineConfig, load_config
from constellation.lakehouse.publication import Publication, publish
from constellation.lakehouse.tables import Lakehouse
from shine.result_schema import LOG_WEIGHT_STEPS, SHAPE_STEPS, SHEAR_SCHEMA, SOURCE_SCHEMA

from .fake_catalogue import publish_plainly

N_SOURCES, N_SAMPLES = 40, 5
ROUNDS = 8


def configuration(results: Path, iceberg: Mapping[str, Any] | None = None) -> PipelineConfig:
    """A configuration whose results are in a folder."""
    return load_config(
        {
            "tiling": {"tiles": "tiles.csv"},
            "data": {"survey": "data"},
            "output": {"results": str(results)},
            "iceberg": iceberg,
        }
    )


def assemble(results: Path, made_by: Mapping[int, int], n_sources: int = N_SOURCES) -> Path:
    """A catalogue with these tiles; FLUX and N_MODELLED of each are the number of its maker."""
    folder = results / "catalogue"
    if folder.exists():
        shutil.rmtree(folder)
    shear = pa.concat_tables([_shear(tile, maker) for tile, maker in made_by.items()])
    sources = [_sources(tile, maker, n_sources) for tile, maker in made_by.items()]
    return publish_plainly(folder, shear, pa.concat_tables(sources))


def publish_tiles(
    results: Path, lakehouse: Lakehouse, made_by: Mapping[int, int], **options: Any
) -> bool:
    """Assemble a catalogue of these tiles and publish it."""
    return publish(lakehouse, Publication.of(assemble(results, made_by)), **options)


def makers(lakehouse: Lakehouse, at: Any = None) -> dict[int, int]:
    """Who made each tile; asserts that all of it is there, once, and of the same in both tables."""
    sources = lakehouse.read("sources", at, ["TILE_ID", "OBJECT_ID", "FLUX"])
    shear = lakehouse.read("shear", at, ["TILE_ID", "SUBTILE_COL", "N_MODELLED"])
    found: dict[int, int] = {}
    for tile, flux in zip(sources["TILE_ID"].to_pylist(), sources["FLUX"].to_pylist(), strict=True):
        assert found.setdefault(tile, flux) == flux, f"tile {tile} is of two makers"
    ids = sources["OBJECT_ID"].to_pylist()
    assert sorted(ids) == sorted(1000 * tile + n for tile in found for n in range(N_SOURCES))
    rows = zip(*(shear[name].to_pylist() for name in shear.column_names), strict=True)
    assert sorted(rows) == sorted((tile, col, by) for tile, by in found.items() for col in (0, 1))
    return {tile: int(maker) for tile, maker in found.items()}


def publish_side_by_side(folder: Path, iceberg: Mapping[str, Any]) -> None:
    """Let two processes publish at once, round by round."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [
        context.Process(target=work, args=(barrier, folder / str(number), iceberg, number))
        for number in (1, 2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def work(barrier: Any, results: Path, iceberg: Mapping[str, Any], number: int) -> None:
    """What one of several publishers does: in each round a tile of its own, and a common one."""
    lakehouse = Lakehouse.of(configuration(results, iceberg))
    for turn in range(ROUNDS):
        assemble(results, {100 * number + turn: number, 7: 10 * turn + number})
        publication = Publication.of(results / "catalogue")
        barrier.wait(60)
        publish(lakehouse, publication)


def _shear(tile: int, maker: int) -> pa.Table:
    rng = np.random.default_rng([tile, maker])
    columns = {field.name: _values(field, 2, rng) for field in SHEAR_SCHEMA}
    columns |= {
        "TILE_ID": [tile] * 2,
        "SUBTILE_ROW": [0, 0],
        "SUBTILE_COL": [0, 1],
        "RA": [_ra(tile) - 0.1, _ra(tile) + 0.1],
        "DEC": [-20.0] * 2,
        "N_SOURCES": [N_SOURCES // 2] * 2,
        "N_MODELLED": [maker] * 2,
    }
    return pa.table(columns, SHEAR_SCHEMA)


def _sources(tile: int, maker: int, n: int) -> pa.Table:
    rng = np.random.default_rng([tile, maker])
    columns = {field.name: _values(field, n, rng) for field in SOURCE_SCHEMA}
    shapes = rng.normal(0.0, 0.2, (n, 2 * N_SAMPLES)).clip(-0.7, 0.7) * SHAPE_STEPS
    weights = rng.normal(0.0, 0.1, (n, N_SAMPLES)) * LOG_WEIGHT_STEPS
    columns |= {
        "TILE_ID": [tile] * n,
        "SUBTILE_ROW": [0] * n,
        "SUBTILE_COL": [k % 2 for k in range(n)],
        "OBJECT_ID": [1000 * tile + k for k in range(n)],
        "RA": _ra(tile) + rng.uniform(-0.2, 0.2, n),
        "DEC": -20.0 + rng.uniform(-0.2, 0.2, n),
        "KIND": [0] * n,
        "FLUX": [float(maker)] * n,
        "BLEND": range(n),
        "SHAPE_SAMPLES": _some(shapes.astype(np.int16).tolist()),
        "SAMPLE_LOG_WEIGHT": _some(weights.astype(np.int16).tolist()),
    }
    return pa.table(columns, SOURCE_SCHEMA)


def _ra(tile: int) -> float:
    """Tiles are 2 degrees apart, and tile 0 is at 10 degrees."""
    return 10.0 + 2.0 * (tile % 170)


def _some(values: list[Any]) -> list[Any]:
    """The values, every seventh missing."""
    return [None if n % 7 == 3 else value for n, value in enumerate(values)]


def _values(field: pa.Field, n: int, rng: Generator) -> Any:
    """Values of a column's type that fill its range."""
    kind = field.type
    if pa.types.is_string(kind):
        values: list[Any] = ["marginal"] * n
    elif pa.types.is_fixed_size_list(kind):
        values = rng.normal(size=(n, kind.list_size)).astype(np.float32).tolist()
    elif pa.types.is_list(kind):
        values = [[1, 2]] * n
    elif pa.types.is_integer(kind):
        limits = np.iinfo(kind.to_pandas_dtype())
        values = rng.integers(limits.min, limits.max, n, endpoint=True).tolist()
    else:
        values = rng.normal(size=n).astype(kind.to_pandas_dtype()).tolist()
    return pa.array(_some(values) if field.nullable else values, kind)
