"""Shear from the source files of a sub-tile, without its pixels."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shine
from shine import provenance
from shine.errors import InputError, Status
from shine.population import ShapePrior, ShapeSamples, infer_shear
from shine.result_records import RunRecord, SampleColumns, ShearResult, SourceResults
from shine.result_schema import PARAMETERS
from shine.results import (
    read_sources,
    write_results,
)
from tests.shine.euclid.subtile import Sky, SubTile, draw_frame
from tests.shine.survey_files import wcs_header

N, K = 40, 48
UNSAMPLED = [3, 17]
PRIOR = ShapePrior(ellipticity_sigma=0.25)
FIXED = ShapePrior(ellipticity_sigma=0.25, infer_sigma=False)


def synthetic(seed: int = 0, shear: complex = 0.05 - 0.03j) -> ShapeSamples:
    """Samples of galaxies, the first ten of which are five blends; K differs from one to another.

    Blends are numbered as in a sub-tile that also has stars.
    """
    rng = np.random.default_rng(seed)
    e, noise, z = rng.normal(size=(3, N, 2, K))
    e, noise = 0.25 * (e[:, 0, 0] + 1j * e[:, 1, 0]), 0.1 * (noise[:, 0, 0] + 1j * noise[:, 1, 0])
    seen = (e + shear) / (1.0 + np.conj(shear) * e) + noise
    shape = (seen[:, None] + 0.1 * (z[:, 0] + 1j * z[:, 1])) / 1.3  # keeps them in the disc
    log_weight = rng.uniform(-3.0, 0.0, (N, K)) - rng.uniform(0.0, 500.0, (N, 1))
    blend = np.append(np.repeat(np.arange(5), 2), np.arange(5, 35)) * 3
    log_weight[1:10:2] = log_weight[0:10:2]
    log_weight[20:30, K // 2 :] = -np.inf
    log_weight[UNSAMPLED] = -np.inf
    return ShapeSamples(shape, log_weight, blend)


def write(folder, samples: ShapeSamples | None, stem: str = "7_2_3"):
    """The path of a source file with these samples."""
    tile, row, column = (int(part) for part in stem.split("_"))
    place = {"tile_id": tile, "subtile_row": row, "subtile_col": column}
    shear = ShearResult(
        **place, ra_deg=57.8, dec_deg=-51.0, method="marginal", status=Status.NOT_CONVERGED
    )
    zero, n = np.zeros(N), len(PARAMETERS)
    columns = None
    if samples is not None:
        columns = SampleColumns(samples.shape, samples.log_weight, np.full(N, 20.0))
    sources = SourceResults(
        object_id=np.arange(N),
        ra_deg=zero,
        dec_deg=zero,
        kind=zero.astype(int),
        parameters=np.zeros((N, n)),
        covariance=np.zeros((N, n, n)),
        chi2=zero,
        n_pixels=zero.astype(int),
        n_exposures=zero.astype(int),
        flags=zero.astype(int),
        blend=zero.astype(int) if samples is None else samples.blend,
        samples=columns,
    )
    record = RunRecord(
        provenance.Provenance("abc", "1f", {"numpy": "2"}, "c0ffee", {"a": "b"}, seed=7)
    )
    write_results(folder, stem, shear, sources, record)
    return folder / f"{stem}_sources.parquet"


def sampled(samples: ShapeSamples) -> ShapeSamples:
    return samples.select(np.isfinite(samples.log_weight).any(axis=1))


def assert_same(found, expected, share=1e-3):
    """Shear and errors, but for a share of the error."""
    error = np.sqrt(np.diag(expected.covariance))
    np.testing.assert_allclose(found.shear, expected.shear, atol=share * error.min())
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), error, rtol=share)
    assert found.n_galaxies == expected.n_galaxies


@pytest.fixture
def path(tmp_path):
    return write(tmp_path, synthetic())


@pytest.mark.parametrize("prior", [PRIOR, FIXED], ids=["sigma inferred", "sigma given"])
def test_a_file_holds_the_samples_to_a_thousandth_of_the_error(path, prior):
    expected = infer_shear(sampled(synthetic()), prior)
    assert expected.n_galaxies == N - len(UNSAMPLED)
    for samples in (path, str(path), pq.read_table(path), read_sources(path)):
        found = shine.reinfer(samples, prior)
        assert_same(found, expected)
        assert found.ellipticity_sigma == pytest.approx(expected.ellipticity_sigma, rel=1e-3)


def test_the_default_prior_infers_the_dispersion(path):
    found = shine.reinfer(path)
    assert_same(found, shine.reinfer(path, PRIOR), share=1e-9)
    assert found.ellipticity_sigma_err > 0.0


def test_a_sub_tile_is_inferred_again_from_its_file(tmp_path):
    subtile = SubTile(tmp_path, Sky(), [draw_frame(Sky(), wcs_header(roll_deg=0.0))])
    shear = subtile.run()
    assert shear["METHOD"] == "marginal"
    found = shine.reinfer(next((tmp_path / "out").glob("*_sources.parquet")))
    error = np.sqrt(np.diag(found.covariance))
    expected = [shear["G1_ERR"], shear["G2_ERR"]]
    np.testing.assert_allclose(found.shear, [shear["G1"], shear["G2"]], atol=1e-3 * min(expected))
    np.testing.assert_allclose(error, expected, rtol=1e-3)
    assert found.covariance[0, 1] == pytest.approx(shear["G1G2_COV"], abs=1e-3 * error.prod())
    assert found.ellipticity_sigma == pytest.approx(shear["ELLIPTICITY_SIGMA"], rel=1e-3)
    assert found.ellipticity_sigma_err == pytest.approx(shear["ELLIPTICITY_SIGMA_ERR"], rel=1e-2)
    assert found.n_galaxies == shear["N_SOURCES"]


def test_groups_have_a_posterior_each(path):
    groups = np.array(["north", "south"])[(np.arange(N) % 2)]  # divides the blends
    found = shine.reinfer(path, FIXED, groups=groups)
    assert set(found) == {"north", "south"}
    samples = synthetic()
    valid = np.isfinite(samples.log_weight).any(axis=1)
    for label, posterior in found.items():
        assert_same(posterior, infer_shear(samples.select(valid & (groups == label)), FIXED))
    assert found["north"].n_galaxies + found["south"].n_galaxies == N - len(UNSAMPLED)


def test_labels_of_numbers_are_those_given(path):
    found = shine.reinfer(path, FIXED, groups=[7] * N)
    assert list(found) == [7]
    assert_same(found[7], shine.reinfer(path, FIXED), share=1e-9)


def test_a_narrower_population_gives_smaller_errors(path):
    wide, narrow = (
        shine.reinfer(path, ShapePrior(ellipticity_sigma=sigma, infer_sigma=False))
        for sigma in (0.25, 0.125)
    )
    assert wide.ellipticity_sigma == 0.25
    assert narrow.ellipticity_sigma == 0.125
    # the noise of 0.08 adds to the dispersion
    expected = np.hypot(0.125, 0.08) / np.hypot(0.25, 0.08)
    ratio = np.sqrt(np.diag(narrow.covariance) / np.diag(wide.covariance))
    np.testing.assert_allclose(ratio, expected, atol=0.12)


def test_files_of_several_sub_tiles_are_one_set(tmp_path):
    parts = [synthetic(seed) for seed in (0, 1)]
    paths = [write(tmp_path, part, f"7_2_{k}") for k, part in enumerate(parts)]
    together = ShapeSamples(
        np.concatenate([part.shape for part in parts]),
        np.concatenate([part.log_weight for part in parts]),
        # blends of equal numbers in two sub-tiles are not one
        np.concatenate([parts[0].blend, parts[1].blend + 1000]),
    )
    expected = infer_shear(sampled(together), FIXED)
    assert_same(shine.reinfer(paths, FIXED), expected)
    mixed = [paths[0], pq.read_table(paths[1])]
    assert_same(shine.reinfer(mixed, FIXED), expected)
    merged = pa.concat_tables(pq.read_table(path).replace_schema_metadata() for path in paths)
    assert_same(shine.reinfer(merged, FIXED), expected)
    by_tile = shine.reinfer(paths, FIXED, groups=np.repeat([0, 1], N))
    assert_same(by_tile[1], shine.reinfer(paths[1], FIXED), share=1e-9)


def test_a_folder_is_all_its_files(tmp_path):
    paths = [write(tmp_path, synthetic(seed), f"7_2_{seed}") for seed in (0, 1)]
    folder = tmp_path / "sources"
    folder.mkdir()
    for number, path in enumerate(paths):
        path.rename(folder / f"{number}.parquet")
    (folder / ".2.parquet.7.tmp").write_bytes(b"half")
    (folder / ".2.parquet").write_bytes(b"half")
    expected = shine.reinfer(sorted(folder.glob("[01].parquet")), PRIOR)
    assert expected.n_galaxies == 2 * (N - len(UNSAMPLED))
    for samples in (folder, str(folder), [folder]):
        assert_same(shine.reinfer(samples, PRIOR), expected, share=1e-9)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: found no Parquet file, expected source files"):
        shine.reinfer(tmp_path / "empty")


def test_rows_without_samples_are_left_out(path):
    samples = synthetic()
    kept = np.setdiff1d(np.arange(N), UNSAMPLED)
    table = pq.read_table(path)
    assert table["SAMPLE_LOG_WEIGHT"].null_count == len(UNSAMPLED)
    assert_same(shine.reinfer(table.take(kept), FIXED), shine.reinfer(path, FIXED), share=1e-9)
    # the other member of a blend that lost one goes on with the blend's samples
    assert_same(shine.reinfer(path, FIXED), infer_shear(sampled(samples), FIXED))
    # a group without any sample has no posterior
    groups = np.isin(np.arange(N), UNSAMPLED)
    assert set(shine.reinfer(path, FIXED, groups=groups)) == {False}


def test_nothing_with_samples_is_an_error(tmp_path):
    with pytest.raises(InputError, match="marginal"):
        shine.reinfer(write(tmp_path, None))


@pytest.mark.parametrize("n", [N - 1, N - len(UNSAMPLED), 2 * N])
def test_groups_must_be_as_many_as_rows(path, n):
    with pytest.raises(ValueError, match=f"{n} labels for {N} rows"):
        shine.reinfer(path, groups=np.zeros(n, int))


def test_other_files_are_refused_by_name(tmp_path, path):
    shear_file = tmp_path / "7_2_3.parquet"
    with pytest.raises(InputError, match=r"7_2_3\.parquet: .*SHAPE_SAMPLES"):
        shine.reinfer(shear_file)
    with pytest.raises(InputError, match=r"absent\.parquet"):
        shine.reinfer(tmp_path / "absent.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("no Parquet at all")
    with pytest.raises(InputError, match=r"text\.parquet"):
        shine.reinfer([path, text])
    with pytest.raises(InputError, match="SAMPLE_LOG_WEIGHT"):
        shine.reinfer(pq.read_table(path).drop_columns(["SAMPLE_LOG_WEIGHT"]))


def test_samples_round_trip_with_their_blends_and_lengths(path):
    """The column of lists holds what each source has, and no padding."""
    count = [len(row) for row in read_sources(path)["SAMPLE_LOG_WEIGHT"].to_pylist() if row]
    assert sorted(set(count)) == [K // 2, K]
    weight = np.array(read_sources(path)["SAMPLE_LOG_WEIGHT"][0].as_py())
    assert weight.max() == 0
    expected = synthetic().log_weight[0]
    np.testing.assert_allclose(weight / 1000, expected - expected.max(), atol=6e-4)
