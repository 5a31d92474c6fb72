"""Cut-outs of Euclid's MER mosaics as single-exposure quadrants, with a catalogue of their own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy import ndimage

import shine
from shine.euclid.cli import run_subtile
from shine.manifest import write_manifest
from shine.results import read_shear, read_sources
from tests.shine.survey_files import (
    Frame,
    catalog_columns,
    make_manifest,
    write_catalog,
    write_frames,
)

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data" / "euclid_mer_cutouts"
BAD_RMS = 1e10  # the mosaics say 1e16 where there is nothing
DETECTION_SIGMA, DETECTION_PIXELS = 3.0, 12
KERNEL_PX = 1.2
GRID = 9


@dataclass(frozen=True)
class Detection:
    """An object, from its pixels above the threshold: position in pixels, flux in uJy."""

    x: float
    y: float
    flux_ujy: float
    flux_err_ujy: float
    semimajor_px: float
    ellipticity: float


@dataclass(frozen=True)
class CutOut:
    """The VIS layers of one file."""

    image: np.ndarray  # ADU / s, background subtracted
    rms: np.ndarray
    psf: np.ndarray  # (21, 21)
    header: fits.Header

    @classmethod
    def read(cls, path: Path) -> "CutOut":
        with fits.open(path) as hdus:
            [name] = [hdu.name for hdu in hdus if hdu.name in ("VIS_BGSUB", "VIS_FLUX")]
            layers = [hdus[n].data.astype(np.float32) for n in (name, "VIS_RMS", "VIS_PSF")]
            return cls(*layers, hdus[name].header)

    @property
    def good(self) -> np.ndarray:
        return self.rms < BAD_RMS

    @property
    def ujy_per_adu(self) -> float:
        return 10 ** (-0.4 * (self.header["MAGZERO"] - 23.9))

    def detections(self) -> list[Detection]:
        """Connected pixels above the noise, and their moments."""
        level = np.median(self.image[self.good])
        smooth = ndimage.gaussian_filter(np.where(self.good, self.image - level, 0.0), KERNEL_PX)
        noise = 1.4826 * np.median(np.abs(smooth - np.median(smooth)))
        label, n = ndimage.label(smooth > DETECTION_SIGMA * noise)
        found = []
        for number in range(1, n + 1):
            y, x = np.nonzero(label == number)
            light = (self.image[y, x] - level).clip(0.0).astype(float)
            if len(y) < DETECTION_PIXELS or not light.sum() > 0.0:
                continue
            centre = np.array([np.average(x, weights=light), np.average(y, weights=light)])
            away = np.stack([x, y]) - centre[:, None]
            moments = np.einsum("in,jn,n->ij", away, away, light) / light.sum()
            minor, major = np.sqrt(np.linalg.eigvalsh(moments).clip(0.3))
            found.append(
                Detection(
                    *centre,
                    float(light.sum() * self.ujy_per_adu),
                    float(np.sqrt((self.rms[y, x].astype(float) ** 2).sum()) * self.ujy_per_adu),
                    float(major),
                    float(1.0 - minor / major),
                )
            )
        return found


def write(cutout: CutOut, folder: Path, settings: str) -> list[Detection]:
    """Write the files of a quadrant and its manifest; returns what was detected."""
    frame = Frame(header=_header(cutout.header))
    frame.header["MAGZEROP"], frame.header["EXPTIME"] = str(cutout.header["MAGZERO"]), 1.0
    frame.sci, frame.rms = cutout.image, np.where(cutout.good, cutout.rms, 1.0).astype(np.float32)
    frame.flg = np.where(cutout.good, 0, 1).astype(np.int32)
    frame.bkg = np.full_like(cutout.image, np.median(cutout.image[cutout.good]))
    frame.psf = np.tile(cutout.psf, (GRID, GRID))
    detections = cutout.detections()
    x, y, *rest = (np.array(column) for column in zip(*map(_values, detections), strict=True))
    ra, dec = WCS(frame.header).all_pix2world(x, y, 0)
    columns = catalog_columns(len(x)) | {
        "RIGHT_ASCENSION": ra,
        "DECLINATION": dec,
        "FLUX_DETECTION_TOTAL": rest[0],
        "FLUXERR_DETECTION_TOTAL": rest[1],
        "SEMIMAJOR_AXIS": rest[2],
        "ELLIPTICITY": rest[3],
    }
    catalogue = write_catalog(folder / "catalogue.fits", columns)
    ids = [int(i) for i in columns["OBJECT_ID"]]
    manifest = make_manifest([catalogue], ids, ids, [write_frames(folder, frame)])
    write_manifest(manifest, folder / "manifest.yaml")
    (folder / "shine.yaml").write_text(settings)
    return detections


def run(folder: Path) -> tuple[dict, dict]:
    """Through files and shine: the shear row and the sources' columns, as they were detected."""
    result = run_subtile(folder / "manifest.yaml", folder / "shine.yaml", folder / "out")
    table = read_sources(result.with_name(f"{result.stem}_sources.parquet"))
    order = np.argsort(table["OBJECT_ID"].to_numpy())
    sources = {
        name: table[name].to_numpy(zero_copy_only=False)[order]
        for name in table.column_names
        if name not in ("COVARIANCE", "SHAPE_SAMPLES", "SAMPLE_LOG_WEIGHT")
    }
    return read_shear(result).to_pylist()[0], sources


def chi_map(folder: Path) -> np.ndarray:
    """(data - model) / RMS in every pixel that was modelled, NaN elsewhere."""
    config = shine.load_config(folder / "shine.yaml")
    exposures = shine.load(folder / "manifest.yaml", config)
    residual = np.asarray(shine.infer(exposures, config).estimate.residual_adu)
    shown = exposures.display
    chi = residual[shown.place] * np.sqrt(shown.weight)
    return np.where(shown.place >= 0, chi, np.nan)


def _values(found: Detection) -> tuple[float, ...]:
    return (
        found.x,
        found.y,
        found.flux_ujy,
        found.flux_err_ujy,
        found.semimajor_px,
        found.ellipticity,
    )


def _header(mosaic: fits.Header) -> fits.Header:
    names = ("CTYPE", "CUNIT", "CRVAL", "CRPIX")
    header = fits.Header([(f"{name}{k}", mosaic[f"{name}{k}"]) for k in (1, 2) for name in names])
    for i, j in np.ndindex(2, 2):
        header[f"CD{i + 1}_{j + 1}"] = mosaic[f"CD{i + 1}_{j + 1}"]
    header["RADESYS"] = "ICRS"
    return header
