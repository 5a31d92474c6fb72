"""The files of one sub-tile, drawn by GalSim."""

from pathlib import Path

import galsim
import numpy as np
from astropy.io import fits

from shine.euclid import cli
from shine.euclid.cli import run_subtile
from shine.manifest import write_manifest
from shine.results import read_shear, read_sources
from tests.shine.survey_files import (
    Frame,
    catalog_columns,
    make_manifest,
    wcs_header,
    write_catalog,
    write_frames,
)

SHEAR = (0.05, -0.03)
SIDE, SPACING, N_ROWS = 256, 42, 4  # so that all galaxies stay in the frame when it is rolled
N_GALAXIES = N_ROWS**2
PSF = galsim.Moffat(beta=3.5, fwhm=0.18)
CENTRE = (57.78, -51.0)


class Sky:
    """Ring-paired galaxies on a grid of the first frame, known by their sky positions."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        wcs = galsim_wcs(wcs_header(roll_deg=0.0))
        rows, columns = np.divmod(np.arange(N_GALAXIES), N_ROWS)
        grid = SPACING * (np.array([columns, rows]) - (N_ROWS - 1) / 2)
        x, y = SIDE / 2 + grid + rng.uniform(-0.5, 0.5, (2, N_GALAXIES))
        places = [wcs.toWorld(galsim.PositionD(*xy)) for xy in zip(x, y, strict=True)]
        self.ra = np.array([place.ra.deg for place in places])
        self.dec = np.array([place.dec.deg for place in places])
        e = 0.2 * rng.normal(size=(N_GALAXIES // 2, 2)).clip(-2, 2)
        self.e = np.stack([e, -e], axis=1).reshape(-1, 2)
        self.flux_ujy = np.full(N_GALAXIES, 20.0)
        self.hlr_arcsec = rng.uniform(0.2, 0.35, N_GALAXIES)

    def columns(self) -> dict:
        """MER columns with the truth's flux and size, as the catalogue would measure them."""
        rms_px = self.hlr_arcsec / 1.6783 * np.sqrt(3.0) / 0.1
        return catalog_columns(N_GALAXIES) | {
            "RIGHT_ASCENSION": self.ra,
            "DECLINATION": self.dec,
            "FLUX_DETECTION_TOTAL": self.flux_ujy,
            "SEMIMAJOR_AXIS": np.hypot(rms_px, 0.8),
            "ELLIPTICITY": np.zeros(N_GALAXIES),
        }


def galsim_wcs(header: fits.Header) -> galsim.BaseWCS:
    """GalSim's own reading of a header, moved to 0-based pixels."""
    return galsim.FitsWCS(header=header).shiftOrigin(galsim.PositionD(-1, -1))


def draw_frame(sky: Sky, header: fits.Header, zero_point: str = "24.57", seed: int = 1) -> Frame:
    """One exposure of the sky, with noise that gives S/N of several hundred."""
    header["MAGZEROP"], header["EXPTIME"] = zero_point, 500.0
    frame = Frame(header=header, name="3-4.F")
    frame.header["MAGZEROP"], frame.header["EXPTIME"] = zero_point, 500.0
    adu_per_ujy = 10 ** (0.4 * (float(zero_point) + 2.5 * np.log10(500.0) - 23.9))
    wcs = galsim_wcs(header)
    image = galsim.ImageD(SIDE, SIDE, xmin=0, ymin=0, wcs=wcs)
    for i in range(N_GALAXIES):
        place = galsim.CelestialCoord(sky.ra[i] * galsim.degrees, sky.dec[i] * galsim.degrees)
        xy = wcs.toImage(place)
        galaxy = galsim.Exponential(
            half_light_radius=sky.hlr_arcsec[i], flux=sky.flux_ujy[i] * adu_per_ujy
        )
        galaxy = galaxy.shear(g1=sky.e[i, 0], g2=sky.e[i, 1]).shear(g1=SHEAR[0], g2=SHEAR[1])
        local = wcs.local(image_pos=xy)
        stamp = galsim.Convolve(galaxy, PSF).drawImage(nx=96, ny=96, wcs=local, center=xy)
        overlap = stamp.bounds & image.bounds
        if overlap.isDefined():
            image[overlap] += stamp[overlap]
    rng = np.random.default_rng(seed)
    sigma = 2.0
    frame.bkg = np.full((SIDE, SIDE), 80.0, np.float32)
    frame.sci = (image.array + 80.0 + rng.normal(scale=sigma, size=image.array.shape)).astype("f4")
    frame.rms = np.full((SIDE, SIDE), sigma, np.float32)
    frame.flg = np.zeros((SIDE, SIDE), np.int32)
    middle = wcs.local(image_pos=galsim.PositionD(SIDE / 2, SIDE / 2))
    stamp = PSF.drawImage(nx=21, ny=21, wcs=middle).array
    frame.psf = np.tile(stamp, (9, 9)).astype(np.float32)
    return frame


class SubTile:
    """The files of one sub-tile in a folder, ready to run."""

    def __init__(self, folder: Path, sky: Sky, frames: list[Frame], **content) -> None:
        self.folder = folder
        columns = content.get("columns", sky.columns())
        self.catalog = write_catalog(folder / "catalogue.fits", columns)
        self.quadrants = []
        for k, frame in enumerate(frames):
            (folder / f"exposure{k}").mkdir()
            self.quadrants.append(write_frames(folder / f"exposure{k}", frame))
        ids = [int(i) for i in columns["OBJECT_ID"]]
        self.manifest = folder / "manifest.yaml"
        write_manifest(
            make_manifest([str(self.catalog)], ids, content.get("core", ids), self.quadrants),
            self.manifest,
        )
        self.config = folder / "shine.yaml"
        self.config.write_text("inference: {}\ngal: {}\n")

    def run(self, output: str = "out") -> dict:
        """The shear row."""
        path = run_subtile(self.manifest, self.config, self.folder / output)
        return read_shear(path).to_pylist()[0]

    def sources(self, output: str = "out") -> dict:
        """Columns of the source file."""
        stem = next((self.folder / output).glob("*_sources.parquet"))
        return {name: column.to_numpy() for name, column in zip(
            read_sources(stem).column_names, read_sources(stem).columns, strict=True)}  # fmt: skip

    def exit_status(self, capsys) -> tuple[int, str]:
        """Exit status and message of the command line."""
        arguments = ["--manifest", self.manifest, "--config", self.config, "--output"]
        status = cli.main([str(a) for a in [*arguments, self.folder / "out"]])
        return status, capsys.readouterr().err
