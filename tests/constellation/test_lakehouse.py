"""Publishing to Iceberg: what is in the tables, what a second publication changes, and what not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

import shine
from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.schema import SHEAR, SOURCES
from constellation.lakehouse.commits import ID
from constellation.lakehouse.contents import Contents
from constellation.lakehouse.publication import Publication, publish
from constellation.lakehouse.tables import Lakehouse
from shine.errors import InputError

from .fake_catalogue import ORIGIN_VALUES
from .lake import N_SOURCES, assemble, configuration, makers, publish_tiles


@pytest.fixture
def lakehouse(tmp_path) -> Lakehouse:
    """The embedded one of the results in `tmp_path`."""
    return Lakehouse.of(configuration(tmp_path))


def data_files(lakehouse: Lakehouse, name: str = "sources") -> dict[str, bytes]:
    """Path and content of the files that a table consists of now."""
    tasks = lakehouse.table(name).scan().plan_files()
    paths = [task.file.file_path.removeprefix("file://") for task in tasks]
    return {path: Path(path).read_bytes() for path in paths}


def snapshots(lakehouse: Lakehouse) -> dict[str, int]:
    return {name: len(table.snapshots()) for name, table in lakehouse.both.items()}


def test_what_was_published_is_read_as_it_was(tmp_path, lakehouse):
    assert publish_tiles(tmp_path, lakehouse, {1: 5, 2: 6})
    catalogue = PublishedCatalogue(tmp_path / "catalogue")
    sources, shear = lakehouse.read("sources"), lakehouse.read("shear")
    assert sources.schema.equals(SOURCES) and shear.schema.equals(SHEAR)
    assert sources.sort_by("OBJECT_ID").equals(catalogue.sources().sort_by("OBJECT_ID"))
    assert shear.sort_by("HEALPIX").equals(catalogue.shear.sort_by("HEALPIX"))
    assert 0 < sources["COVARIANCE"].null_count < sources.num_rows
    for table in lakehouse.both.values():
        rows = table.scan().to_arrow()
        assert np.array_equal(rows["HEALPIX_13"], np.asarray(rows["HEALPIX"]) // 4**16)
        field = table.schema().find_field("RA")
        assert field.doc.startswith("right ascension") and field.doc.endswith("[deg]")
    for path in data_files(lakehouse):
        assert (np.diff(parquet.read_table(path)["HEALPIX"].to_numpy()) >= 0).all()


def test_shear_is_inferred_again_from_the_rows_of_a_scan(tmp_path, lakehouse):
    publish_tiles(tmp_path, lakehouse, {1: 5})
    expected = shine.reinfer(PublishedCatalogue(tmp_path / "catalogue").sources())
    found = shine.reinfer(lakehouse.table("sources").scan().to_arrow())
    np.testing.assert_array_equal(found.shear, expected.shear)
    assert found.n_galaxies == expected.n_galaxies > 0


def test_the_origin_is_in_the_snapshots_of_both_tables(tmp_path, lakehouse):
    (tmp_path / "catalogue.json").write_text(json.dumps({"any": "receipt"}))
    publish_tiles(tmp_path, lakehouse, {1: 5})
    receipt = hashlib.sha256((tmp_path / "catalogue.json").read_bytes()).hexdigest()
    [of_sources], [of_shear] = (table.snapshots() for table in lakehouse.both.values())
    about = of_sources.summary.additional_properties
    assert about["constellation.receipt-sha256"] == receipt
    assert about["constellation.git-commit"] == ORIGIN_VALUES[0]
    assert about["constellation.config-hash"] == ORIGIN_VALUES[2]
    own = {key: text for key, text in about.items() if key.startswith("constellation.")}
    assert own.items() <= of_shear.summary.additional_properties.items() and ID in own


def test_the_same_content_is_published_once(tmp_path, lakehouse):
    assert publish_tiles(tmp_path, lakehouse, {1: 5, 2: 6})
    assert not publish_tiles(tmp_path, lakehouse, {2: 6, 1: 5})
    assert not publish_tiles(tmp_path, lakehouse, {2: 6})
    assert snapshots(lakehouse) == {"sources": 1, "shear": 1}


def test_new_tiles_are_appended_and_others_replaced(tmp_path, lakehouse):
    publish_tiles(tmp_path, lakehouse, {1: 5, 2: 6})
    first = data_files(lakehouse)
    publish_tiles(tmp_path, lakehouse, {3: 7})
    assert lakehouse.table("sources").current_snapshot().summary.operation.value == "append"
    assert first.items() < data_files(lakehouse).items()
    publish_tiles(tmp_path, lakehouse, {2: 8, 3: 7, 4: 9})
    assert makers(lakehouse) == {1: 5, 2: 8, 3: 7, 4: 9}
    kept = set(first) & set(data_files(lakehouse))
    assert len(kept) == 1 and "/1-" in kept.pop()
    assert snapshots(lakehouse) == {"sources": 3, "shear": 3}


def test_a_shear_row_alone_makes_a_tile_another(tmp_path, lakehouse):
    publish_tiles(tmp_path, lakehouse, {1: 5, 2: 6})
    path = tmp_path / "catalogue" / "shear.parquet"
    shear = parquet.read_table(path)
    changed = pc.if_else(pc.equal(shear["TILE_ID"], 2), pa.scalar(0.5, pa.float32()), shear["G1"])
    place = shear.schema.get_field_index("G1")
    parquet.write_table(shear.set_column(place, shear.schema.field("G1"), changed), path)
    first = data_files(lakehouse)
    assert publish(lakehouse, Publication.of(path.parent))
    assert lakehouse.read("shear", where="TILE_ID = 2")["G1"].to_pylist() == [0.5, 0.5]
    assert len(set(first) & set(data_files(lakehouse))) == 1


def test_tiles_are_removed_only_by_a_publication_of_the_whole_survey(tmp_path, lakehouse):
    publish_tiles(tmp_path, lakehouse, {1: 5, 2: 6, 3: 7})
    publish_tiles(tmp_path, lakehouse, {2: 6, 3: 8})
    assert makers(lakehouse) == {1: 5, 2: 6, 3: 8}
    assert publish_tiles(tmp_path, lakehouse, {2: 6}, whole=True)
    assert makers(lakehouse) == {2: 6}
    assert not publish_tiles(tmp_path, lakehouse, {2: 6}, whole=True)


def test_a_tile_without_sources_is_in_the_shear_alone(tmp_path, lakehouse):
    publish_tiles(tmp_path, lakehouse, {1: 5, 2: 6})
    for maker in (6, 7):
        folder = assemble(tmp_path, {1: 5, 2: maker})
        files = parquet.read_table(folder / "files.parquet")
        parquet.write_table(files.filter(pc.equal(files["TILE_ID"], 1)), folder / "files.parquet")
        assert publish(lakehouse, Publication.of(folder))
        assert pc.unique(lakehouse.read("sources")["TILE_ID"]).to_pylist() == [1]
        made_by = lakehouse.read("shear", where="TILE_ID = 2")["N_MODELLED"].to_pylist()
        assert made_by == [maker, maker]
        assert not publish(lakehouse, Publication.of(folder))
        # a snapshot of the publication is in both, even where no row of the sources changes
        heads = [table.current_snapshot().summary[ID] for table in lakehouse.both.values()]
        assert heads[0] == heads[1] == Publication.of(folder).id
    assert snapshots(lakehouse) == {"sources": 3, "shear": 3}


def test_what_an_interrupted_publisher_left_undone_is_done_by_the_next(tmp_path, lakehouse):
    publish_tiles(tmp_path, lakehouse, {1: 5, 2: 6})
    old = lakehouse.table("shear").current_snapshot().snapshot_id
    publish_tiles(tmp_path, lakehouse, {2: 7})
    lakehouse.table("shear").manage_snapshots().set_current_snapshot(snapshot_id=old).commit()
    with pytest.raises(AssertionError):
        makers(lakehouse)
    assert publish_tiles(tmp_path, lakehouse, {2: 7})
    assert makers(lakehouse) == {1: 5, 2: 7}
    assert snapshots(lakehouse) == {"sources": 2, "shear": 3}


def test_files_with_many_tiles_lose_only_the_rows_that_are_replaced(tmp_path, lakehouse):
    """As after a compaction by another program."""
    publish_tiles(tmp_path, lakehouse, {1: 5, 2: 6, 3: 7})
    table = lakehouse.table("sources")
    with table.update_spec() as update:
        update.remove_field("TILE_ID")
    table.overwrite(table.scan().to_arrow().sort_by("OBJECT_ID"))
    assert len(data_files(lakehouse)) == 1
    held = Contents.of(table, table.current_snapshot()).digests
    assert held == Publication.of(tmp_path / "catalogue").digests
    publish_tiles(tmp_path, lakehouse, {2: 8})
    assert makers(lakehouse) == {1: 5, 2: 8, 3: 7}
    for path in data_files(lakehouse):
        assert (np.diff(parquet.read_table(path)["HEALPIX"].to_numpy()) >= 0).all()


def test_files_have_no_more_than_their_target_size(tmp_path, lakehouse):
    publish_tiles(tmp_path, lakehouse, {1: 5})
    table = lakehouse.table("sources")
    with table.transaction() as transaction:
        transaction.set_properties({"write.target-file-size-bytes": "4096"})
    publish_tiles(tmp_path, lakehouse, {1: 6, 2: 6})
    files = [parquet.read_table(path) for path in data_files(lakehouse)]
    assert len(files) > 4 and max(len(rows) for rows in files) < N_SOURCES / 2
    assert makers(lakehouse) == {1: 6, 2: 6}


def test_new_columns_join_the_table_and_old_files_stay(tmp_path, lakehouse):
    publish_tiles(tmp_path, lakehouse, {1: 5, 2: 6})
    first, old = data_files(lakehouse), lakehouse.table("sources").current_snapshot()
    folder = assemble(tmp_path, {3: 7})
    [row] = parquet.read_table(folder / "files.parquet").to_pylist()
    path = folder / row["PATH"]
    about = {"unit": "mag", "description": "a new one"}
    column = pa.field("NEW", pa.float32(), False, about)
    rows = parquet.read_table(path).append_column(column, pa.array([1.5] * N_SOURCES, column.type))
    parquet.write_table(rows, path)
    row |= {"SHA256": hashlib.sha256(path.read_bytes()).hexdigest()}
    schema = parquet.read_schema(folder / "files.parquet")
    parquet.write_table(pa.Table.from_pylist([row], schema), folder / "files.parquet")

    assert publish(lakehouse, Publication.of(folder))
    assert first.items() < data_files(lakehouse).items()
    table = lakehouse.table("sources")
    assert table.schema().find_field("NEW").doc == "a new one [mag]"
    rows = table.scan(selected_fields=("TILE_ID", "NEW")).to_arrow()
    expected = [1.5 if tile == 3 else None for tile in rows["TILE_ID"].to_pylist()]
    assert rows["NEW"].to_pylist() == expected
    assert lakehouse.read("sources", old.snapshot_id).num_rows == 2 * N_SOURCES
    # a catalogue of before the column can still be published
    assert publish_tiles(tmp_path, lakehouse, {1: 8})
    assert makers(lakehouse) == {1: 8, 2: 6, 3: 7}


def test_a_file_that_is_not_the_catalogues_is_refused(tmp_path, lakehouse):
    folder = assemble(tmp_path, {1: 5})
    publication = Publication.of(folder)
    [path] = (folder / "sources").iterdir()
    parquet.write_table(parquet.read_table(path).slice(1), path)
    with pytest.raises(InputError, match=r"as in files\.parquet"):
        publish(lakehouse, publication)
    assert lakehouse.read("sources").num_rows == 0
    assert not list((tmp_path / "iceberg" / "warehouse").rglob("*/data/*.parquet"))


def test_nothing_published_is_an_error_that_says_so(lakehouse):
    with pytest.raises(InputError, match=r"shine\.sources: found none.*constellation publish"):
        lakehouse.read("sources")
