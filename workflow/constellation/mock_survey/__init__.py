"""Mock surveys in Euclid's file formats, drawn by GalSim alone."""

from .config import MockSurveyConfig, load_mock_config
from .errors import MockSurveyError
from .layout import SurveyFiles, expected_files
from .write import write_survey

__all__ = [
    "MockSurveyConfig",
    "MockSurveyError",
    "SurveyFiles",
    "expected_files",
    "load_mock_config",
    "write_survey",
]
