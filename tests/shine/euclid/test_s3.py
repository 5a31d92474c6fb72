"""Inputs in S3, read from a real server: same results, few requests, no secrets."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from pyarrow import parquet

from shine import s3 as shine_s3
from shine import storage
from shine.errors import InputError
from shine.euclid import catalog_files, fits_files
from shine.euclid.data_loader import load_quadrant
from shine.euclid.flags import BAD_PIXELS
from shine.manifest import QuadrantFiles, read_manifest, write_manifest
from shine.results import read_shear, read_sources
from tests.servers.proxy import proxy_of
from tests.servers.s3 import S3Server
from tests.shine.survey_files import Frame, catalog_columns, write_catalog, write_frames

ROOT = Path(__file__).parents[3]


@pytest.fixture
def proxy(s3, monkeypatch):
    """A proxy before the server, for which this process takes it."""
    with proxy_of(s3) as proxy:
        proxy.server.use(monkeypatch)
        yield proxy


def uploaded(store: S3Server, path: Path) -> str:
    """The URI of a copy of the file."""
    store.client().upload_file(str(path), store.bucket, path.name)
    return store.uri(path.name)


def all_uploaded(store: S3Server, files: QuadrantFiles) -> QuadrantFiles:
    """The same files in S3."""
    paths = {name: getattr(files, name) for name in QuadrantFiles.model_fields if "path" in name}
    return files.model_copy(update={k: uploaded(store, Path(p)) for k, p in paths.items() if p})


def many_hdus(path: Path, n_quadrants: int = 144, side: int = 40, n_cards: int = 90) -> Path:
    """A file like a VIS frame, but for the size of its images, which are noise."""
    rng = np.random.default_rng(3)
    hdus = [fits.PrimaryHDU()]
    for quadrant in range(n_quadrants):
        for kind in ("SCI", "RMS", "FLG"):
            cards = n_cards if kind == "SCI" else 0
            header = fits.Header({f"KEY{number}": float(number) for number in range(cards)})
            image = rng.normal(size=(side, side)).astype(np.float32)
            hdus.append(fits.ImageHDU(image, header, name=f"{quadrant}.{kind}"))
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_quadrant_is_the_same_from_s3(store, tmp_path, suffix, compressed):
    frames = [Frame(name=f"{i}-1.E", seed=i, compressed=compressed) for i in range(1, 5)]
    files = write_frames(tmp_path, *frames, suffix=suffix).model_copy(update={"quadrant": "3-1.E"})
    here = load_quadrant(files, BAD_PIXELS)
    there = load_quadrant(all_uploaded(store, files), BAD_PIXELS)
    assert there.digest == here.digest
    np.testing.assert_array_equal(there.image_adu, here.image_adu)


def test_catalogues_are_the_same_from_s3(store, tmp_path):
    columns = catalog_columns(2000)
    ids = columns["OBJECT_ID"][7::31]
    plain = write_catalog(tmp_path / "cat.fits", columns)
    packed = write_catalog(tmp_path / "cat.fits.gz", columns)
    parquet.write_table(pa.table(columns), tmp_path / "cat.parquet", row_group_size=300)
    for path in (plain, packed, tmp_path / "cat.parquet"):
        wanted = ("RIGHT_ASCENSION", "FLUX_DETECTION_TOTAL")
        here = catalog_files.read_rows(str(path), wanted, ids)
        there = catalog_files.read_rows(uploaded(store, path), wanted, ids)
        assert here.keys() == there.keys()
        for name, values in here.items():
            np.testing.assert_array_equal(there[name], values)


def test_any_ranges_hold_what_the_file_holds(store, tmp_path, monkeypatch):
    monkeypatch.setattr(shine_s3, "PART_BYTES", 10_000)
    monkeypatch.setattr(shine_s3, "GAP_BYTES", 500)
    rng = np.random.default_rng(8)
    content = rng.bytes(150_000)
    (tmp_path / "file").write_bytes(content)
    file = shine_s3.S3File.open(uploaded(store, tmp_path / "file"))
    assert file.size == len(content)
    for _ in range(20):
        ranges = rng.integers(0, [160_000, 30_000], (6, 2)).tolist()
        assert file.read(ranges) == [content[start : start + n] for start, n in ranges]
    stream = file.stream
    for start, n in ranges:
        assert stream.seek(start) == stream.tell() == start
        assert stream.read(n) == content[start : start + n]
    assert stream.seek(-10, os.SEEK_END) == len(content) - 10
    assert stream.read() == content[-10:]
    (tmp_path / "empty").write_bytes(b"")
    empty = shine_s3.S3File.open(uploaded(store, tmp_path / "empty"))
    assert (empty.size, empty.read([(0, 5)])) == (0, [b""])


def test_the_headers_of_a_frame_take_one_request_each_and_few_round_trips(proxy, tmp_path):
    path = many_hdus(tmp_path / "DET.fits", side=300)  # as in a frame, more data than headers
    uri = uploaded(proxy.server, path)
    batches = []
    read = shine_s3.S3File.read

    def counted(self, ranges):
        batches.append(len(ranges))
        return read(self, ranges)

    proxy.forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shine_s3.S3File, "read", counted)
        headers = fits_files.read_headers(uri)
    assert len(headers) == 433
    assert len(proxy.requests) <= 433
    assert proxy.sent_bytes < 0.15 * path.stat().st_size
    assert len(batches) <= 20
    here = fits_files.read_headers(str(path))
    assert all(headers[name].tostring() == here[name].tostring() for name in here)


def test_the_images_of_a_quadrant_take_as_few_requests_as_they_can(proxy, tmp_path):
    path = many_hdus(tmp_path / "DET.fits", n_quadrants=40, side=300)
    uri = uploaded(proxy.server, path)
    fits_files.list_hdus(uri)
    proxy.forget()
    names = ["20.SCI", "20.RMS", "20.FLG"]
    there = fits_files.read_images(uri, names)
    assert len(proxy.requests) == 2  # one opens the file, one reads three neighbouring HDUs
    assert proxy.sent_bytes < 3 * (300 * 300 * 4 + 5 * 2880) + shine_s3.OPENING_BYTES
    for image, other in zip(there, fits_files.read_images(str(path), names), strict=True):
        np.testing.assert_array_equal(image, other)


def test_irregular_files_are_walked_to_their_end_all_the_same(store, tmp_path):
    rng = np.random.default_rng(1)
    hdus = [fits.PrimaryHDU(np.ones((3, 3), np.int16))]
    for number, side in enumerate([40, 50, 60] * 4 + [40, 90, 60] * 2 + list(range(10, 40))):
        header = fits.Header({f"K{i}": i for i in range(700 if number in (5, 15) else 3)})
        hdus.append(fits.ImageHDU(rng.normal(size=(side, side)), header, name=f"H{number}"))
    fits.HDUList(hdus).writeto(tmp_path / "odd.fits")
    there = fits_files.list_hdus(uploaded(store, tmp_path / "odd.fits"))
    assert there == fits_files.list_hdus(str(tmp_path / "odd.fits"))
    with fits.open(tmp_path / "odd.fits") as read:
        assert [hdu.name for hdu in there[1:]] == [hdu.name for hdu in read[1:]]
        assert [hdu.start for hdu in there] == [hdu.fileinfo()["hdrLoc"] for hdu in read]


def test_a_truncated_object_is_named(store, tmp_path):
    path = many_hdus(tmp_path / "DET.fits", n_quadrants=9)
    path.write_bytes(path.read_bytes()[:-3000])
    uri = uploaded(store, path)
    with pytest.raises(InputError, match=rf"{uri}: found a truncated file.* HDU 27 \(8.FLG\)"):
        fits_files.list_hdus(uri)


def test_a_sub_tile_from_s3_gives_the_same_bytes_and_nowhere_a_secret(store, subtile, tmp_path):
    manifest = read_manifest(subtile.manifest)
    quadrants = [all_uploaded(store, files) for files in manifest.quadrants]
    catalogue = uploaded(store, Path(subtile.catalog))
    remote = manifest.model_copy(update={"quadrants": quadrants, "source_catalog": [catalogue]})
    (work := tmp_path / "work").mkdir()
    write_manifest(remote, work / "manifest.yaml")
    (work / "shine.yaml").write_bytes(subtile.config.read_bytes())
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    arguments = "--manifest manifest.yaml --config shine.yaml --output out --verbose"
    with (work / "log").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "shine.euclid.run", *arguments.split()],
            cwd=work,
            env=own | store.environment() | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    assert "credentials for s3:// by method env" in (work / "log").read_text()
    assert secrets_in(work, store) == []
    subtile.run()
    for suffix, read in ((".parquet", read_shear), ("_sources.parquet", read_sources)):
        here = read(subtile.folder / "out" / f"{manifest.stem}{suffix}")
        there = read(work / "out" / f"{manifest.stem}{suffix}")
        # bytes, so that missing values equal each other
        assert table_bytes(there) == table_bytes(here)
        assert inputs_but_manifest(there) == inputs_but_manifest(here)
    record = json.loads((work / "out" / f"{manifest.stem}.run.json").read_text())
    versions = record["input_versions"]
    assert set(versions) == {catalogue, *(getattr(q, p) for q in quadrants for p in PATHS)}


PATHS = ("sci_path", "rms_path", "flg_path", "psf_path", "bkg_path")


def table_bytes(table: pa.Table) -> bytes:
    """The content of a table without its metadata."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.replace_schema_metadata().schema) as writer:
        writer.write_table(table.replace_schema_metadata())
    return sink.getvalue().to_pybytes()


