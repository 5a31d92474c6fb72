"""Where the Iceberg tables are: the section `iceberg` of the configuration, without secrets."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from shine.config import Strict
from shine.errors import ConfigurationError

CATALOG_NAME = "constellation"  # of the variables PYICEBERG_CATALOG__CONSTELLATION__...
TYPES = ("rest", "glue", "sql")
_SECRET = re.compile(
    r"secret|password|passphrase|passwd|connection-string"
    r"|(token|credential|credentials|authorization|signature|key|key-id|keytab|cookie)$",
    re.IGNORECASE,
)
_PASSWORD_IN_URI = re.compile(r"^[^/]*//[^/]*@|[?&](password|token|secret|sig)=", re.IGNORECASE)


class IcebergConfig(Strict):
    """The tables' namespace, and the catalogue that knows them."""

    model_config = ConfigDict(hide_input_in_errors=True)  # it might be a secret

    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")] = Field(
        "shine", description="namespace of the tables shear and sources"
    )
    catalog: dict[str, str] | None = Field(
        None,
        description="properties of pyiceberg's catalogue: type (rest, glue or sql), uri, "
        "warehouse and others, without credentials; default: SQLite and a warehouse in the folder "
        "iceberg of the results",
    )

    @field_validator("catalog", mode="before")
    @classmethod
    def _has_no_secrets(cls, properties: Any) -> Any:
        """Refuse what looks like a credential, and do not repeat it."""
        if not isinstance(properties, dict):
            return properties
        for key, value in properties.items():
            if _SECRET.search(str(key)) or _PASSWORD_IN_URI.search(str(value)):
                variable = f"PYICEBERG_CATALOG__{CATALOG_NAME.upper()}__{_variable(str(key))}"
                problem = (
                    f"{key} looks like a credential, which does not belong in a configuration: "
                    f"set the environment variable {variable}, or those of AWS for S3 and Glue "
                    "(what was found is not repeated here)"
                )
                raise PydanticCustomError("secret", "{problem}", {"problem": problem})
        return properties

    @field_validator("catalog")
    @classmethod
    def _is_of_a_known_type(cls, properties: dict[str, str] | None) -> dict[str, str] | None:
        if properties is not None and properties.get("type") not in TYPES:
            problem = f"expected the key type, one of {', '.join(TYPES)}"
            raise PydanticCustomError("secret", "{problem}", {"problem": problem})
        return properties


def _variable(key: str) -> str:
    """How pyiceberg spells a property in the name of a variable."""
    return key.replace(".", "__").replace("-", "_").upper()


def require_pyiceberg() -> None:
    """Raise `ConfigurationError` if the optional package is not installed."""
    if find_spec("pyiceberg") is None:
        raise ConfigurationError(
            "Apache Iceberg: found no package pyiceberg, expected the optional extra iceberg. "
            "Install it with `pip install 'shine-constellation[iceberg]'`."
        )
