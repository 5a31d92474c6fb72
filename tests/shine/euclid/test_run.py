"""From FITS files drawn by GalSim to result files, through the command line's own entry."""

import json
from pathlib import Path

import galsim
import jax
import numpy as np
import pytest
from astropy.io import fits

from shine.errors import Status, SubtileFlag
from shine.euclid import cli, posterior
from shine.euclid.cli import run_subtile
from shine.manifest import write_manifest
from shine.results import provenance_of, read_shear, read_sources
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


@pytest.fixture(scope="module")
def sky() -> Sky:
    return Sky()


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


@pytest.fixture
def subtile(tmp_path, sky) -> SubTile:
    return SubTile(tmp_path, sky, [draw_frame(sky, wcs_header(roll_deg=0.0))])


def off_centre(header: fits.Header) -> fits.Header:
    """The same detector with the field's galaxies in its frame, whatever its roll."""
    target = galsim_wcs(wcs_header(roll_deg=0.0)).toWorld(galsim.PositionD(SIDE / 2, SIDE / 2))
    here = galsim.FitsWCS(header=header).toImage(target)
    header["CRPIX1"] += SIDE / 2 - here.x
    header["CRPIX2"] += SIDE / 2 - here.y
    return header


@pytest.mark.parametrize(
    ("roll", "flip"), [(37.0, False), (128.0, False), (37.0, True)], ids=["37", "128", "mirrored"]
)
def test_a_rolled_distorted_quadrant_gives_the_sky_shear(tmp_path, sky, roll, flip):
    header = off_centre(wcs_header(roll_deg=roll, flip=flip))
    subtile = SubTile(tmp_path, sky, [draw_frame(sky, header)])
    shear = subtile.run()
    assert shear["STATUS"] == Status.OK
    np.testing.assert_allclose([shear["G1"], shear["G2"]], SHEAR, atol=3e-3)
    sources = subtile.sources()
    order = np.argsort(sources["OBJECT_ID"])
    found = np.column_stack([sources["E1"], sources["E2"]])[order]
    np.testing.assert_allclose(found, sky.e, atol=0.02)
    assert np.abs([sources["OFFSET_U"], sources["OFFSET_V"]]).max() < 0.005


def test_galaxies_across_the_edge_of_a_quadrant_are_fitted_to_the_pixels_that_are_there(
    tmp_path, sky
):
    header = wcs_header(roll_deg=0.0)
    header["CRPIX1"] -= SIDE / 2 - 1.5 * SPACING  # the first column of galaxies is on the edge
    shear = (subtile := SubTile(tmp_path, sky, [draw_frame(sky, header)])).run()
    assert shear["STATUS"] == Status.OK
    assert 0.9 < shear["CHI2"] / shear["N_PIXELS"] < 1.1
    sources = {key: np.array(column) for key, column in subtile.sources().items()}
    order = np.argsort(sources["OBJECT_ID"])
    on_edge = np.arange(N_GALAXIES) % N_ROWS == 0
    error = sources["FLUX_ERR"][order]
    assert error[on_edge].min() > error[~on_edge].max()
    for name, truth in (("FLUX", sky.flux_ujy), ("HALF_LIGHT_RADIUS", sky.hlr_arcsec)):
        pull = (sources[name][order] - truth) / sources[f"{name}_ERR"][order]
        assert np.abs(pull).max() < 4.5, name


def test_shear_and_fluxes_from_exposures_of_different_zero_point(tmp_path, sky):
    frames = [
        draw_frame(sky, wcs_header(roll_deg=0.0), "24.57", seed=1),
        draw_frame(sky, off_centre(wcs_header(roll_deg=90.0)), "23.87", seed=2),
    ]
    frames[1].obs_id = 124
    subtile = SubTile(tmp_path, sky, frames)
    shear = subtile.run()
    np.testing.assert_allclose([shear["G1"], shear["G2"]], SHEAR, atol=3e-3)
    assert shear["N_QUADRANTS"] == 2
    sources = subtile.sources()
    np.testing.assert_allclose(sources["FLUX"], 20.0, rtol=0.01)
    np.testing.assert_array_equal(sources["N_EXPOSURES"], 2)
    assert 0.9 < shear["CHI2"] / shear["N_PIXELS"] < 1.1