def inputs_but_manifest(table: pa.Table) -> dict:
    """The file's metadata but for the digest of the manifest, which holds the paths."""
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    inputs = json.loads(metadata.pop("input_hashes"))
    return metadata | {"inputs": {k: v for k, v in inputs.items() if k != "manifest"}}


def secrets_in(folder: Path, store: S3Server) -> list[Path]:
    """Files that hold a key, in their bytes or in what Parquet packs."""
    keys = (store.access_key.encode(), store.secret_key.encode())
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".parquet":
            table = parquet.read_table(path)
            content += repr((table.schema.metadata, table.to_pydict())).encode()
            content += b"".join(repr(field.metadata).encode() for field in table.schema)
        if any(key in content for key in keys):
            found.append(path)
    return found


def test_the_search_for_secrets_finds_them(store, tmp_path):
    metadata = {"note": f"by {store.access_key}"}
    table = pa.table({"A": ["x"]}).replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "b.log").write_text(f"key={store.secret_key}")
    (tmp_path / "c.log").write_text("nothing")
    assert sorted(path.name for path in secrets_in(tmp_path, store)) == ["a.parquet", "b.log"]


def test_what_fails_for_a_moment_is_asked_for_again(proxy, tmp_path):
    content = np.random.default_rng(2).bytes(200_000)
    (tmp_path / "file").write_bytes(content)
    uri = uploaded(proxy.server, tmp_path / "file")
    proxy.refuse = 1
    file = shine_s3.S3File.open(uri)
    proxy.cut = 3
    assert file.read([(0, len(content))]) == [content]
    assert (proxy.refuse, proxy.cut) == (0, 0)
    proxy.cut = 100
    with pytest.raises(InputError, match=r"no answer \((IncompleteRead|ResponseStreaming)Error\)"):
        file.read([(0, len(content))])


