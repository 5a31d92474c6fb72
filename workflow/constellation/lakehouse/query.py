"""DuckDB with the extensions that read Iceberg, from the packages that are installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from shine.errors import ConfigurationError

EXTENSIONS = ("avro", "iceberg")  # the second needs the first


def duckdb_connection():
    """A connection to an empty database, with `iceberg_scan`; nothing is ever downloaded.

    Raises `ConfigurationError` if a package is missing.
    """
    files = [_extension(name) for name in EXTENSIONS]
    import duckdb

    no = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    connection = duckdb.connect(config=no)
    for path in files:
        connection.load_extension(str(path))
    return connection


def _extension(name: str) -> Path:
    """The file of an extension, for the version of DuckDB that its package goes with."""
    package = f"duckdb_extension_{name}"
    spec = find_spec(package)
    for folder in spec.submodule_search_locations or [] if spec else []:
        for path in Path(folder).rglob(f"{name}.duckdb_extension"):
            return path
    raise ConfigurationError(
        f"DuckDB: found no package {package.replace('_', '-')}, expected the optional extra query. "
        "Install it with `pip install 'shine-constellation[iceberg,query]'`."
    )
