"""Result files: fixed schemas, fixed bytes, nulls for what is missing, nothing half-written."""

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import shine
from shine import provenance
from shine.errors import InputError, ResultError, SourceFlag, Status, SubtileFlag, meanings
from shine.result_records import RunRecord, ShearResult, SourceResults
from shine.result_schema import PARAMETERS
from shine.results import (
    provenance_of,
    read_shear,
    read_sources,
    restamp,
    write_results,
)

STEM = "102018665_2_11"
PROVENANCE = provenance.Provenance("abc", "1f", {"numpy": "2"}, "c0ffee", {"3-4.F": "d1"}, seed=7)
RECORD = RunRecord(PROVENANCE, {"wall_s": 1.5})
SHEAR = ShearResult(
    tile_id=102018665,
    subtile_row=2,
    subtile_col=11,
    ra_deg=57.78,
    dec_deg=-51.0,
    method="map",
    status=Status.OK,
    g1=0.02,
    g2=-0.01,
    g1_err=0.003,
    g2_err=0.004,
    g1g2_cov=1e-6,
    n_sources=2,
    n_pixels=2**40,
)
EMPTY = replace(
    SHEAR, status=Status.NO_SOURCES, g1=None, g2=None, g1_err=None, g2_err=None, g1g2_cov=None
)


def two_sources() -> SourceResults:
    """One fitted galaxy, and one source that no pixel sees."""
    parameters = np.array([[12.0, 0.3, 0.1, -0.2, 0.01, -0.02], [np.nan] * 6])
    covariance = np.full((2, 6, 6), np.nan)
    covariance[0] = np.arange(36.0).reshape(6, 6)
    covariance[0] += covariance[0].T
    return SourceResults(
        object_id=np.array([-2_699_000_000_000_000_001, 5]),
        ra_deg=[57.7, np.nan],
        dec_deg=[-51.0, np.nan],
        kind=np.ma.masked_array([0, 0], mask=[False, True]),
        parameters=parameters,
        covariance=covariance,
        chi2=[99.0, np.nan],
        n_pixels=[400, 0],
        n_exposures=[3, 0],
        flags=[SourceFlag.BLENDED, SourceFlag.NOT_OBSERVED],
        blend=[0, 1],
    )


def test_shear_row_and_provenance_are_read_back(tmp_path):
    table = read_shear(write_results(tmp_path, STEM, SHEAR, two_sources(), RECORD))
    [row] = table.to_pylist()
    assert row["TILE_ID"] == 102018665
    assert row["SUBTILE_COL"] == 11
    assert row["G1"] == np.float32(0.02)
    assert row["N_PIXELS"] == 2**40
    assert row["CONVERGENCE"] is None
    assert row["STATUS"] == Status.OK
    assert provenance_of(table) == PROVENANCE


def test_source_rows_are_read_back(tmp_path):
    write_results(tmp_path, STEM, SHEAR, two_sources(), RECORD)
    first, second = read_sources(tmp_path / f"{STEM}_sources.parquet").to_pylist()
    assert first["OBJECT_ID"] == -2_699_000_000_000_000_001
    assert first["SUBTILE_ROW"] == 2
    assert first["E2"] == np.float32(-0.2)
    assert first["FLUX_ERR"] == 0.0
    assert first["OFFSET_V_ERR"] == np.float32(np.sqrt(70.0))
    expected = [float(6 * i + j + 6 * j + i) for i in range(6) for j in range(i, 6)]
    assert first["COVARIANCE"] == expected
    assert first["FLAGS"] == SourceFlag.BLENDED
    absent = ["RA", "DEC", "KIND", "CHI2", "COVARIANCE", *PARAMETERS, "E1_ERR", "OFFSET_U_ERR"]
    assert {name: second[name] for name in absent} == dict.fromkeys(absent)
    assert second["N_EXPOSURES"] == 0


def test_every_column_has_a_unit_and_a_description(tmp_path):
    path = write_results(tmp_path, STEM, SHEAR, two_sources(), RECORD)
    for table in (read_shear(path), read_sources(tmp_path / f"{STEM}_sources.parquet")):
        for column in table.schema:
            assert len(column.metadata[b"description"]) > 3
            assert b"unit" in column.metadata
    assert read_shear(path).schema.field("RA").metadata[b"unit"] == b"deg"