def test_an_object_that_changes_while_it_is_read_is_an_error(store, tmp_path):
    path = many_hdus(tmp_path / "DET.fits", n_quadrants=1, side=300)
    uri = uploaded(store, path)
    file = shine_s3.S3File.open(uri)
    store.client().put_object(Bucket=store.bucket, Key=path.name, Body=b"x" * path.stat().st_size)
    with pytest.raises(InputError, match=rf"{uri}: found another object than a moment ago"):
        file.read([(100_000, 10)])


def test_a_rewritten_object_is_read_anew(store, tmp_path):
    (first := tmp_path / "first").mkdir()
    (second := tmp_path / "second").mkdir()
    before = load_quadrant(all_uploaded(store, write_frames(first, Frame())), BAD_PIXELS)
    files = all_uploaded(store, write_frames(second, Frame(name="1-1.E", seed=9)))
    version = storage.version(files.sci_path)
    after = load_quadrant(files, BAD_PIXELS)
    assert (after.name, before.name) == ("1-1.E", "3-4.F")
    assert after.digest != before.digest
    store.client().put_object(Bucket=store.bucket, Key="DET.fits", Body=b"x" * version[0])
    assert storage.version(files.sci_path) != version


def test_quadrants_read_in_two_threads_do_not_disturb_each_other(store, tmp_path):
    frames = [Frame(name=f"{i}-1.E", seed=i) for i in range(1, 5)]
    files = write_frames(tmp_path, *frames)
    remote = all_uploaded(store, files)
    names = [frame.name for frame in frames] * 3
    with ThreadPoolExecutor(4) as pool:
        there = pool.map(
            lambda name: load_quadrant(remote.model_copy(update={"quadrant": name}), BAD_PIXELS),
            names,
        )
        digests = [quadrant.digest for quadrant in there]
    here = [load_quadrant(files.model_copy(update={"quadrant": n}), BAD_PIXELS) for n in names]
    assert digests == [quadrant.digest for quadrant in here]
