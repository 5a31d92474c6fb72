"""Hubble's galaxies for the validation: from a source package on the package index.

GalSim 2.0.7 was the last to carry a hundred galaxies of its COSMOS sample (ACS, F814W, 0.03"
pixels, each with its PSF) in its source package. pip fetches it and checks its digest. To learn its
name pip runs its setup.py, in an environment of its own; nothing is built or installed.
"""

from __future__ import annotations

import _ctypes
import os
import subprocess
import tarfile
import tempfile
import venv
from pathlib import Path

from shine.errors import InputError, explain

PACKAGE = "galsim==2.0.7"
PINNED = f"""\
{PACKAGE} --hash=sha256:f100963201910c348563f65a3a5dbf21d5c012a8b513865eadb5d14f8d4afa91
"""
# what its setup.py imports before it says its own name and version; Python 3.11 is their last
BUILD = """\
setuptools==65.5.0 --hash=sha256:f62ea9da9ed6289bfe868cd6845968a2c854d1427f8548d52cae02a42b4f0356
wheel==0.45.1 --hash=sha256:708e7481cc80179af0e556bbf0cc00b8444c7321e2700b8d8580231d13017248
pybind11==2.13.6 --hash=sha256:237c41e29157b962835d356b370ededd57594a26d5894a795960f0047cb5caf5
"""
FILES = (
    "real_galaxy_catalog_23.5_example.fits",
    "real_galaxy_catalog_23.5_example_fits.fits",
    "real_galaxy_catalog_23.5_example_selection.fits",
    "real_galaxy_images.fits",
    "real_galaxy_PSF_images.fits",
    "acs_I_unrot_sci_20_cf.fits",
)


def fetch_sample(folder: Path) -> None:
    """Put the sample's FITS files into a folder.

    Raises `InputError` with pip's own words if the package cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="cosmos-") as scratch:
        root = Path(scratch)
        package = _download(root)
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(package) as archive:
            prefix = package.name.removesuffix(".tar.gz")
            for name in FILES:
                content = archive.extractfile(f"{prefix}/examples/data/{name}").read()
                unfinished = folder / f".{name}"
                unfinished.write_bytes(content)
                unfinished.replace(folder / name)


def _download(root: Path) -> Path:
    """The package, checked by pip against its digest."""
    venv.create(root / "venv", with_pip=True)
    python = root / "venv" / "bin" / "python"
    (root / "build.txt").write_text(BUILD)
    _pip(python, "install", "--require-hashes", "--no-deps", "-r", root / "build.txt")
    (root / "package.txt").write_text(PINNED)
    # pip asks setup.py for the package's name, which wants to find FFTW and Eigen first: any
    # library that loads and any header will do, as nothing is compiled
    (root / "fftw").mkdir()
    (root / "fftw" / "libfftw3.so").symlink_to(_ctypes.__file__)
    (root / "eigen" / "Eigen").mkdir(parents=True)
    (root / "eigen" / "Eigen" / "Core").touch()
    stubs = {"FFTW_DIR": str(root / "fftw"), "EIGEN_DIR": str(root / "eigen")}
    options = ("--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes")
    target = root / "package"
    _pip(python, "download", *options, "-d", target, "-r", root / "package.txt", **stubs)
    return next(target.glob("*.tar.gz"))


def _pip(python: Path, *arguments: str | Path, **environment: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        problem = " ".join(done.stdout.split()[-60:])
        expected = f"the source package {PACKAGE} from the package index"
        action = "Check that pip reaches an index, or take the cases of `profile: real` out."
        raise InputError(explain("pip", problem, expected, action))
