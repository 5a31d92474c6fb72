"""What it takes to merge a survey's results into a published catalogue: time, memory and bytes.

`python -m tests.benchmarks.assembly --tiles 1000` merges 16 results per tile, of `--sources`
sources with `--samples` samples each: all of them, then with one result changed, then with none
changed. The results are those of shine's writer but for what tells sub-tiles apart.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from pyarrow import parquet

from constellation.catalogue.subtile_results import PlannedTile
from constellation.config import load_config
from constellation.plan import Plan, SubTile
from shine.errors import Status
from shine.provenance import Provenance
from shine.result_records import RunRecord, SampleColumns, ShearResult, SourceResults
from shine.results import read_shear, read_sources, write_results
from tests.benchmarks.planning import FIRST_TILE, tile_centres

GRID = 4
SIZE_DEG = 0.125  # of a sub-tile
N_TEMPLATES = 4
OF_SHEAR = ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL", "RA", "DEC")
SCRIPT = "import sys; from constellation.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Size:
    """Tiles of 16 sub-tiles, each with so many core sources with so many samples."""

    n_tiles: int
    n_sources: int
    n_samples: int


@dataclass(frozen=True)
class Cost:
    """Of one `constellation assemble`: seconds (wall, processor), MB (peak of all processes)."""

    what: str
    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class File:
    """The bytes of a result file, and where those of the columns are that tell sub-tiles apart."""

    content: bytes
    places: dict[str, int]

    @classmethod
    def of(cls, table: pa.Table, columns: Sequence[str]) -> File:
        """The table as shine writes it, but for these columns, which are not compressed."""
        rng, n = np.random.default_rng(0), table.num_rows
        known = {}
        for name in columns:
            field = table.schema.field(name)
            small = field.type == pa.int8()  # and negative: bytes as they are nowhere else
            values = rng.integers(-128, -28, n) if small else rng.integers(1 << 62, size=n)
            known[name] = pa.array(values).cast(field.type, safe=False)
            table = table.set_column(table.schema.get_field_index(name), field, known[name])
        leaves = [
            f"{field.name}.list.element" if pa.types.is_nested(field.type) else field.name
            for field in table.schema
        ]
        codecs = {leaf: "none" if leaf in columns else "zstd" for leaf in leaves}
        sink = pa.BufferOutputStream()
        options = {"use_dictionary": False, "write_statistics": False, "compression": codecs}
        parquet.write_table(table, sink, **options)
        content = sink.getvalue().to_pybytes()
        places = {name: content.find(_plain(values)) for name, values in known.items()}
        if any(content.count(_plain(values)) != 1 for values in known.values()):
            raise ValueError(f"columns {list(places)} are not there to be written over once")
        return cls(content, places)

    def write(self, path: Path, values: Mapping[str, pa.Array]) -> None:
        """Write the file with other values in these columns."""
        content = bytearray(self.content)
        for name, new in values.items():
            data = _plain(new)
            content[self.places[name] : self.places[name] + len(data)] = data
        path.write_bytes(content)


def _plain(values: pa.Array) -> bytes:
    """Values as Parquet's encoding PLAIN has them, where small integers have four bytes."""
    wide = values.cast(pa.int32()) if values.type == pa.int8() else values
    return wide.to_numpy().tobytes()


@dataclass(frozen=True)
class Template:
    """A result's files, and its sources' places in the sub-tile (n, 2), in units of its size."""

    shear: File
    sources: File
    places: np.ndarray

    @classmethod
    def make(cls, number: int, size: Size, folder: Path) -> Template:
        """A result of realistic numbers: noise where a fit has noise."""
        rng = np.random.default_rng(number)
        n, k = size.n_sources, size.n_samples
        samples = None
        if k:
            shape = 0.3 * (rng.normal(size=(n, k)) + 1j * rng.normal(size=(n, k)))
            samples = SampleColumns(
                shape / np.maximum(1.0, 1.01 * np.abs(shape)),
                -rng.exponential(2.0, (n, k)),
                rng.uniform(20.0, 60.0, n),
            )
        root = 0.1 * rng.normal(size=(n, 6, 6))
        sources = SourceResults(
            object_id=np.arange(n),
            ra_deg=np.zeros(n),
            dec_deg=np.zeros(n),
            kind=rng.choice([0, 1, 2], n, p=[0.7, 0.2, 0.1]),
            parameters=rng.normal(size=(n, 6)),
            covariance=root @ root.transpose(0, 2, 1),
            chi2=rng.chisquare(2000, n),
            n_pixels=rng.integers(500, 4000, n),
            n_exposures=rng.integers(1, 5, n),
            flags=rng.choice([0, 1 << 9, 1 << 14], n),
            blend=np.sort(rng.integers(0, n, n)),
            samples=samples,
        )
        known = {"g1": 0.03, "g2": -0.02, "g1_err": 0.01, "g2_err": 0.01, "g1g2_cov": 1e-6}
        shear = ShearResult(
            0, 0, 0, 0.0, 0.0, "marginal" if k else "map", Status.OK, n_sources=n, **known
        )
        inputs = {f"frame {number} {i}": f"{i:064x}" for i in range(16)}
        versions = dict.fromkeys(("astropy", "jax", "numpy", "pyarrow", "scipy"), "1.2.3")
        provenance = Provenance("c0ffee" * 7, "b" * 64, versions, "a" * 64, inputs, 0)
        left_out = {"sources": {"spurious": 12, "low_snr": 700}, "pixels": {"flagged": 400_000}}
        path = write_results(
            folder, f"{number}", shear, sources, RunRecord(provenance, left_out=left_out)
        )
        of_sources = read_sources(path.with_name(f"{number}_sources.parquet"))
        return cls(
            File.of(read_shear(path), OF_SHEAR),
            File.of(of_sources, [*OF_SHEAR, "OBJECT_ID"]),
            rng.uniform(-0.5, 0.5, (n, 2)),
        )

    def write(self, subtile: SubTile, middle: tuple[float, float], folder: Path) -> None:
        """Write the result of a sub-tile with its middle at RA, DEC, degrees."""
        n, (ra, dec) = len(self.places), middle
        first = n * ((subtile.tile_id - FIRST_TILE) * GRID**2 + GRID * subtile.row + subtile.col)
        offset = SIZE_DEG * self.places / [np.cos(np.deg2rad(dec)), 1.0]
        of_sources = {
            **_place(subtile, n),
            "RA": pa.array((ra + offset[:, 0]) % 360.0),
            "DEC": pa.array(dec + offset[:, 1]),
            "OBJECT_ID": pa.array(first + np.arange(n)),
        }
        of_shear = _place(subtile, 1) | {"RA": pa.array([ra]), "DEC": pa.array([dec])}
        self.sources.write(folder / f"{subtile.stem}_sources.parquet", of_sources)
        self.shear.write(folder / f"{subtile.stem}.parquet", of_shear)


