"""Small Euclid-format files, written with astropy directly: nothing of the simulator's is used."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

from shine.manifest import Manifest, QuadrantFiles

NY, NX = 64, 80
STAMP = 21
TPV_TERMS = {
    "PV1_1": 1.0003, "PV1_2": -2e-4, "PV1_4": 0.10, "PV1_5": -0.08, "PV1_6": 0.04,
    "PV1_7": 0.2, "PV1_8": 0.1, "PV1_9": -0.3, "PV1_10": 0.1,
    "PV2_1": 0.9997, "PV2_2": 1e-4, "PV2_4": -0.05, "PV2_5": 0.06, "PV2_6": -0.1,
    "PV2_7": 0.1, "PV2_10": 0.2,
}  # fmt: skip
SIP_TERMS = {
    "A_ORDER": 3, "B_ORDER": 3, "A_2_0": 1e-6, "A_1_1": -5e-7, "A_3_0": 1e-10,
    "B_0_2": -8e-7, "B_1_1": 3e-7, "B_1_2": 1e-10,
}  # fmt: skip


def wcs_header(
    projection: str = "TPV", roll_deg: float = 37.0, flip: bool = False, centre=(57.78, -51.0)
) -> fits.Header:
    """A WCS of 0.1 arcsec pixels whose reference point lies outside the frame."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = f"RA---{projection}", f"DEC--{projection}"
    header["CRVAL1"], header["CRVAL2"] = centre
    header["CRPIX1"], header["CRPIX2"] = -310.0, 205.5
    cos, sin = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    handedness = np.diag([1.0 if flip else -1.0, 1.0])
    matrix = np.array([[cos, -sin], [sin, cos]]) @ handedness * 0.1 / 3600.0
    for i, j in np.ndindex(2, 2):
        header[f"CD{i + 1}_{j + 1}"] = matrix[i, j]
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header["RADESYS"] = "ICRS"
    header["DATE-OBS"] = "2024-01-01T00:00:00"  # would make astropy fix MJD-OBS and warn
    header.update({"TPV": TPV_TERMS, "TAN-SIP": SIP_TERMS}.get(projection, {}))
    return header


@dataclass
class Frame:
    """One quadrant's arrays and headers, to be spoilt at will before they are written."""

    name: str = "3-4.F"
    seed: int = 1
    obs_id: object = 123
    compressed: bool = False
    header: fits.Header = field(default_factory=wcs_header)

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.header["MAGZEROP"] = "24.56605"  # a string in real files
        self.header["EXPTIME"] = 560.52
        self.sci = (100.0 + 30.0 * rng.standard_normal((NY, NX))).astype(np.float32)
        self.rms = rng.uniform(20.0, 40.0, (NY, NX)).astype(np.float32)
        self.flg = np.zeros((NY, NX), np.int32)
        self.bkg = rng.uniform(90.0, 110.0, (NY, NX)).astype(np.float32)
        side = 9 * STAMP
        self.psf = rng.uniform(0.5, 1.0, (side, side)).astype(np.float32)
        self.wgt = rng.uniform(0.95, 1.05, (NY, NX)).astype(np.float32)

    def image(self, kind: str) -> fits.ImageHDU:
        """The extension of one kind: SCI, RMS, FLG, BKG, WGT or PSF."""
        data = getattr(self, kind.lower())
        header = self.header if kind == "SCI" else None
        name = f"{self.name}.{kind}" if kind in ("SCI", "RMS", "FLG") else self.name
        if self.compressed and kind != "PSF":
            return fits.CompImageHDU(
                data, header, name=name, compression_type="GZIP_2", quantize_level=0
            )
        return fits.ImageHDU(data, header, name=name)

    def primary(self) -> fits.PrimaryHDU:
        """The primary HDU, without data."""
        hdu = fits.PrimaryHDU()
        if self.obs_id is not None:
            hdu.header["OBS_ID"], hdu.header["DITHOBS"] = self.obs_id, 2
        return hdu


def write_frames(
    folder: Path, *frames: Frame, suffix: str = ".fits", backwards: bool = False
) -> QuadrantFiles:
    """Write frames in the archive's layout: one file with SCI, RMS, FLG, one with BKG, one PSF."""
    det = [frame.image(kind) for frame in frames for kind in ("SCI", "RMS", "FLG")]
    contents = {
        "DET": det,
        "BKG": [frame.image("BKG") for frame in frames],
        "PSF": [frame.image("PSF") for frame in frames],
    }
    paths = {}
    for product, hdus in contents.items():
        paths[product] = folder / f"{product}{suffix}"
        ordered = hdus[::-1] if backwards else hdus
        fits.HDUList([frames[0].primary(), *ordered]).writeto(paths[product], checksum=True)
    return quadrant_files(paths)


def quadrant_files(paths: dict[str, Path], **more) -> QuadrantFiles:
    """The manifest's entry for files named DET, BKG and PSF."""
    det = str(paths["DET"])
    return QuadrantFiles(
        sci_path=det,
        rms_path=det,
        flg_path=det,
        bkg_path=str(paths["BKG"]),
        psf_path=str(paths["PSF"]),
        **more,
    )


def catalog_columns(n_sources: int) -> dict[str, np.ndarray]:
    """Columns of a MER catalogue in which every source passes every cut."""
    index = np.arange(n_sources)
    return {
        "OBJECT_ID": -2_699_000_000_000_000_001 + index,  # negative: south of the equator
        "RIGHT_ASCENSION": 57.78 + 1e-3 * index,
        "DECLINATION": -51.0 + 1e-3 * index,
        "VIS_DET": np.ones(n_sources, np.int16),
        "FLUX_DETECTION_TOTAL": 10.0 + index,
        "FLUXERR_DETECTION_TOTAL": np.full(n_sources, 0.2),
        "SPURIOUS_FLAG": np.zeros(n_sources, np.int32),
        "SPURIOUS_PROB": np.zeros(n_sources),
        "POINT_LIKE_PROB": np.full(n_sources, 0.1),
        "MUMAX_MINUS_MAG": np.full(n_sources, -1.0),
        "DET_QUALITY_FLAG": np.zeros(n_sources, np.int32),
        "SEMIMAJOR_AXIS": np.full(n_sources, 4.0),
        "ELLIPTICITY": np.full(n_sources, 0.2),
    }


def write_catalog(path: Path, columns: dict, nulls: dict[str, int] | None = None) -> Path:
    """Write a catalogue as FITS; `nulls` gives the TNULL of integer columns."""
    codes = {"i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D", "b1": "L"}
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, codes[v.dtype.str[1:]], array=v, null=(nulls or {}).get(name))
            for name, v in columns.items()
        ]
    )
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


def make_manifest(catalogs, source_ids, core_source_ids=(), quadrants=()) -> Manifest:
    """A manifest of one sub-tile."""
    return Manifest(
        tile_id=102018665,
        sub_tile_row=2,
        sub_tile_col=11,
        sky_bounds={
            "core_ra": (57.75, 57.80),
            "core_dec": (-51.02, -50.98),
            "extended_ra": (57.74, 57.81),
            "extended_dec": (-51.03, -50.97),
        },
        quadrants=list(quadrants),
        source_catalog=[str(path) for path in catalogs],
        source_ids=[int(i) for i in source_ids],
        core_source_ids=[int(i) for i in core_source_ids],
    )
