"""The error that a mock survey raises."""


class MockSurveyError(ValueError):
    """A setting, a list of tiles or an output folder from which no survey can be written."""
