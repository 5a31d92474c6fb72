"""How an object store is read, beyond what botocore finds for itself in the environment.

The settings travel in environment variables of their own, never in shine's configuration: they
change where bytes come from, not what is inferred from them, and so must not change the digest of
a result's configuration. The `AWS_` variables are left alone, for they would redirect whatever else
talks to AWS in the same process, such as Snakemake's storage of the results.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from shine.config import Strict
from shine.errors import ConfigurationError, list_problems

VARIABLES = {
    "profile": "SHINE_S3_PROFILE",
    "endpoint_url": "SHINE_S3_ENDPOINT_URL",
    "anonymous": "SHINE_S3_ANONYMOUS",
    "cache_folder": "SHINE_S3_CACHE",
    "cache_gb": "SHINE_S3_CACHE_GB",
}


def _without_secrets(url: object) -> object:
    """Refuse a URL with user:password@ or a signed query, and do not repeat it."""
    if isinstance(url, str) and any(sign in url for sign in "@?"):
        problem = "found a URL with @ or ?, expected https://host:port alone; keys and passwords "
        problem += "belong in the environment or in ~/.aws (what was found is not repeated here)"
        raise PydanticCustomError("secret", problem)
    return url


class S3Settings(Strict):
    """How the survey is read from S3; what is null or not given, the AWS environment decides."""

    model_config = ConfigDict(hide_input_in_errors=True)  # `list_problems` tells what it may

    profile: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="profile of ~/.aws that has the credentials"
    )
    endpoint_url: (
        Annotated[
            str,
            Field(pattern=r"^https?://[^/\s@?]+(/[^\s@?]*)?$"),
            BeforeValidator(_without_secrets),
        ]
        | None
    ) = Field(None, description="address of another store than AWS's, such as https://host:9000")
    anonymous: bool = Field(
        False, description="read public buckets without credentials, even where there are some"
    )
    cache_folder: Path | None = Field(
        None, description="folder that keeps what was read; several jobs may share it"
    )
    cache_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        100.0, description="most that the cache may hold, GB; what was used last is kept"
    )

    @classmethod
    def from_environment(cls) -> Self:
        """The settings of this process; raises `ConfigurationError` naming a bad variable.

        A variable that is empty counts as none.
        """
        found = {name: os.environ.get(variable) for name, variable in VARIABLES.items()}
        try:
            return cls.model_validate({name: value for name, value in found.items() if value})
        except ValidationError as error:
            bad = dict.fromkeys(VARIABLES[str(problem["loc"][0])] for problem in error.errors())
            raise ConfigurationError(f"{', '.join(bad)}: {list_problems(error)}") from None

    def environment(self) -> dict[str, str]:
        """The variables of what is given here."""
        given = self.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        return {VARIABLES[name]: str(value) for name, value in given.items()}

    def export(self) -> Self:
        """Give this process and those that it starts what is given here; returns all settings.

        Raises `ConfigurationError` naming a bad variable among the others.
        """
        os.environ.update(self.environment())
        return self.from_environment()


def without_cache() -> None:
    """Let this process keep nothing of what it reads: it reads everything once."""
    os.environ.pop(VARIABLES["cache_folder"], None)


@contextmanager
def set_aside() -> Iterator[None]:
    """Meanwhile let the AWS environment alone decide, as it does for what Snakemake stores."""
    names = [name for name in VARIABLES.values() if name in os.environ]
    kept = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(kept)
