"""The tables elsewhere than on disk: in S3, and with an Iceberg REST catalogue; each a real server.

Credentials come from the environment alone.
"""

from __future__ import annotations

import os

import pytest

from constellation.cli import main
from constellation.lakehouse.maintenance import expire, repartition
from constellation.lakehouse.releases import rollback, tag
from constellation.lakehouse.tables import Lakehouse
from tests.servers.s3 import REGION
from tests.servers.seaweed import iceberg_server

from .lake import ROUNDS, assemble, configuration, makers, publish_side_by_side, publish_tiles
from .test_lakehouse_releases import now


@pytest.fixture(scope="module")
def iceberg_service(tmp_path_factory):
    with iceberg_server(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
def in_s3(tmp_path, s3, monkeypatch):
    """SQLite on disk, the warehouse in S3."""
    s3.use(monkeypatch)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    return {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path / 'catalog.db'}?timeout=60",
        "warehouse": s3.uri("warehouse"),
        "s3.endpoint": s3.endpoint,
        "s3.region": REGION,
    }


@pytest.fixture
def in_rest(iceberg_service, monkeypatch):
    """A catalogue behind HTTP, its warehouse in S3."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "PYICEBERG_"))]:
        monkeypatch.delenv(name)
    for name, value in iceberg_service.environment().items():
        monkeypatch.setenv(name, value)
    return iceberg_service.catalog()


def lives(results, iceberg) -> None:
    """All that one does with the tables."""
    lakehouse = Lakehouse.of(configuration(results, iceberg))
    publish_tiles(results, lakehouse, {1: 5, 2: 6})
    tag(lakehouse, "q1-v1")
    assert not publish_tiles(results, lakehouse, {1: 5, 2: 6})
    publish_tiles(results, lakehouse, {2: 7, 3: 8})
    repartition(lakehouse, 5)
    publish_tiles(results, lakehouse, {3: 9})
    assert makers(lakehouse) == {1: 5, 2: 7, 3: 9}
    assert expire(lakehouse, now())["sources"].snapshots == 1
    assert makers(lakehouse, "q1-v1") == {1: 5, 2: 6}
    rollback(lakehouse, "q1-v1")
    assert makers(Lakehouse.of(configuration(results, iceberg))) == {1: 5, 2: 6}


def test_a_warehouse_in_s3(tmp_path, s3, in_s3):
    lives(tmp_path, {"catalog": in_s3})
    objects = s3.objects("warehouse/shine/")
    assert any("/sources/data/1-" in key for key in objects)
    assert not list(tmp_path.rglob("warehouse"))


def test_a_rest_catalogue(tmp_path, in_rest):
    lives(tmp_path, {"namespace": "alone", "catalog": in_rest})


@pytest.mark.parametrize("credential", [None, "somebody:else"])
def test_credentials_that_are_missing_or_wrong_are_named(
    tmp_path, in_rest, monkeypatch, capsys, credential
):
    variable = "PYICEBERG_CATALOG__CONSTELLATION__CREDENTIAL"
    monkeypatch.delenv(variable)
    if credential:
        monkeypatch.setenv(variable, credential)
    assemble(tmp_path, {1: 5})
    config = configuration(tmp_path, {"catalog": in_rest}).model_dump_json(exclude_unset=True)
    assert main(["publish", "--config", config]) == 2
    error = capsys.readouterr().err
    assert "PYICEBERG_CATALOG__CONSTELLATION__" in error and "else" not in error


def test_concurrent_publishers_of_a_rest_catalogue_lose_nothing(tmp_path, in_rest):
    iceberg = {"namespace": "together", "catalog": in_rest}
    lakehouse = Lakehouse.of(configuration(tmp_path, iceberg))
    # this server lets two create a table at once, and keeps the second: so it is there before
    publish_tiles(tmp_path, lakehouse, {9: 9})
    publish_side_by_side(tmp_path, iceberg)
    found = makers(lakehouse)
    assert found.pop(9) == 9
    assert found.pop(7) in (10 * (ROUNDS - 1) + 1, 10 * (ROUNDS - 1) + 2)
    assert found == {100 * number + turn: number for number in (1, 2) for turn in range(ROUNDS)}
