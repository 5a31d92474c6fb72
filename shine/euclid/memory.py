"""How much memory a sub-tile will need, before any of it is taken."""

import os
import resource
from contextlib import suppress
from pathlib import Path

import numpy as np

from shine.errors import MemoryExhaustedError
from shine.manifest import Manifest

# Python, JAX, a compilation and two frames in flight
_FIXED_MB = 1800.0
# Of a view's arrays: as read, joined, on the device, and working copies
_COPIES = 4.0
_QUADRANT_ARCMIN2 = 11.8
# Of the quadrants that touch a sub-tile, about half of the area lies in it.
_SHARE_INSIDE = 0.5


def estimate_mb(manifest: Manifest, stamp_size: np.ndarray, psf_oversampling: int) -> float:
    """Peak memory (MB) of inferring the sub-tile; `stamp_size` (b,) is each blend's, in pixels.

    From the manifest's number of quadrants and area; within about 20 % of what mock surveys of 4 to
    56 quadrants took.
    """
    (ra_low, ra_high), dec = manifest.sky_bounds.extended_ra, manifest.sky_bounds.extended_dec
    width_deg = (ra_high - ra_low) % 360.0 * np.cos(np.radians(np.mean(dec)))
    area_arcmin2 = max(3600.0 * width_deg * (dec[1] - dec[0]), _QUADRANT_ARCMIN2)
    seen = len(manifest.quadrants) * _SHARE_INSIDE * _QUADRANT_ARCMIN2 / area_arcmin2
    bytes_per_pixel = 4.0 * (1.0 + psf_oversampling**2)
    views = max(seen, 1.0) * np.sum(np.square(stamp_size, dtype=float))
    return _FIXED_MB + _COPIES * views * bytes_per_pixel / 2**20


def require(needed_mb: float, stem: str) -> None:
    """Raise MemoryExhaustedError if this process cannot have so much."""
    available_mb = _available_mb()
    if needed_mb > available_mb:
        raise MemoryExhaustedError(
            f"{stem}: needs about {needed_mb:.0f} MB of memory, found {available_mb:.0f} MB free. "
            f"Ask for more (compute.mem_mb), cut the sky finer (tiling.sub_tile_grid), or take "
            f"inference.psf.model: native."
        )


def reset_peak() -> None:
    """Let `peak_mb` start anew: a process can infer several sub-tiles."""
    with suppress(OSError):  # not Linux, or a container that forbids it
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """The most memory (MB) that this process has held since `reset_peak`."""
    for line in _lines("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _available_mb() -> float:
    """What the machine has free, within this process's and its control group's limits."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 2**20]
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):  # counts what the page cache would give back
            limits[0] = float(line.split()[1]) / 1024
    for text in _lines("/sys/fs/cgroup/memory.max"):
        if text.strip().isdigit():
            limits.append(float(text) / 2**20)
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space / 2**20)
    return min(limits)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