def test_bytes_do_not_depend_on_the_run(tmp_path):
    for folder, seconds in (("a", 1.0), ("b", 2.0)):
        record = RunRecord(PROVENANCE, {"wall_s": seconds})
        write_results(tmp_path / folder, STEM, SHEAR, two_sources(), record)
    for name in (f"{STEM}.parquet", f"{STEM}_sources.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    runs = [json.loads((tmp_path / f / f"{STEM}.run.json").read_text()) for f in ("a", "b")]
    assert [run["measurements"]["wall_s"] for run in runs] == [1.0, 2.0]
    assert runs[0]["provenance"]["seed"] == 7
    assert len(list((tmp_path / "a").iterdir())) == 3  # no temporary file is left


def test_a_kept_result_is_the_one_that_the_new_commit_makes(tmp_path):
    kept, made = tmp_path / "kept", tmp_path / "made"
    path = write_results(kept, STEM, SHEAR, two_sources(), RECORD)
    later = RunRecord(replace(PROVENANCE, git_commit="def"), RECORD.measurements)
    write_results(made, STEM, SHEAR, two_sources(), later)
    restamp(path, "def")
    for name in (f"{STEM}.parquet", f"{STEM}_sources.parquet", f"{STEM}.run.json"):
        assert (kept / name).read_bytes() == (made / name).read_bytes()


def test_a_result_without_sources_is_valid(tmp_path):
    path = write_results(tmp_path, STEM, EMPTY, SourceResults.empty(), RECORD)
    [row] = read_shear(path).to_pylist()
    assert row["G1"] is None
    assert row["STATUS"] == Status.NO_SOURCES
    assert read_sources(tmp_path / f"{STEM}_sources.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("shear", "problem"),
    [
        (replace(SHEAR, ra_deg=np.nan), "RA: 1 missing"),
        (replace(SHEAR, chi2=np.inf), "CHI2: 1 infinite"),
        (replace(SHEAR, chi2=1e60, convergence=1e60), "CONVERGENCE: values too large"),
        (replace(SHEAR, subtile_row=200), "SUBTILE_ROW: values do not fit"),
        (replace(SHEAR, n_sources=1.5), "N_SOURCES: fractions"),
        (replace(SHEAR, g1=np.nan), "STATUS OK does not go with"),
        (replace(SHEAR, g1_err=None), "STATUS OK does not go with"),
        (replace(SHEAR, status=Status.FAILED), "STATUS FAILED does not go with"),
    ],
)
def test_a_broken_shear_is_refused_and_nothing_is_written(tmp_path, shear, problem):
    with pytest.raises(ResultError, match=problem):
        write_results(tmp_path / "out", STEM, shear, two_sources(), RECORD)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"flags": np.ma.masked_array([1, 2], mask=[False, True])}, "FLAGS: 1 missing"),
        ({"n_exposures": [3, 2**15]}, "N_EXPOSURES: values do not fit"),
        ({"n_pixels": [1, 2, 3]}, "N_PIXELS: 3 values for 2 sources"),
        ({"covariance": -np.ones((2, 6, 6))}, "negative variances"),
        ({"parameters": np.zeros((2, 5))}, "shapes"),
    ],
)
def test_broken_sources_are_refused(tmp_path, change, problem):
    with pytest.raises(ResultError, match=problem):
        write_results(tmp_path, STEM, SHEAR, replace(two_sources(), **change), RECORD)


def test_unconverged_results_may_lack_errors_or_shear(tmp_path):
    without_errors = replace(EMPTY, status=Status.NOT_CONVERGED, g1=0.1, g2=0.0)
    for shear in (without_errors, replace(EMPTY, status=Status.NOT_CONVERGED)):
        path = write_results(tmp_path, STEM, shear, SourceResults.empty(), RECORD)
        row = read_shear(path).to_pylist()[0]
        assert (row["STATUS"], row["G1_ERR"]) == (Status.NOT_CONVERGED, None)
        assert row["G1"] == (None if shear.g1 is None else pytest.approx(shear.g1))


def test_reading_refuses_damaged_and_foreign_files(tmp_path):
    path = write_results(tmp_path, STEM, SHEAR, two_sources(), RECORD)
    with pytest.raises(InputError, match=r"nothing.parquet: found No such file"):
        read_shear(tmp_path / "nothing.parquet")
    with pytest.raises(InputError, match=r"_sources.parquet: found other columns or types"):
        read_shear(tmp_path / f"{STEM}_sources.parquet")
    stripped = tmp_path / "stripped.parquet"
    pq.write_table(read_shear(path).replace_schema_metadata({}), stripped)
    with pytest.raises(InputError, match=r"stripped.parquet: found no metadata .*git_commit"):
        read_shear(stripped)
    doubled = tmp_path / "doubled.parquet"
    pq.write_table(read_shear(path).take([0, 0]), doubled)
    with pytest.raises(InputError, match="2 rows"):
        read_shear(doubled)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="damaged file"):
        read_shear(path)


