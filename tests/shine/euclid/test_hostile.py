"""Hostile files: a correct result or an error that names the file, soon and in little memory."""

from __future__ import annotations

import collections
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from shine import storage
from shine.errors import InputError
from shine.euclid import fits_files
from shine.euclid.catalog_files import read_rows
from tests.shine.euclid.hostile import KINDS, MUTATIONS

ROOT = Path(__file__).parents[3]
MUTANTS = 80  # of each kind, with and without sums: 800 in all
MOST_GROWN_MB = 300.0


@pytest.mark.parametrize("sums", ["sums", "no sums"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mutant_is_read_correctly_or_named(tmp_path, kind, sums):
    done = subprocess.run(
        [sys.executable, "-m", "tests.shine.euclid.hostile", tmp_path, kind, str(MUTANTS), sums],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) == MUTANTS, f"{lines[-1:]} {done.stderr[-2000:]}"
    strangers = [line for line in lines if line["outcome"] not in ("named", "same")]
    if sums == "no sums":  # nobody can tell a damaged value from another one
        strangers = [line for line in strangers if line["outcome"] != "other"]
    # a sum is the same whatever the order
    strangers = [line for line in strangers if not line["mutation"].startswith("blocks swapped")]
    assert not strangers
    outcomes = collections.Counter(line["outcome"] for line in lines)
    assert outcomes["named"] > MUTANTS // 4, outcomes
    assert max(line["grown_mb"] for line in lines) < MOST_GROWN_MB
    assert len({line["mutation"].partition(" in ")[0] for line in lines}) == len(MUTATIONS)


@settings(max_examples=200)
@given(content=st.binary(max_size=6000), opening=st.sampled_from([b"", b"SIMPLE  =", b"PAR1"]))
def test_any_bytes_are_no_survey_file(tmp_path_factory, content, opening):
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(opening + content)
    for read in (fits_files.list_hdus, lambda path: read_rows(path, ["FLUX"], np.arange(2))):
        with pytest.raises(InputError) as caught:
            read(str(path))
        assert str(path) in str(caught.value)


@settings(max_examples=200)
@given(
    key=st.sampled_from(["BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT"]),
    value=st.one_of(st.integers(-(10**12), 10**12), st.floats(), st.text("aZ '", max_size=5)),
)
def test_any_size_in_a_header_ends_soon(tmp_path_factory, key, value):
    path = tmp_path_factory.mktemp("size") / "file.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((4, 5)), name="A")]).writeto(path)
    content = path.read_bytes()
    place = (
        content.index(f"{key:8s}=".encode(), 2880)
        if key != "GCOUNT"
        else content.index(b"GCOUNT  =")
    )
    card = f"{key:8s}= {value!s:>20s}".ljust(80)[:80].encode()
    path.write_bytes(content[:place] + card + content[place + 80 :])
    try:
        [image] = fits_files.read_images(str(path), ["A"])
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert image.nbytes <= len(content)


def test_a_gzip_bomb_is_named_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MOST_UNPACKED_BYTES", 10_000_000)
    monkeypatch.setattr(storage, "CHUNK_BYTES", 1 << 20)
    (path := tmp_path / "bomb.fits.gz").write_bytes(gzip.compress(bytes(100_000_000)))
    assert path.stat().st_size < 200_000
    with pytest.raises(InputError, match=r"bomb.fits.gz: found a gzip file of more than 10000000"):
        fits_files.list_hdus(str(path))


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    (path := tmp_path / "file.fits.gz").write_bytes(gzip.compress(bytes(3000)))
    monkeypatch.setattr(
        storage.tempfile, "mkstemp", lambda **_: (os.open(os.devnull, os.O_RDONLY), "/dev/full")
    )
    monkeypatch.setattr(storage.weakref, "finalize", lambda *_, **__: None)
    with pytest.raises(InputError, match=r"unpacked to /dev/full: .*No space left.*TMPDIR"):
        fits_files.list_hdus(str(path))


def test_a_header_without_an_end_is_not_read_to_the_files_end(tmp_path):
    path = tmp_path / "endless.fits"
    with path.open("wb") as stream:
        stream.write(b"SIMPLE  =                    T".ljust(2880))
        stream.truncate(20 << 30)  # sparse
    with pytest.raises(InputError, match=r"endless.fits: found a header of more than \d+ bytes"):
        fits_files.list_hdus(str(path))


def test_a_table_of_a_billion_rows_is_named(tmp_path):
    path = tmp_path / "rows.fits"
    column = fits.Column("OBJECT_ID", "K", array=np.arange(3))
    fits.BinTableHDU.from_columns([column]).writeto(path)
    content = path.read_bytes()
    place = content.index(b"NAXIS2  =")
    card = f"{'NAXIS2':8s}= {10**9:20d}".ljust(80).encode()
    path.write_bytes(content[:place] + card + content[place + 80 :])
    with pytest.raises(InputError, match=r"rows.fits: found a truncated file"):
        read_rows(str(path), [], np.arange(2))