def test_same_inputs_give_the_same_bytes(subtile):
    first, second = (Path(subtile.folder / name) for name in ("a", "b"))
    subtile.run("a")
    subtile.run("b")
    for path in sorted(first.glob("*.p*")):
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    record = json.loads(next(first.glob("*.run.json")).read_text())
    assert record["measurements"]["solve_s"] > 0
    assert record["measurements"]["compile_s"] > 0


def test_a_quadrant_alone_or_among_others_gives_the_same_answer(tmp_path, sky):
    near = draw_frame(sky, wcs_header(roll_deg=0.0))
    far = Frame(header=wcs_header(centre=(58.5, -50.0)), obs_id=7)
    alone, among = tmp_path / "alone", tmp_path / "among"
    alone.mkdir()
    among.mkdir()
    one = SubTile(alone, sky, [near]).run()
    other = SubTile(among, sky, [far, near]).run()
    assert other["FLAGS"] & SubtileFlag.QUADRANTS_UNUSED
    for column in ("G1", "G2", "G1_ERR", "CHI2", "N_QUADRANTS"):
        assert one[column] == other[column]


def test_nan_under_masked_pixels_is_harmless(tmp_path, sky):
    frame = draw_frame(sky, wcs_header(roll_deg=0.0))
    bad = np.random.default_rng(3).uniform(size=frame.sci.shape) < 0.02
    frame.sci[bad], frame.rms[bad], frame.flg[bad] = np.nan, np.nan, 1
    shear = SubTile(tmp_path, sky, [frame]).run()
    assert shear["STATUS"] == Status.OK
    np.testing.assert_allclose([shear["G1"], shear["G2"]], SHEAR, atol=4e-3)


def test_neighbours_outside_the_core_are_modelled_but_not_reported(tmp_path, sky):
    ids = [int(i) for i in sky.columns()["OBJECT_ID"]]
    frame = draw_frame(sky, wcs_header(roll_deg=0.0))
    subtile = SubTile(tmp_path, sky, [frame], core=ids[:6])
    shear = subtile.run()
    assert shear["N_SOURCES"] == 6
    assert shear["N_MODELLED"] == N_GALAXIES
    assert sorted(subtile.sources()["OBJECT_ID"]) == sorted(ids[:6])
    assert 0.9 < shear["CHI2"] / shear["N_PIXELS"] < 1.1


def test_no_quadrant_is_an_empty_flagged_result(tmp_path, sky):
    subtile = SubTile(tmp_path, sky, [])
    shear = subtile.run()
    assert shear["STATUS"] == Status.NO_QUADRANTS
    assert (shear["G1"], shear["G1_ERR"], shear["N_SOURCES"]) == (None, None, 0)
    assert len(subtile.sources()["OBJECT_ID"]) == 0


def test_no_source_at_all_is_an_empty_flagged_result(subtile):
    write_manifest(
        make_manifest([str(subtile.catalog)], [], [], subtile.quadrants), subtile.manifest
    )
    shear = subtile.run()
    assert shear["STATUS"] == Status.NO_SOURCES
    assert (shear["G1"], shear["G1_ERR"], shear["N_SOURCES"]) == (None, None, 0)
    assert len(subtile.sources()["OBJECT_ID"]) == 0


def test_no_selected_source_is_an_empty_result_that_names_catalogue_and_cut(
    tmp_path, sky, capsys, caplog
):
    columns = sky.columns() | {"FLUXERR_DETECTION_TOTAL": np.full(N_GALAXIES, 1e3)}
    frame = draw_frame(sky, wcs_header(roll_deg=0.0))
    subtile = SubTile(tmp_path, sky, [frame], columns=columns)
    status, _ = subtile.exit_status(capsys)
    assert status == 0
    shear = read_shear(next((subtile.folder / "out").glob("*[0-9].parquet"))).to_pylist()[0]
    assert shear["STATUS"] == Status.NO_SOURCES
    assert shear["G1"] is None
    assert "catalogue.fits" in caplog.text
    assert f"'low_snr': {N_GALAXIES}" in caplog.text


