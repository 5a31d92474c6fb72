"""The two Iceberg tables of the catalogue: opened, or created, in whichever catalogue has them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    ForbiddenError,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    TableAlreadyExistsError,
    UnauthorizedError,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import IdentityTransform
from pyiceberg.utils.config import Config

from constellation.catalogue.schema import SHEAR, SOURCES
from constellation.config import PipelineConfig
from constellation.lakehouse.schema import DIGEST, as_catalogue, iceberg_schema
from constellation.lakehouse.settings import CATALOG_NAME, IcebergConfig
from shine.errors import ConfigurationError, InputError, explain

COLUMNS = {"sources": SOURCES, "shear": SHEAR}
MAIN = "main"
_TARGET_BYTES = 256 * 1024 * 1024
_SQLITE_WAIT_S = 60
PROPERTIES = {
    "format-version": "2",
    "write.target-file-size-bytes": str(_TARGET_BYTES),
    "write.parquet.compression-codec": "zstd",
    # so that the statistics of a file tell whose rows it holds
    f"write.metadata.metrics.column.{DIGEST}": "full",
    # a repeated commit must look again at what others have published meanwhile: we repeat it
    "commit.retry.num-retries": "0",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}


@dataclass(frozen=True)
class Lakehouse:
    """The tables of one survey: one row per source, and one per sub-tile."""

    catalog: Catalog
    namespace: str

    @classmethod
    def of(cls, config: PipelineConfig) -> Lakehouse:
        """The one that a configuration names; the tables may not exist yet.

        Raises `ConfigurationError` if the catalogue cannot be reached with these settings.
        """
        settings = config.iceberg or IcebergConfig()
        properties = settings.catalog or _embedded(config.output.results / "iceberg")
        with _told():
            return cls(_connected(properties), settings.namespace)

    def table(self, name: str) -> Table:
        """A table as it is now; raises `InputError` if nothing has been published."""
        try:
            return self.catalog.load_table((self.namespace, name))
        except (NoSuchTableError, NoSuchNamespaceError) as error:
            action = "Publish a catalogue with `constellation publish`."
            where = f"Iceberg table {self.namespace}.{name}"
            raise InputError(explain(where, "none", "one", action)) from error

    def holds(self, name: str) -> bool:
        """Whether a table has been published."""
        return self.catalog.table_exists((self.namespace, name))

    @property
    def both(self) -> dict[str, Table]:
        """Sources and shear, by name."""
        return {name: self.table(name) for name in COLUMNS}

    def read(
        self,
        name: str,
        at: str | int | datetime | None = None,
        columns: list[str] | None = None,
        where: Any = "TRUE",
    ) -> pa.Table:
        """Rows of a table with the types of the published catalogue.

        `at` is a tag, a branch, a snapshot id or a time (of which the snapshot was current), and
        `where` a condition as pyiceberg takes them, such as "FLUX > 10". Raises `InputError`.
        """
        table = self.table(name)
        snapshot = snapshot_at(table, at)
        if snapshot is None:
            return COLUMNS[name].empty_table().select(columns or COLUMNS[name].names)
        known = schema_of(table, snapshot).column_names
        names = columns or [column for column in COLUMNS[name].names if column in known]
        scan = table.scan(where, tuple(names), snapshot_id=snapshot.snapshot_id)
        return as_catalogue(scan.to_arrow(), COLUMNS[name]).select(names)

    def create(self, name: str, columns: pa.Schema) -> Table:
        """The table, created with these columns if there is none."""
        identifier = (self.namespace, name)
        try:
            return self.catalog.load_table(identifier)
        except (NoSuchTableError, NoSuchNamespaceError):
            schema = iceberg_schema(columns)
        tile = schema.find_field("TILE_ID").field_id
        healpix = schema.find_field("HEALPIX").field_id
        # the shear of a tile is a few rows: partitions of it would be files of a few kilobytes
        by_tile = PartitionSpec(PartitionField(tile, 1000, IdentityTransform(), "TILE_ID"))
        with suppress(NamespaceAlreadyExistsError, *sql_errors("IntegrityError")):
            self.catalog.create_namespace(self.namespace)
        try:
            return self.catalog.create_table(
                identifier,
                schema,
                partition_spec=by_tile if name == "sources" else UNPARTITIONED_PARTITION_SPEC,
                sort_order=SortOrder(SortField(healpix, transform=IdentityTransform())),
                properties=PROPERTIES,
            )
        except (TableAlreadyExistsError, CommitFailedException):  # somebody else was faster
            return self.catalog.load_table(identifier)


def schema_of(table: Table, snapshot: Snapshot) -> Schema:
    """The columns that a table had then."""
    if snapshot.schema_id is None:
        return table.schema()
    return table.schemas()[snapshot.schema_id]


def snapshot_at(table: Table, at: str | int | datetime | None) -> Snapshot | None:
    """The snapshot of a tag, a branch, an id or a time; None for the newest of an empty table.

    Raises `InputError` if there is none.
    """
    where = f"Iceberg table {'.'.join(table.name())}"
    action = "`constellation release list` shows what there is."
    if at is None:
        at = MAIN
        if MAIN not in table.refs():
            return None
    if isinstance(at, datetime):
        found = table.snapshot_as_of_timestamp(int(at.timestamp() * 1000))
    elif isinstance(at, int):
        found = table.snapshot_by_id(at)
    else:
        found = table.snapshot_by_name(at)
    if found is None:
        raise InputError(explain(where, f"no snapshot {at}", "a tag, branch, id or time", action))
    return found


def _embedded(folder: Path) -> dict[str, str]:
    """SQLite and a local warehouse: no server, and no more than one machine's file system."""
    folder = folder.absolute()
    (folder / "warehouse").mkdir(parents=True, exist_ok=True)
    return {
        "type": "sql",
        "uri": f"sqlite:///{folder / 'catalog.db'}?timeout={_SQLITE_WAIT_S}",
        "warehouse": f"file://{folder / 'warehouse'}",
    }


