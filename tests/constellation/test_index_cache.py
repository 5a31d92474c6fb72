"""The quadrant index grows with its survey: what was read once is not read again."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from constellation import discovery, index_cache
from constellation.cli import main
from constellation.discovery import build_index
from constellation.index_cache import KeptRows
from constellation.sky_order import write_index
from constellation.survey_files import exposure_versions, match_exposures
from shine.errors import InputError
from shine.euclid import fits_files
from tests.servers.proxy import proxy_of

from . import fake_survey
from .fake_survey import exposure_name, write_exposure, write_weight
from .s3_survey import PREFIX, replace

N_EXPOSURES = 5
WITH_WEIGHT = 3
INDEX = Path("results/index/quadrants.parquet")
KEPT = Path("results/kept/index")
TAGS = ("SWL-DET", "SWL-BKG", "GRD-PSF")
COMMON_PSF = "EUC_VIS_GRD-PSF-000-000000-0000000__20240322T192915.424564Z.fits"


def add(dither: int, value: float = 0.0) -> Path:
    return write_exposure(Path("data"), dither, {"1-1.E": (9.9, 0.0), "2-1.F": (10.1, 0.0)}, value)


@pytest.fixture
def survey(tmp_path, monkeypatch) -> Path:
    """A survey of some exposures in the working folder, the last but one with a weight."""
    monkeypatch.chdir(tmp_path)
    for dither in range(N_EXPOSURES):
        add(dither)
    write_weight(Path("data"), WITH_WEIGHT, ["1-1.E", "2-1.F"])
    return Path("data")


@pytest.fixture
def reads(monkeypatch) -> Counter:
    """How often the headers of each file were read, by its name."""
    counts: Counter = Counter()
    read = fits_files.read_headers

    def counted(path: str):
        counts[Path(path).name] += 1
        return read(path)

    monkeypatch.setattr(fits_files, "read_headers", counted)
    return counts


def files_of(*dithers: int) -> dict[str, int]:
    """Each file of some exposures once."""
    names = {exposure_name(tag, dither): 1 for dither in dithers for tag in TAGS}
    return names | ({exposure_name("SWL-WGT", WITH_WEIGHT): 1} if WITH_WEIGHT in dithers else {})


def build(survey, output: Path = INDEX, kept: Path | None = KEPT) -> bytes:
    """Build the index; returns its bytes."""
    versions = exposure_versions(survey)
    rows = KeptRows(kept, versions) if kept else None
    write_index(build_index(match_exposures(versions, [1]), output.parent, rows), output)
    return output.read_bytes()


def test_a_second_build_reads_nothing_and_gives_the_same_bytes(survey, reads):
    first = build(survey)
    assert reads == files_of(*range(N_EXPOSURES))
    reads.clear()
    assert build(survey) == first
    assert not reads
    assert build(survey, kept=None) == first
    assert reads == files_of(*range(N_EXPOSURES))


def test_of_a_changed_survey_just_the_changed_exposures_are_read(survey, reads):
    build(survey)
    for change, expected in (
        (lambda: add(N_EXPOSURES), [N_EXPOSURES]),
        (lambda: add(1, value=2.0), [1]),
        (lambda: write_weight(survey, WITH_WEIGHT, ["2-1.F", "1-1.E"]), [WITH_WEIGHT]),
        (lambda: next(survey.rglob(exposure_name("SWL-BKG", 4))).touch(), [4]),
        (lambda: [path.unlink() for path in survey.rglob("*-000001-02-1-*")], []),
    ):
        change()
        reads.clear()
        table = build(survey)
        assert reads == files_of(*expected)
        assert build(survey, Path("results/index/at_once.parquet"), None) == table
    assert not (KEPT / "000001-02-1.rows").exists()


def test_a_weight_that_comes_or_goes_is_noticed(survey, reads):
    build(survey)
    weight = write_weight(survey, 0, ["1-1.E", "2-1.F"])
    reads.clear()
    build(survey)
    assert reads == files_of(0) | {weight.name: 1}
    weight.unlink()
    reads.clear()
    build(survey)
    assert reads == files_of(0)


def kept_dithers() -> set[int]:
    return {int(path.name.split("-")[1]) for path in KEPT.glob("*.rows")}


def interrupt_at(monkeypatch, dither: int):
    """Let the reading of a frame be interrupted, once."""
    read, waiting = fits_files.read_headers, [dither]

    def interrupted(path: str):
        headers = read(path)
        if waiting and Path(path).name == exposure_name("SWL-DET", waiting[0]):
            waiting.clear()
            raise KeyboardInterrupt
        return headers

    monkeypatch.setattr(fits_files, "read_headers", interrupted)


def test_an_interrupted_build_goes_on_where_it_stopped(survey, reads, monkeypatch):
    at_once = build(survey, kept=None)
    INDEX.unlink()
    reads.clear()
    interrupt_at(monkeypatch, 2)
    options = ["index", "--survey", "data", "--kept", str(KEPT), "--output", str(INDEX)]
    assert main(options) == 130
    assert not INDEX.exists()
    done = kept_dithers()  # those that had begun came to their end
    assert {0, 1} <= done <= set(range(N_EXPOSURES)) - {2}
    reads.clear()
    assert main(options) == 0
    assert reads == files_of(*set(range(N_EXPOSURES)) - done)
    assert INDEX.read_bytes() == at_once


def test_what_was_read_before_an_error_is_kept_too(survey, reads):
    frame = next(survey.rglob(exposure_name("SWL-DET", 2)))
    frame.write_bytes(frame.read_bytes()[:-2880])
    for _ in range(2):
        reads.clear()
        with pytest.raises(InputError, match=rf"{frame.name}.*truncated"):
            build(survey)
        assert {0, 1} <= kept_dithers()
    assert not reads.keys() & files_of(0, 1).keys()


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[:-1],
    "one bit": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    "longer": lambda content: content + b"\n",
    "foreign": lambda content: b"PAR1 nonsense",
    "without its seal": lambda content: content.partition(b"\n")[2],
    "of another": lambda content: (KEPT / "000001-00-1.rows").read_bytes(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_not_trusted(survey, reads, damage):
    first = build(survey)
    path = KEPT / "000001-04-1.rows"
    content = path.read_bytes()
    path.write_bytes(damage(content))
    reads.clear()
    assert build(survey) == first
    assert reads == files_of(4)
    assert path.read_bytes() == content


def test_rows_of_other_code_or_for_another_place_are_not_used(survey, reads, monkeypatch):
    first = build(survey)
    reads.clear()
    build(survey, Path("elsewhere/deeper/than/before.parquet"))  # paths in it start there
    assert reads == files_of(*range(N_EXPOSURES))
    shutil.rmtree(KEPT)
    build(survey)
    reads.clear()
    monkeypatch.setattr(index_cache, "code_of", lambda module: f"newer {module}")
    assert build(survey) == first
    assert reads == files_of(*range(N_EXPOSURES))


def test_files_that_are_none_of_it_stay(survey):
    build(survey)
    for name in ("notes.txt", "other.rows"):
        (KEPT / name).touch()
    add(0)
    build(survey)
    assert {path.name for path in KEPT.iterdir()} == {
        "notes.txt",
        "other.rows",
        *(f"000001-{dither:02d}-1.rows" for dither in range(N_EXPOSURES)),
    }


def test_progress_is_shown_while_something_is_read(survey, capsys):
    build(survey)
    assert f"indexing: 100%|██████████| {N_EXPOSURES}/{N_EXPOSURES}" in capsys.readouterr().err
    build(survey)
    assert "indexing" not in capsys.readouterr().err


@pytest.fixture
def stored(survey, s3, monkeypatch):
    """The same survey in S3."""
    s3.use(monkeypatch)
    s3.upload(survey, PREFIX)
    return s3


def test_from_s3_just_the_listing_is_read_again(stored, reads, monkeypatch):
    first = build(stored.uri(PREFIX))
    assert reads == files_of(*range(N_EXPOSURES))
    with proxy_of(stored) as proxy:
        proxy.server.use(monkeypatch)
        assert build(stored.uri(PREFIX)) == first
        assert len(proxy.requests) == 2  # of the folders PSF and VIS
        assert all("list-type=2" in request for request in proxy.requests)
    frame = add(1, value=2.0)
    replace(stored, frame.name, frame.read_bytes())
    reads.clear()
    assert build(stored.uri(PREFIX)) != first
    assert reads == files_of(1)


def test_several_exposures_at_a_time_give_the_same_index(stored, reads, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(discovery, "EXPOSURES_AT_A_TIME", 1)
        one_by_one = build(stored.uri(PREFIX), kept=None)
    with proxy_of(stored) as proxy:
        proxy.server.use(monkeypatch)
        proxy.latency_s = 0.02
        interrupt_at(monkeypatch, 2)
        with pytest.raises(KeyboardInterrupt):
            build(stored.uri(PREFIX))
        done = kept_dithers()
        assert {0, 1} <= done <= set(range(N_EXPOSURES)) - {2}
        proxy.forget()
        assert build(stored.uri(PREFIX)) == one_by_one
        asked = {
            dither
            for dither in range(N_EXPOSURES)
            for request in proxy.requests
            if exposure_name("SWL-DET", dither) in request
        }
    assert asked == set(range(N_EXPOSURES)) - done


def test_copies_of_the_common_psf_are_read_once(survey, s3, reads, monkeypatch):
    share_psf(survey)
    (other := survey / "VIS" / "2").mkdir()
    shutil.copy(survey / "VIS" / "1" / COMMON_PSF, other)
    for tag in ("SWL-DET", "SWL-BKG"):
        path = next(survey.rglob(exposure_name(tag, 0)))
        path.rename(other / path.name.replace("-000001-00-", "-000002-00-"))
    s3.use(monkeypatch)
    s3.upload(survey, PREFIX)
    build(s3.uri(PREFIX))
    assert reads[COMMON_PSF] == 1
    assert sum(reads.values()) == 1 + 2 * N_EXPOSURES + 1  # and a weight


def share_psf(survey: Path) -> Path:
    """Let one PSF take the place of the exposures' own."""
    [first, *others] = (survey / "PSF").iterdir()
    for path in others:
        path.unlink()
    return first.rename(survey / "VIS" / "1" / COMMON_PSF)


def test_little_more_than_the_headers_is_read_from_s3(tmp_path, s3, monkeypatch):
    """Frames large enough for their headers to lie apart, as they do in the archive."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fake_survey, "N_PIXELS", 288)
    quadrants = {f"{column}-1.{letter}": (10.0, 0.0) for column in (1, 2, 3) for letter in "EFGH"}
    for dither in (0, 1):
        write_exposure(Path("data"), dither, quadrants)
    psf_bytes = share_psf(Path("data")).stat().st_size
    s3.use(monkeypatch)
    s3.upload(Path("data"), PREFIX)
    with proxy_of(s3) as proxy:
        proxy.server.use(monkeypatch)
        build(s3.uri(PREFIX))
        sent_bytes = proxy.sent_bytes - psf_bytes  # read as a whole, once for a whole survey
    assert sent_bytes / (2 * len(quadrants)) < 0.1e6


def test_a_weight_without_a_quadrant_is_named(survey):
    weight = write_weight(survey, 0, ["1-1.E"])
    with pytest.raises(InputError, match=rf"{weight.name}: found no extension 2-1\.F"):
        build(survey)
