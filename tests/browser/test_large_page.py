"""The report of 260 tiles, 4,160 sub-tiles: light when it opens, and it stays so."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from constellation.cli import main
from tests.constellation.fake_campaign import FakeCampaign
from tests.servers.chromium import serve

from .conftest import Visit, build_once

FIRST_LOAD_BYTES = 10_000_000
MOST_NODES = 3000


@pytest.fixture(scope="module")
def results(shared) -> Path:
    """The results of 13 x 20 tiles of 4 x 4 sub-tiles, with their report; made by one worker."""
    return build_once(shared / "wide", build) / "results"


def build(folder: Path) -> None:
    panels = (340, 111)  # the page shows thumbnails of 320, whatever the original
    campaign = FakeCampaign(folder, 13, 20, (4, 4), sources_per_subtile=1, panel_px=panels).write()
    campaign.write_checks()
    campaign.write_psf()
    output = campaign.results / "report" / "report.html"
    assert main(["report", "--config", str(campaign.config), "--output", str(output)]) == 0
    assert len(list((output.parent / "report_files").glob("*.webp"))) == 4160


def nodes(page) -> int:
    return page.evaluate("document.querySelectorAll('*').length")


def test_it_loads_little_and_grows_only_by_what_is_open(browser, results):
    with serve(results) as site:
        visit = Visit.begin(browser, f"{site.uri}/report/report.html")
        page = visit.page
        page.wait_for_load_state("networkidle")
        assert 1_000_000 < sum(site.sent.values()) < FIRST_LOAD_BYTES
        assert not any(path.endswith((".webp", ".png")) for path in site.sent)
        before = nodes(page)
        assert page.locator("details.tile").count() == 260
        assert before < MOST_NODES

        page.locator("#t-1507 > summary").press("Enter")
        rows = page.locator("#t-1507 tbody tr")
        expect(rows).to_have_count(16)
        thumbnails = page.locator("#t-1507 a.panel img")
        thumbnails.last.scroll_into_view_if_needed()
        visit.wait_until(
            "[...document.querySelectorAll('#t-1507 img')].every(i => i.complete && i.naturalWidth)"
        )
        assert thumbnails.last.evaluate("image => image.naturalWidth") == 320
        assert sum(path.endswith(".webp") for path in site.sent) == 16
        assert nodes(page) - before < 800
        # the original is fetched when it is asked for, and not before
        assert not any(path.endswith(".png") for path in site.sent)
        page.locator("#t-1507 a.panel").first.press("Enter")
        visit.wait_until("document.getElementById('view').naturalWidth === 340")
        assert site.sent["/subtiles/1507/1507_0_0.png"] > 0
        page.keyboard.press("Escape")

        page.locator("#t-1507 > summary").press("Enter")
        visit.wait_until("!document.querySelector('#t-1507 table')")
        assert nodes(page) == before
        page.context.close()
    assert visit.problems == []


def test_a_link_to_a_sub_tile_opens_its_tile(browser, results):
    uri = (results / "report" / "report.html").as_uri()
    visit = Visit.begin(browser, f"{uri}#s-2212_3_1")
    row = visit.page.locator("[id='s-2212_3_1']")
    assert row.is_visible()
    assert visit.focused == "tr#s-2212_3_1.found"
    link = visit.page.locator("#summary a[href^='#s-']").first
    name = link.text_content()
    link.click()
    visit.page.locator(f"[id='s-{name}']").wait_for()
    assert visit.page.locator("tr.found").count() == 1
    assert visit.problems == []
    visit.page.context.close()


def test_where_the_page_was_sent_alone_the_thumbnail_stands_in(browser, results, tmp_path):
    page = results / "report" / "report.html"
    (tmp_path / "report.html").write_bytes(page.read_bytes())
    (tmp_path / "report_files").symlink_to(page.parent / "report_files")
    visit = Visit.begin(browser, (tmp_path / "report.html").as_uri() + "#s-1000_0_0")
    visit.page.locator("a.panel").first.press("Enter")
    # said once the picture has failed to load
    expect(visit.page.get_by_text("is not beside this page")).to_be_visible()
    visit.wait_until("document.getElementById('view').naturalWidth === 320")
    visit.page.context.close()
