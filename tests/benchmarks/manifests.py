"""What the manifests of a tile of survey size cost, as text and compressed.

    python -m tests.benchmarks.manifests

One tile of 4 x 4 sub-tiles with a galaxy density of 142 per arcmin^2 is taken from the survey of
`tests.benchmarks.quadrants`; about 2,000 sources are core in a sub-tile, and 3,200 modelled. Writes
`manifests.json` and prints it.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from constellation import manifest as tile_manifests
from constellation.config import TilingConfig
from constellation.manifest import FORMS, TileFiles, build_manifests, write_manifests
from constellation.plan import Plan
from constellation.quadrant_index import read_index
from constellation.sky_order import in_sky_order, write_index
from constellation.tiling import CORE_SIZE_ARCMIN
from shine.manifest import read_manifest
from tests.benchmarks import footprints
from tests.constellation.fake_survey import positions, write_catalogue

REPEATS = 5
REACH_DEG = 0.28  # of a catalogue, to either side of its tile's centre
SUB_TILES = 960_000


def measure(n_fields: int, per_sub_tile: int, output: Path) -> dict[str, Any]:
    """Times (medians of several) of a tile's manifests, and their sizes."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    index_path = output / "quadrants.parquet"
    write_index(in_sky_order(footprints.survey(n_fields)), index_path)
    plan, tile = _plan(n_fields, output / "tiles.csv")
    files = _catalogues(plan, tile, 16 * per_sub_tile, output)
    sources = tile_manifests.read_sources(files.catalogues.values())

    def build():
        index = read_index(index_path)
        return build_manifests(plan, tile, index, files, output / "yaml")

    built = build()
    found = {
        "sub_tiles": len(built),
        "catalogues": len(files.catalogues),
        "sources_in_catalogues": len(sources.object_id),
        "sources_each": float(np.mean([len(one.source_ids) for one in built])),
        "core_sources_each": float(np.mean([len(one.core_source_ids) for one in built])),
        "quadrants_each": float(np.mean([len(one.quadrants) for one in built])),
        "read_catalogues": _times(lambda: tile_manifests.read_sources(files.catalogues.values())),
        "read_catalogues_and_build": _times(build),
        "process": _times(functools.partial(_process, output, tile, files)),
    }
    for form in FORMS:
        write = functools.partial(write_manifests, built, output / form, form)
        found[form] = {"write": _times(write), **_sizes(write())}
    return found


def _plan(n_fields: int, path: Path) -> tuple[Plan, int]:
    """Tiles over the whole survey, and one in its middle."""
    n = int(footprints.FIELD_ARCMIN[0] * footprints.FIELD_ARCMIN[1] * n_fields / 900.0)
    ra, dec = footprints.rings(n, (CORE_SIZE_ARCMIN, CORE_SIZE_ARCMIN))
    csv.write_csv(pa.table({"tile_index": np.arange(1, n + 1), "ra": ra, "dec": dec}), path)
    return Plan.from_config(TilingConfig(tiles=path)), n // 2


def _catalogues(plan: Plan, tile: int, n_sources: int, folder: Path) -> TileFiles:
    """Catalogues of the tiles that the manifests need, overlapping as MER's do."""
    rng = np.random.default_rng(5)
    catalogues = {}
    for number in plan.catalogue_tiles(tile):
        plane = plan.grid(number).plane
        n = int(n_sources * (2 * REACH_DEG * 60 / CORE_SIZE_ARCMIN) ** 2)
        xi, eta = np.deg2rad(rng.uniform(-REACH_DEG, REACH_DEG, (2, n)))
        vectors = plane.unproject(xi, eta)
        ra = np.rad2deg(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360.0
        dec = np.rad2deg(np.arcsin(vectors[:, 2]))
        # as Euclid numbers its objects: by their position
        object_id = -((ra * 1e7).astype(np.int64) * 10**9 + np.abs(dec * 1e7).astype(np.int64))
        catalogues[number] = write_catalogue(folder, number, positions(object_id, ra, dec))
    return TileFiles(catalogues)


def _process(output: Path, tile: int, files: TileFiles) -> None:
    """`constellation manifests`, from its start to its end."""
    tiling = json.dumps({"tiles": str(output / "tiles.csv")})
    program = "import sys; from constellation.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "manifests", "--tiling", tiling]
    command += ["--tile", str(tile), "--index", str(output / "quadrants.parquet")]
    command += ["--catalogues", *map(str, files.catalogues.values())]
    command += ["--output", str(output / "process")]
    subprocess.run(command, check=True, capture_output=True)


def _sizes(paths: list[Path]) -> dict[str, float]:
    n_bytes = float(np.mean([path.stat().st_size for path in paths]))
    on_disk = float(np.mean([path.stat().st_blocks * 512 for path in paths]))
    read = functools.partial(read_manifest, paths[0])
    return {
        "kilobytes_each": n_bytes / 1e3,
        "survey_gb_on_disk": on_disk * SUB_TILES / 1e9,
        "read_one": _times(read),
    }


def _times(action: Callable[[], object]) -> dict[str, float]:
    """Medians of seconds, and of seconds of CPU, which say more of a busy machine."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter(), _cpu_s()
        action()
        times.append((time.perf_counter() - begin[0], _cpu_s() - begin[1]))
    wall_s, cpu_s = np.median(times, axis=0).tolist()
    return {"wall_s": wall_s, "cpu_s": cpu_s}


def _cpu_s() -> float:
    """Of this process, and of those that it started and that ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/bench/manifests"))
    options = parser.parse_args()
    load = os.getloadavg()
    found = measure(200, 1600, options.output)
    found["load"] = {"before": load, "after": os.getloadavg()}
    text = json.dumps(found, indent=2)
    (options.output / "manifests.json").write_text(text + "\n")
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
