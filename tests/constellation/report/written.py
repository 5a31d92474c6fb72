"""A campaign's report: how its sub-tiles ended, the page, and what is found in it."""

from __future__ import annotations

from pathlib import Path

from constellation.report import page
from constellation.report.campaign import Request, read_settings
from shine.errors import Status

from ..fake_campaign import FakeCampaign
from ..html_page import PageParts

FAILED = "1001_1_0"
STATUS = {"1000_0_0": Status.NOT_CONVERGED, "1000_1_1": Status.NO_SOURCES}


def write(campaign: FakeCampaign, **more) -> Path:
    settings = read_settings(str(campaign.config))
    output = campaign.results / "report" / "report.html"
    written = page.write_report(Request(settings, campaign.results, output, **more))
    assert written == [output, output.parent / "report_files"]
    return output


def parts(output: Path) -> PageParts:
    return PageParts.of(output.read_text(encoding="utf-8"))


def counts(found: PageParts) -> dict[str, str]:
    labels = [label.text for label in found.all("dt")]
    return dict(zip(labels, [number.text for number in found.all("dd")], strict=False))


def row_of(found: PageParts, stem: str) -> list[str]:
    [row] = found.all("tr", id=f"s-{stem}")
    return row.text.split()
