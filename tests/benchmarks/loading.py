"""How fast and in how much memory a sub-tile's quadrants are loaded from plain files on a disk.

The mock survey's frames are compressed; here they are copied without compression first. The disk's
own rate is that of a process that does nothing but read the same bytes. Both start with files that
the kernel does not hold in memory, where it can be made to forget them.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path

import jax
import numpy as np
from astropy.io import fits

import shine
from shine.euclid import fits_files, memory
from shine.euclid.config import load_config
from shine.manifest import Manifest, QuadrantFiles, write_manifest

PART_BYTES = 8 << 20


def measure(manifest: Manifest, config: Path, output: Path) -> dict[str, float]:
    """Seconds, bytes and memory of loading the sub-tile in a process of its own."""
    plain = _uncompressed(manifest, output / "plain")
    write_manifest(plain, output / "plain.yaml")
    ranges = _ranges(plain)
    n_bytes = sum(length for _, _, length in ranges)
    _forget(plain.paths)
    begin = time.perf_counter()
    _read(ranges)
    disk_s = time.perf_counter() - begin
    _forget(plain.paths)
    command = [sys.executable, "-m", __name__, output / "plain.yaml", config]
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True)
    loaded = json.loads(done.stdout)
    return loaded | {
        "quadrants": len(plain.quadrants),
        "gigabytes": n_bytes / 1e9,
        "disk_gigabytes_per_s": n_bytes / 1e9 / disk_s,
        "fraction_of_disk_rate": disk_s / loaded["load_s"],
        "peak_over_kept": loaded["peak_mb"] / loaded["kept_mb"],
    }


def _uncompressed(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with copies of its frames and backgrounds whose images are plain."""
    folder.mkdir(exist_ok=True)
    copies = {}
    for path in sorted({p for q in manifest.quadrants for p in (q.sci_path, q.bkg_path)}):
        copies[path] = copy = folder / Path(path).name
        if copy.exists():
            continue
        with fits.open(path) as hdus:
            plain = [
                fits.ImageHDU(hdu.data, hdu.header) if isinstance(hdu, fits.CompImageHDU) else hdu
                for hdu in hdus
            ]
            fits.HDUList(plain).writeto(copy.with_suffix(".part"), checksum=True)
        copy.with_suffix(".part").rename(copy)

    def moved(files: QuadrantFiles) -> QuadrantFiles:
        layers = ("sci_path", "rms_path", "flg_path", "bkg_path")
        update = {layer: str(copies[getattr(files, layer)].resolve()) for layer in layers}
        return files.model_copy(update=update | {"version": None})

    return manifest.model_copy(update={"quadrants": [moved(q) for q in manifest.quadrants]})


def _ranges(manifest: Manifest) -> list[tuple[str, int, int]]:
    """File, first byte and length of every HDU that the sub-tile needs."""
    found = []
    for files in manifest.quadrants:
        name = files.quadrant
        for path, hdus in (
            (files.sci_path, (f"{name}.SCI", f"{name}.RMS", f"{name}.FLG")),
            (files.bkg_path, (name,)),
            (files.psf_path, (name,)),
        ):
            wanted = [hdu for hdu in fits_files.list_hdus(path) if hdu.name in hdus]
            found += [(path, hdu.start, hdu.length) for hdu in wanted]
    return found


def _read(ranges: list[tuple[str, int, int]]) -> None:
    for path, start, length in ranges:
        with Path(path).open("rb", buffering=0) as file:
            for place in range(start, start + length, PART_BYTES):
                os.pread(file.fileno(), min(PART_BYTES, start + length - place), place)


def _forget(paths: set[str]) -> None:
    for path in paths:
        with Path(path).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _n_bytes(value: object) -> int:
    """Of all arrays in a nest of dataclasses, tuples and pytrees."""
    if isinstance(value, np.ndarray | jax.Array):
        return value.nbytes
    if isinstance(value, tuple | list):
        return sum(map(_n_bytes, value))
    if is_dataclass(value):
        return sum(_n_bytes(getattr(value, field.name)) for field in fields(value))
    return 0


def main(manifest: str, config: str) -> None:
    """Load a sub-tile and print what it took."""
    settings = load_config(config)
    memory.reset_peak()
    base_mb = memory.peak_mb()
    begin = time.perf_counter()
    exposures = shine.load(manifest, settings)
    load_s = time.perf_counter() - begin
    peak_mb = memory.peak_mb() - base_mb
    kept_mb = _n_bytes((exposures.scene, exposures.display)) / 1e6
    sys.stdout.write(json.dumps({"load_s": load_s, "peak_mb": peak_mb, "kept_mb": kept_mb}))


if __name__ == "__main__":
    main(*sys.argv[1:])
