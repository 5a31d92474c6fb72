"""The pass over the sources: identifiers, areas, and what the sources of a sub-tile add up to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from constellation.catalogue.published import PublishedCatalogue
from constellation.quality import sources as module
from constellation.quality.catalogue_checks import count_sigma
from constellation.quality.sources import (
    SourceReader,
    Truth,
    box_areas_arcmin2,
    repeated_ids,
)
from constellation.quality.subtiles import name_of, pack
from shine.errors import InputError, SourceFlag

from .skies import GRID, Sky, changed, make_sky, plan_of_tiles


@pytest.fixture(scope="module")
def sky(tmp_path_factory) -> Sky:
    return make_sky(tmp_path_factory.mktemp("sky"))


def published(sky: Sky, folder) -> tuple[SourceReader, list]:
    reader = SourceReader(PublishedCatalogue(sky.publish(folder)), sky.plan)
    good, bad = reader.files()
    assert not bad
    return reader, good


@pytest.mark.parametrize("most", [10**6, 1000, 7])
def test_repeated_identifiers_are_counted_however_many_are_held_at_a_time(sky, tmp_path, most):
    ids = np.asarray(sky.sources["OBJECT_ID"]).copy()
    ids[[10, 11, 4000]] = ids[5]  # in another tile too
    ids[20] = ids[21]
    ids[30] = -(2**62)
    column = sky.sources.schema.get_field_index("OBJECT_ID")
    field = sky.sources.schema.field("OBJECT_ID")
    spoilt = replace(sky, sources=sky.sources.set_column(column, field, pa.array(ids)))
    _, paths = published(spoilt, tmp_path / "catalogue")
    if most == 7:
        paths, n_rows = paths[:1], 70  # ten shares of the first file
        first = ids[np.asarray(sky.sources["TILE_ID"]) == 100]
    else:
        n_rows, first = len(ids), ids
    values, counts = np.unique(first, return_counts=True)
    count, examples = repeated_ids(paths, n_rows, most)
    assert count == (counts - 1).sum() > 0
    assert examples == values[counts > 1].tolist()


def test_few_rows_at_a_time_add_up_to_the_same(sky, tmp_path, monkeypatch):
    flags = np.zeros(sky.sources.num_rows, int)
    flags[::7] = SourceFlag.POOR_FIT | SourceFlag.BLENDED
    spoilt = sky.with_sources("FLAGS", slice(None), flags.tolist())
    reader, paths = published(spoilt, tmp_path / "catalogue")
    rng = np.random.default_rng(3)
    shear = rng.normal(size=(sky.sources.num_rows, 2))
    known = np.arange(len(shear)) % 3 > 0
    truth = pa.table({"OBJECT_ID": sky.sources["OBJECT_ID"], "G1": shear[:, 0], "G2": shear[:, 1]})
    truth = Truth.of(truth.filter(pa.array(known)))
    counts = reader.count(paths, pack(sky.shear), truth)
    monkeypatch.setattr(module, "BATCH_ROWS", 100)
    again = reader.count(paths, pack(sky.shear), truth)
    carries = np.asarray(sky.sources["KIND"]) == 0
    for k, key in enumerate(counts.key):
        own = (pack(sky.sources) == key) & carries
        assert counts.n_used[k] == own.sum() > 100
        assert counts.n_poor[k] == (own & (flags > 0)).sum() > 0
        np.testing.assert_allclose(counts.mean_truth[k], shear[own & known].mean(axis=0))
    for name in ("key", "n_used", "n_boxed", "n_poor", "n_truth"):
        np.testing.assert_array_equal(getattr(again, name), getattr(counts, name))
    np.testing.assert_allclose(again.truth, counts.truth)


def test_the_truth_of_a_sub_tile_without_any_is_not_known(sky, tmp_path):
    reader, paths = published(sky, tmp_path / "catalogue")
    nothing = Truth.of(sky.truth.slice(0, 0))
    assert np.isnan(reader.count(paths, pack(sky.shear), nothing).mean_truth).all()
    west = sky.truth.filter(pa.array(np.asarray(sky.sources["TILE_ID"]) == 100))
    mean = reader.count(paths, pack(sky.shear), Truth.of(west)).mean_truth
    assert np.isfinite(mean[:9]).all() and np.isnan(mean[9:]).all()


def test_areas_are_those_that_random_points_find(tmp_path):
    plan = plan_of_tiles(tmp_path, 3)
    grid = plan.grid(101)  # with a neighbour on either side, 29 arcmin away
    half = np.tan(np.radians(0.25))
    rng = np.random.default_rng(5)
    n = 200_000
    vectors = grid.plane.unproject(*rng.uniform(-half, half, (2, n)))
    row, col = grid.core_cells(vectors)
    expected = np.zeros(GRID)
    np.add.at(expected, (row[row >= 0], col[row >= 0]), 900.0 / n)
    areas = box_areas_arcmin2(grid)
    np.testing.assert_allclose(areas, expected, rtol=0.025)
    np.testing.assert_allclose(areas[:, 1], 100.0, rtol=1e-4)
    assert areas[:, [0, 2]].max() < 97.0  # half an arcmin of ten is the neighbour's


@pytest.mark.parametrize("scatter", [0.0, 0.3])
def test_numbers_are_as_improbable_as_clustered_ones_drawn(scatter):
    rng = np.random.default_rng(6)
    for expected, observed in ((4.0, 0), (4.0, 9), (4.0, 12), (30.0, 14), (30.0, 48)):
        density = rng.gamma(scatter**-2.0, scatter**2.0, 10**6) if scatter else 1.0
        drawn = rng.poisson(expected * density, 10**6)
        tail = (drawn >= observed).mean() if observed > expected else (drawn <= observed).mean()
        sigma = count_sigma(np.array([observed]), np.array([expected]), scatter)[0]
        assert np.sign(sigma) == np.sign(observed - expected)
        assert abs(sigma) == pytest.approx(stats.norm.isf(tail), abs=0.03)


def test_a_damaged_file_of_the_right_size_is_named(sky, tmp_path):
    reader, paths = published(sky, tmp_path / "catalogue")
    content = bytearray(paths[0].read_bytes())
    content[len(content) // 4 : len(content) // 2] = b"\xff" * (
        len(content) // 2 - len(content) // 4
    )
    paths[0].write_bytes(content)
    assert reader.files()[0] == paths  # what it says of itself is right
    with pytest.raises(InputError, match=r"sources/100-.*no readable table"):
        reader.count(paths, pack(sky.shear), None)


def test_a_source_in_a_neighbours_cell_is_named(sky, tmp_path):
    row = np.asarray(sky.sources["SUBTILE_COL"])
    wrong = int(np.flatnonzero(row == 2)[0])
    moved = replace(sky, sources=changed(sky.sources, "SUBTILE_COL", wrong, 1))
    reader, paths = published(moved, tmp_path / "catalogue")
    counts = reader.count(paths, pack(sky.shear), None)
    assert counts.misplaced.counts.total() == 1
    name = str(sky.sources["OBJECT_ID"][wrong].as_py())
    assert counts.misplaced.examples == {"sources of another sub-tile": name}


def test_keys_are_packed_in_order():
    keys = pack(
        pa.table({"TILE_ID": [1, 1, 2**40], "SUBTILE_ROW": [0, 1, 127], "SUBTILE_COL": [127, 0, 5]})
    )
    assert (np.diff(keys) > 0).all()
    assert [name_of(int(key)) for key in keys] == ["1_0_127", "1_1_0", f"{2**40}_127_5"]