def test_flags_have_meanings_and_distinct_bits():
    for flags in (SourceFlag, SubtileFlag):
        bits = [member.value for member in flags]
        assert len(set(bits)) == len(bits)
        assert all(bit & (bit - 1) == 0 for bit in bits)
        assert max(bits) < 2**31
    assert meanings(SourceFlag.BLENDED | SourceFlag.NOT_OBSERVED) == [
        "no unmasked pixel in any quadrant",
        "blended by the catalogue's flag",
    ]
    assert meanings(SubtileFlag(0)) == []


def test_config_hash_sees_values_and_not_their_order():
    assert provenance.config_hash({"a": 1, "b": 2}) == provenance.config_hash({"b": 2, "a": 1})
    assert provenance.config_hash({"a": 1}) != provenance.config_hash({"a": 2})


def test_digest_tells_parts_types_and_shapes_apart():
    parts = np.arange(6.0)
    digests = {
        provenance.digest(["ab", "c"]),
        provenance.digest(["a", "bc"]),
        provenance.digest([parts]),
        provenance.digest([parts.reshape(2, 3)]),
        provenance.digest([parts.astype(np.float32)]),
    }
    assert len(digests) == 5
    assert provenance.digest([parts[::2]]) == provenance.digest([parts[::2].copy()])


def test_package_versions_are_known():
    versions = provenance.package_versions()
    assert versions["numpy"] == np.__version__
    assert "python" in versions


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository whose folder `package` the provenance module seems to lie in."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "provenance.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    for command in (
        ["init", "--quiet"],
        ["add", "package/provenance.py"],
        ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_commit_is_dirty_only_if_the_package_differs(checkout):
    current = provenance.git_commit.__wrapped__  # the answer is kept, and these ones differ
    commit = current()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (checkout / "notes.txt").write_text("beside the package")
    assert current() == commit
    (checkout / "package" / "provenance.py").write_text("x = 2\n")
    assert current() == f"{commit}-dirty"


def test_a_commit_that_leaves_the_package_alone_does_not_count(checkout):
    current = provenance.git_commit.__wrapped__
    commit = current()
    (checkout / "dvc.lock").write_text("pinned")
    identity = ["-c", "user.name=A", "-c", "user.email=a@b"]
    for command in (["add", "dvc.lock"], [*identity, "commit", "--quiet", "-m", "second"]):
        subprocess.run(["git", *command], cwd=checkout, check=True, capture_output=True)
    assert current() == commit


def test_the_code_digest_changes_with_the_code_and_not_with_its_comments(checkout):
    current = provenance.code_digest.__wrapped__
    source = checkout / "package" / "provenance.py"
    source.write_text('"""Doc."""\n\n\ndef f(a):\n    """Twice."""\n    return 2 * a\n')
    digest = current()
    source.write_text('"""Other."""\ndef f(a):\n    # by two\n    return (2 * a)\n')
    assert current() == digest
    source.write_text("def f(a):\n    return 3 * a\n")
    changed = current()
    assert changed != digest
    source.rename(source.with_name("other.py"))
    assert current() not in (digest, changed)


class WithoutTexts(ast.NodeTransformer):
    """Drops statements that are nothing but a text."""

    def visit_Expr(self, node):
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else node


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="ast.dump writes another text")
def test_bare_code_is_what_ast_writes():
    """Results were made when the digest was of that: their code has the same one."""
    for path in Path(shine.__file__).parent.rglob("*.py"):
        content = path.read_bytes()
        expected = ast.dump(WithoutTexts().visit(ast.parse(content)))
        assert provenance.bare_code(ast.parse(content)) == expected, path


def test_a_foreign_repository_is_not_mistaken_for_our_own(checkout, monkeypatch):
    installed = checkout / "package" / "site-packages.py"  # there, but not in the repository
    installed.write_text("x = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance.git_commit.__wrapped__().startswith("version ")
    monkeypatch.setenv("PATH", "")  # and without git
    assert provenance.git_commit.__wrapped__().startswith("version ")
