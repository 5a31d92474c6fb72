"""The sub-tile that is measured, its parts, and its pairs for the classic route."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from shine.errors import Kind
from shine.euclid.config import EuclidConfig
from shine.euclid.data_loader import load_quadrant
from shine.euclid.scene import ExposureSet
from shine.manifest import Manifest, QuadrantFiles, read_manifest
from tests.benchmarks import classic_route

ROOT = Path(__file__).parents[2]
SMOKE_SURVEY = {
    "seed": 7,
    "area": {"ra": 57.7801367, "dec": -51.0, "width_arcmin": 2.4, "height_arcmin": 0.8},
    "exposures": [{"offset_east_arcsec": 79.5, "offset_north_arcsec": 65.2}],
    "shear": {"type": "constant", "g1": 0.03, "g2": -0.02},
    "detector": {"quadrant_shape": [300, 750]},
    # galaxies of one size: few stamp sizes, few programs to compile
    "population": {
        "galaxy_density": 40.0,
        "star_density": 0.0,
        "faint_magnitude": 24.0,
        "hlr_arcsec": 0.2,
        "hlr_slope": 0.0,
        "hlr_scatter": 0.0,
        "close_pair_fraction": 0.0,
    },
}


@dataclass(frozen=True)
class Size:
    """How large a benchmark is."""

    survey: dict  # settings of `constellation mock-survey`
    sub_tile_grid: int  # per side of a tile
    margin_arcmin: float
    sources: tuple[int, ...]  # of the scaling, those below the survey's own number
    quadrant_shares: tuple[float, ...]
    methods: tuple[str, ...]
    psf_models: tuple[str, ...]
    pairs: int  # that the classic route is timed on


def full_scale() -> Size:
    """A sub-tile of 7.5' in four exposures, with all its quadrants."""
    survey = yaml.safe_load((ROOT / "config" / "mock_full_scale.yaml").read_text())
    sources = (250, 500, 1000, 2000, 5000)
    return Size(
        survey, 4, 1.0, sources, (0.25, 0.5, 0.75), ("map", "marginal"), ("native", "optics"), 64
    )


def smoke() -> Size:
    """The smallest survey, to see that the benchmark runs."""
    return Size(SMOKE_SURVEY, 30, 0.22, (10,), (), ("map",), ("native",), 4)


def make(size: Size, output: Path) -> Manifest:
    """The sub-tile with most core sources."""
    return max(make_all(size, output), key=lambda manifest: len(manifest.core_source_ids))


def make_all(size: Size, output: Path) -> list[Manifest]:
    """All sub-tiles, row by row, of a survey that is made unless it is there already."""
    survey, manifests = output / "survey", output / "manifests"
    settings = output / "survey.yaml"
    shutil.copy(ROOT / "config" / "demo_tiles.csv", output / "tiles.csv")
    text = yaml.safe_dump(size.survey | {"tiles": "tiles.csv"})
    if not any(manifests.glob("*.yaml")) or not settings.exists() or settings.read_text() != text:
        for folder in (survey, manifests):
            shutil.rmtree(folder, ignore_errors=True)
        settings.write_text(text)
        _run("mock-survey", "--config", settings, "--output", survey)
        index = output / "quadrants.parquet"
        _run("index", "--survey", survey, "--output", index)
        tiling = {
            "tiles": str((output / "tiles.csv").resolve()),
            "sub_tile_grid": [size.sub_tile_grid] * 2,
            "margin_arcmin": size.margin_arcmin,
        }
        catalogues = (survey / "MER").iterdir()
        where = ["--index", index, "--catalogues", *catalogues, "--output", manifests]
        first = (output / "tiles.csv").read_text().splitlines()[1].partition(",")[0]
        _run("manifests", "--tiling", json.dumps(tiling), "--tile", first, *where)
    found = [read_manifest(path.resolve()) for path in manifests.glob("*.yaml")]
    return sorted(found, key=lambda manifest: (manifest.sub_tile_row, manifest.sub_tile_col))


