"""The bytes of a survey follow from its settings alone."""

from __future__ import annotations

import pytest

from constellation.mock_survey.config import MockSurveyConfig

from .surveys import Survey, aimed, settings, write

SHAPE = (140, 150)


def config(seed: int = 5) -> MockSurveyConfig:
    """Two exposures of two quadrants each, with sources, defects and spurious entries."""
    return settings(
        seed=seed,
        area={"width_arcmin": 0.9, "height_arcmin": 0.6},
        exposures=[aimed("3-4.F", roll, SHAPE) for roll in (0.0, 128.0)],
        detector={"quadrants": ["3-4.E", "3-4.F"], "quadrant_shape": SHAPE},
        population={"galaxy_density": 60.0},
        catalogue={"spurious_fraction": 0.2},
    )


def contents(survey: Survey) -> dict[str, bytes]:
    return {
        str(path.relative_to(survey.root)): path.read_bytes() for path in survey.files.all_paths()
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Survey:
    return write(config(), tmp_path_factory.mktemp("first"))


def test_another_folder_and_more_workers_give_the_same_bytes(first, tmp_path):
    again = write(config(), tmp_path / "some" / "where else", workers=2)
    assert contents(again) == contents(first)


def test_writing_twice_replaces_the_files(first, tmp_path):
    survey = write(config(), tmp_path)
    for path in survey.files.all_paths():
        path.write_bytes(b"spoilt")
    assert contents(write(config(), tmp_path)) == contents(first)


def test_another_seed_gives_other_files(first, tmp_path):
    other = contents(write(config(seed=6), tmp_path))
    same = [name for name, content in contents(first).items() if other[name] == content]
    assert len(same) == 2 and all(name.startswith("PSF/") for name in same)


def test_a_quadrant_does_not_depend_on_which_others_are_written(first, tmp_path):
    both = config()
    alone = both.model_copy(
        update={"detector": both.detector.model_copy(update={"quadrants": ("3-4.F",)})}
    )
    survey = write(alone, tmp_path)
    for exposure in (0, 1):
        for kind in ("SCI", "RMS", "FLG"):
            one, other = (s.image(f"3-4.F.{kind}", exposure) for s in (survey, first))
            assert one.tobytes() == other.tobytes()