def _place(subtile: SubTile, n: int) -> dict[str, pa.Array]:
    return {
        "TILE_ID": pa.array(np.full(n, subtile.tile_id)),
        "SUBTILE_ROW": pa.array(np.full(n, subtile.row, np.int8)),
        "SUBTILE_COL": pa.array(np.full(n, subtile.col, np.int8)),
    }


def make(folder: Path, size: Size, processes: int = 2) -> Path:
    """Write a finished run: its configuration, its tiles and their results; returns the first."""
    folder.mkdir(parents=True)
    centres = tile_centres(size.n_tiles)
    rows = [f"{FIRST_TILE + n},{ra!r},{dec!r}" for n, (ra, dec) in enumerate(centres.tolist())]
    (folder / "tiles.csv").write_text("\n".join(["tile_index,ra,dec", *rows, ""]))
    tiling = {"tiles": str(folder / "tiles.csv"), "sub_tile_grid": [GRID, GRID]}
    results = {"results": str(folder / "results")}
    config = {"tiling": tiling, "data": {"survey": "nowhere"}, "output": results}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        parts = [(folder, size, start, processes) for start in range(processes)]
        list(pool.map(_make_part, *zip(*parts, strict=True)))
    return folder / "config.yaml"


def _make_part(folder: Path, size: Size, start: int, step: int) -> None:
    scratch = folder / f"templates{start}"
    templates = [Template.make(number, size, scratch) for number in range(N_TEMPLATES)]
    shutil.rmtree(scratch)
    plan = Plan.from_config(load_config(folder / "config.yaml").tiling)
    for tile_id in plan.tile_ids[start::step]:
        tile = PlannedTile.of(plan, tile_id)
        place = folder / "results" / "subtiles" / str(tile_id)
        place.mkdir(parents=True)
        for number, subtile in enumerate(tile.subtiles):
            templates[number % N_TEMPLATES].write(subtile, tile.middles[subtile], place)


def assemble(what: str, config: Path) -> Cost:
    """Run the command in a process of its own; raises `CalledProcessError`."""
    command = [sys.executable, "-c", SCRIPT, "assemble", "--config", str(config)]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        peak = _Peak(process.pid)
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - begin
        peak_mb = peak.stop()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(what, wall_s, usage.ru_utime + usage.ru_stime, peak_mb)


class _Peak:
    """Watches the memory that a process and its children have for themselves, MB."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._over = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._peak = max(self._peak, sum(map(_resident_mb, _family(self._pid))))


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6
    except (OSError, IndexError):
        return 0.0


def measure(folder: Path, size: Size) -> Iterator[Cost]:
    """Merge all results, then one that is new, then nothing."""
    config = make(folder, size)
    yield assemble("all", config)
    first = min((folder / "results" / "subtiles").iterdir())
    for path in first.glob("*_0_0*.parquet"):
        path.write_bytes(path.read_bytes())
    yield assemble("one changed", config)
    yield assemble("none changed", config)


def sizes(folder: Path) -> dict[str, float]:
    """GB of the results and of the catalogue."""
    receipt = json.loads((folder / "results" / "catalogue.json").read_text())
    used = sum(path.stat().st_size for path in (folder / "results/subtiles").glob("*/*.parquet"))
    return {"results": used / 1e9, "catalogue": receipt["bytes"] / 1e9}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiles", type=int, nargs="+", default=[1000], help="of 16 sub-tiles each")
    parser.add_argument("--sources", type=int, default=150, help="core sources per sub-tile")
    parser.add_argument("--samples", type=int, default=0, help="of each source")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    options = parser.parse_args(arguments)
    sys.stdout.write("| sub-tiles | merged | wall s | CPU s | peak MB | load |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for n_tiles in options.tiles:
        folder = Path(tempfile.mkdtemp(dir=options.folder)) / "run"
        try:
            for cost in measure(folder, Size(n_tiles, options.sources, options.samples)):
                numbers = f"{cost.wall_s:.1f} | {cost.cpu_s:.1f} | {cost.peak_mb:,.0f}"
                load = f"{os.getloadavg()[0]:.1f}"
                row = f"| {n_tiles * GRID**2:,} | {cost.what} | {numbers} | {load} |\n"
                sys.stdout.write(row)
                sys.stdout.flush()
            text = ", ".join(f"{name} {value:.2f} GB" for name, value in sizes(folder).items())
            sys.stdout.write(f"{n_tiles * GRID**2:,} sub-tiles: {text}\n")
        finally:
            shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