def _run(*arguments: str | Path) -> None:
    script = "import sys; from constellation.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def innermost(exposures: ExposureSet, n: int) -> np.ndarray:
    """Ids of the n sources nearest to the middle of all."""
    sources = exposures.sources
    dec0 = np.median(sources.dec)
    east = (sources.ra - np.median(sources.ra)) * np.cos(np.deg2rad(dec0))
    return sources.object_id[np.argsort(np.hypot(east, sources.dec - dec0))[:n]]


def extended_arcmin2(manifest: Manifest) -> float:
    """The area on the sky from which sources are modelled."""
    ra, dec = (
        np.asarray(getattr(manifest.sky_bounds, f"extended_{name}")) for name in ("ra", "dec")
    )
    width = np.mod(np.diff(ra)[0], 360.0) * np.cos(np.deg2rad(dec.mean()))
    return float(width * np.diff(dec)[0] * 3600.0)


def with_sources(manifest: Manifest, chosen: np.ndarray) -> Manifest:
    keep = {int(object_id) for object_id in chosen}
    return manifest.model_copy(
        update={
            "source_ids": [i for i in manifest.source_ids if i in keep],
            "core_source_ids": [i for i in manifest.core_source_ids if i in keep],
        }
    )


def with_quadrants(manifest: Manifest, chosen: list[QuadrantFiles]) -> Manifest:
    return manifest.model_copy(update={"quadrants": chosen})


def cut_pairs(
    exposures: ExposureSet, most: int
) -> tuple[classic_route.Pairs, QuadrantFiles, np.ndarray]:
    """Pairs of isolated galaxies with one quadrant that holds their stamps whole.

    Returns the pairs, the quadrant's files and the galaxies' ids.
    """
    sources, blends = exposures.sources, exposures.blends
    isolated = (sources.kind == Kind.GALAXY) & (blends.count[blends.blend] == 1)
    best, reach = (np.zeros(0, int), None, None), classic_route.STAMP_SIZE // 2
    for files in exposures.manifest.quadrants:
        quadrant = load_quadrant(files, config_of("map", "native").inference.bad_flags)
        x, y = quadrant.wcs.to_pixel(sources.ra, sources.dec)
        ny, nx = quadrant.image_adu.shape
        inside = (x > reach) & (x < nx - reach - 1) & (y > reach) & (y < ny - reach - 1)
        rows = np.flatnonzero(inside & isolated)[:most]
        if len(rows) > len(best[0]):
            best = (rows, quadrant, files)
        if len(rows) == most:
            break
    rows, quadrant, files = best
    x, y = quadrant.wcs.to_pixel(sources.ra[rows], sources.dec[rows])
    corner = np.floor(np.column_stack([x, y]) + 0.5).astype(int) - reach
    cut = [np.s_[v : v + 2 * reach, u : u + 2 * reach] for u, v in corner]
    start = np.zeros((len(rows), 6), np.float32)
    start[:, 0], start[:, 1] = sources.flux_ujy[rows], sources.hlr_arcsec[rows]
    pairs = classic_route.Pairs(
        data_adu=np.stack([quadrant.image_adu[window] for window in cut]),
        weight=np.stack([quadrant.weight[window] for window in cut]),
        jacobian=quadrant.wcs.jacobian(x, y).astype(np.float32),
        centre=(np.column_stack([x, y]) - corner).astype(np.float32),
        psf=quadrant.psf.at(x, y),
        adu_per_ujy=np.full(len(rows), quadrant.adu_per_ujy, np.float32),
        source=np.arange(len(rows)),
        start=start,
    )
    return pairs, files, sources.object_id[rows]


def config_of(method: str, psf: str) -> EuclidConfig:
    return EuclidConfig.model_validate({"inference": {"method": method, "psf": {"model": psf}}})