def sql_errors(*names: str) -> tuple[type[Exception], ...]:
    """Exceptions of SQLAlchemy, which only catalogues in SQL databases need to be installed."""
    try:
        from sqlalchemy import exc
    except ModuleNotFoundError:
        return ()
    return tuple(getattr(exc, name) for name in names)


def _connected(properties: dict[str, str]) -> Catalog:
    # the environment as it is now: pyiceberg itself looks at it when it is imported
    properties = {**(Config().get_catalog_config(CATALOG_NAME) or {}), **properties}
    try:
        return load_catalog(CATALOG_NAME, **properties)
    except sql_errors("OperationalError"):  # two processes created the database at once
        time.sleep(0.2)
        return load_catalog(CATALOG_NAME, **properties)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a catalogue that cannot be opened raises into an error for the user."""
    try:
        yield
    except (ValueError, ModuleNotFoundError, *_no_answer()) as error:
        raise _wrong_settings(error) from error


@contextmanager
def answered() -> Iterator[None]:
    """Turn failures of the catalogue and of the storage into `InputError`.

    Missing credentials are a `ConfigurationError`.
    """
    try:
        yield
    except (UnauthorizedError, ForbiddenError, OAuthError) as error:
        raise _wrong_settings(error) from error
    except _no_answer() as error:
        action = "Repeat the command: a table is as before, or changed as a whole."
        raise InputError(
            explain("Iceberg tables", _in_words(error), "an answer", action)
        ) from error


def _wrong_settings(error: Exception) -> ConfigurationError:
    action = (
        "Check the section iceberg, and the credentials in the environment "
        f"(PYICEBERG_CATALOG__{CATALOG_NAME.upper()}__..., or those of AWS)."
    )
    return ConfigurationError(
        explain("iceberg.catalog", _in_words(error), "a catalogue that answers", action)
    )


def _no_answer() -> tuple[type[Exception], ...]:
    return (OSError, RESTError, *sql_errors("SQLAlchemyError"))


def _in_words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