def test_a_result_is_kept_while_nothing_changed(subtile, monkeypatch):
    # as in a clean checkout; the tests may run in one with changes
    monkeypatch.setattr("shine.provenance.git_commit", lambda: "0123abc")
    subtile.run()
    result = next((subtile.folder / "out").glob("*[0-9].parquet"))
    before = result.stat().st_mtime_ns
    subtile.run()
    assert result.stat().st_mtime_ns == before
    subtile.config.write_text("inference: {seed: 1}\n")
    subtile.run()
    assert result.stat().st_mtime_ns > before
    assert provenance_of(read_shear(result)).seed == 1


def test_not_converged_is_written_flagged_and_told(subtile, capsys):
    subtile.config.write_text("inference: {solver: {max_iterations: 2}}\n")
    status, message = subtile.exit_status(capsys)
    assert status == 4
    assert "max_iterations" in message
    shear = read_shear(next((subtile.folder / "out").glob("*[0-9].parquet"))).to_pylist()[0]
    assert shear["STATUS"] == Status.NOT_CONVERGED
    assert shear["FLAGS"] & SubtileFlag.NOT_CONVERGED
    assert shear["CONVERGENCE"] > 1e-3


def test_out_of_memory_has_its_own_exit_status(subtile, capsys, monkeypatch):
    class Exhausted:  # Linux hands out more memory than there is, so that no real program fails so
        def lower(self, scene, prior, config):
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory while trying to ..."
            )

    monkeypatch.setattr(posterior, "_find_mode", Exhausted())
    status, message = subtile.exit_status(capsys)
    assert status == 5
    assert "tiling.sub_tile_grid" in message
    assert not list(subtile.folder.glob("out/*"))


def _truncate(subtile):
    path = Path(subtile.quadrants[0].sci_path)
    path.write_bytes(path.read_bytes()[:100_000])


def _drop_hdu(subtile):
    path = Path(subtile.quadrants[0].sci_path)
    with fits.open(path) as hdus:
        kept = fits.HDUList([hdu.copy() for hdu in hdus if hdu.name != "3-4.F.RMS"])
    kept.writeto(path, overwrite=True)


def _drop_key(subtile):
    path = Path(subtile.quadrants[0].sci_path)
    with fits.open(path, mode="update") as hdus:
        del hdus["3-4.F.SCI"].header["MAGZEROP"]


def _drop_column(subtile):
    with fits.open(subtile.catalog) as hdus:
        columns = [c for c in hdus[1].columns if c.name != "SEMIMAJOR_AXIS"]
        fits.BinTableHDU.from_columns(columns).writeto(subtile.catalog, overwrite=True)


def _typo(subtile):
    subtile.config.write_text("inference: {metod: map}\n")


def _stranger_in_core(subtile):
    text = subtile.manifest.read_text()
    subtile.manifest.write_text(text.replace("core_source_ids: [", "core_source_ids: [77, "))


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        (lambda s: Path(s.quadrants[0].psf_path).unlink(), 3, ["PSF.fits"]),
        (_truncate, 3, ["DET.fits", "truncated"]),
        (_drop_hdu, 3, ["DET.fits", "3-4.F.RMS"]),
        (_drop_key, 3, ["DET.fits", "3-4.F.SCI", "MAGZEROP"]),
        (_drop_column, 3, ["catalogue.fits", "SEMIMAJOR_AXIS"]),
        (_typo, 2, ["shine.yaml", "inference.metod"]),
        (_stranger_in_core, 3, ["manifest.yaml", "core_source_ids", "77"]),
        (lambda s: s.manifest.unlink(), 3, ["manifest.yaml"]),
        (lambda s: s.config.unlink(), 2, ["shine.yaml"]),
    ],
    ids=[
        "missing file", "truncated FITS", "missing extension", "missing MAGZEROP",
        "missing column", "unknown key", "core id not a source", "no manifest", "no configuration",
    ],
)  # fmt: skip
def test_bad_input_is_named_and_leaves_no_result(subtile, capsys, spoil, status, words):
    spoil(subtile)
    found, message = subtile.exit_status(capsys)
    assert found == status, message
    for word in words:
        assert word in message
    assert not list(subtile.folder.glob("out/*"))
