"""The catalogue is published to Iceberg at the end of a run that is configured so."""

from __future__ import annotations

from constellation.lakehouse.tables import Lakehouse
from tests.constellation.lake import assemble, configuration, makers

from .project import Project


def test_a_run_publishes_the_catalogue_where_the_configuration_says_so(checkout, tmp_path):
    project = Project.create(tmp_path / "project", checkout)
    results = project.folder / "results"
    assemble(results, {1: 5, 2: 6})
    (results / "catalogue.json").write_text("{}")
    # no other rule, as if the catalogue had just been made
    only = ("--allowed-rules", "publish", "--", "results/published.txt")
    status, printed = project.attempt(*only)
    assert status == 1 and "published.txt" in printed  # nobody asked for it
    project.change("iceberg", namespace="mine")
    project.run(*only)
    assert "mine: published" in (results / "published.txt").read_text()
    lakehouse = Lakehouse.of(configuration(results, {"namespace": "mine"}))
    assert makers(lakehouse) == {1: 5, 2: 6}
    assert "Nothing to be done" in project.run(*only)
