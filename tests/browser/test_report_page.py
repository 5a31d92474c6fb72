"""The report in a browser: it loads quietly, all of it works with keys, and it fits a phone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from constellation.cli import main
from shine.errors import Status
from tests.constellation.fake_campaign import FakeCampaign
from tests.servers.chromium import serve

from .conftest import PHONE, Visit

FAILED = "1001_1_0"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of two tiles with something of everything."""
    status = {"1000_0_0": Status.NOT_CONVERGED, "1000_1_1": Status.NO_SOURCES}
    folder = tmp_path_factory.mktemp("campaign")
    campaign = FakeCampaign(folder, failed=(FAILED,), status=status).write()
    campaign.write_checks()
    campaign.write_psf()
    log = campaign.path("logs/subtiles", FAILED, ".log")
    log.write_text("<script>document.title = 'taken over'</script>\nexit status 3\n")
    output = campaign.results / "report" / "report.html"
    assert main(["report", "--config", str(campaign.config), "--output", str(output)]) == 0
    return output


@pytest.fixture
def visit(browser, report):
    """The page on a laptop, opened as a file."""
    found = Visit.begin(browser, report.as_uri(), viewport={"width": 1280, "height": 800})
    yield found
    found.page.context.close()


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_loads_quietly_and_asks_nothing_of_elsewhere(browser, report, as_file, scheme):
    with serve(report.parents[1]) as site:
        uri = report.as_uri() if as_file else f"{site.uri}/report/report.html"
        visit = Visit.begin(browser, uri, color_scheme=scheme, viewport=PHONE)
        for image in visit.page.locator("img[src]").all():
            image.scroll_into_view_if_needed()
        visit.wait_until("[...document.images].every(i => i.hidden || i.complete)")
        loaded = visit.page.evaluate(
            "[...document.images].filter(i => !i.hidden).map(i => [i.naturalWidth, i.alt])"
        )
        title = visit.page.title()
        visit.page.context.close()
    assert visit.problems == []
    assert [r for r in visit.requests if not r.startswith((uri.rpartition("/")[0], "data:"))] == []
    assert len(loaded) == 7
    assert all(width > 0 and len(text) > 40 for width, text in loaded)
    assert title == "Shear of sky"


def test_without_scripts_all_of_a_small_campaign_can_be_read(browser, report):
    visit = Visit.begin(browser, report.as_uri(), java_script_enabled=False)
    assert visit.page.locator("[id='s-1001_0_1']").is_visible()
    assert visit.page.get_by_role("searchbox").count() == 0
    links = visit.page.locator("a.panel")
    hrefs = [link.get_attribute("href") for link in links.all()]
    assert len(hrefs) == 7
    assert all((report.parent / href).is_file() for href in hrefs)
    visit.page.context.close()


def test_all_links_lead_somewhere(visit, report):
    read = "all => all.map(a => a.getAttribute('href'))"
    links = visit.page.eval_on_selector_all("a[href]", read)
    assert len(links) > 50
    for link in set(links):
        if link.startswith("#"):
            assert visit.page.locator(f"[id='{link[1:]}']").count() == 1, link
        else:
            assert (report.parent / link).is_file(), link


def test_a_thumbnail_opens_with_enter_and_escape_leads_back(visit):
    page = visit.page
    page.locator("#t-1000 .wide").focus()
    while "panel" not in visit.focused:
        visit.pressed("Tab")
    visit.pressed("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_text("1000_0_0, 1 of 7").is_visible()
    picture = dialog.get_by_role("img")
    visit.wait_until("document.getElementById('view').naturalWidth > 0")
    first = picture.get_attribute("src")
    said = picture.get_attribute("alt")
    assert said.startswith("Observed, model and chi panels of sub-tile 1000_0_0")
    visit.pressed("ArrowRight")
    assert dialog.get_by_text("1000_0_1, 2 of 7").is_visible()
    assert picture.get_attribute("src") != first
    visit.pressed("ArrowLeft", "ArrowLeft")
    assert dialog.get_by_text("1001_1_1, 7 of 7").is_visible()
    # the focus comes to the thumbnail of what was seen last, once the dialog's `close` event is out
    last = "document.activeElement.closest('a.panel')?.textContent.trim() === '1001_1_1'"
    visit.pressed("Escape")
    assert not dialog.is_visible()
    visit.wait_until(last)
    visit.pressed("Enter", "Escape")
    assert not dialog.is_visible()
    visit.wait_until(last)
    assert visit.problems == []


def test_the_dialog_is_worked_with_the_mouse_too(visit):
    page = visit.page
    page.locator("a.panel").nth(2).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Next").click()
    assert dialog.get_by_text("4 of 7").is_visible()
    dialog.get_by_role("button", name="Previous").click()
    assert dialog.get_by_text("3 of 7").is_visible()
    original = dialog.get_by_role("link", name="Original picture").get_attribute("href")
    assert original.endswith("/subtiles/1000/1000_1_0.png")
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_the_first_tab_skips_to_the_report(visit):
    visit.pressed("Tab", "Enter")
    assert visit.focused == "main#main."
    # all that is worked with a key can be seen to have the focus
    visit.pressed("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert visit.page.evaluate(outline) == "solid"


def test_a_table_is_sorted_by_the_buttons_in_its_head(visit):
    table = visit.page.get_by_role("table", name="Sub-tiles of tile 1000")
    button = table.get_by_role("button", name="g₁")
    head = table.get_by_role("columnheader", name="g₁")
    cells = table.locator("tbody tr td:nth-child(5)")

    def numbers():
        texts = [text.split(" ")[0].replace("−", "-") for text in cells.all_text_contents()]
        return [float(text) for text in texts if text != "–"]

    assert numbers() != sorted(numbers())
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers() == sorted(numbers())
    assert cells.last.text_content() == "–"  # the one without shear
    button.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers() == sorted(numbers(), reverse=True)


def test_the_filter_leaves_what_is_asked_for(visit):
    page = visit.page
    page.get_by_label("Tile or sub-tile").fill("1001_0_1")
    assert page.get_by_text("1 of 2 tiles").is_visible()
    assert not page.locator("#t-1000").is_visible()
    page.get_by_label("Tile or sub-tile").fill("")
    page.get_by_label("Status").select_option("not converged")
    assert page.get_by_text("1 of 2 tiles").is_visible()
    assert page.locator("tbody tr[data-status]:visible").count() == 1
    assert page.locator("a.panel:visible").count() == 1
    page.locator("a.panel:visible").click()
    assert page.get_by_text("1000_0_0, 1 of 1").is_visible()


def test_it_fits_a_phone(browser, report):
    visit = Visit.begin(browser, report.as_uri(), viewport=PHONE, is_mobile=True, has_touch=True)
    widths = visit.page.evaluate(
        "[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]"
    )
    assert widths == [360, 360, 360]
    # text of the charts, in pixels of the phone, is no smaller than small print
    heights = visit.page.evaluate(
        "[...document.querySelectorAll('figure svg text')].map(t => t.getBBox().height"
        " * t.ownerSVGElement.getScreenCTM().a)"
    )
    assert len(heights) > 100
    assert min(heights) > 10
    # what scrolls sideways can be scrolled with keys, and says what it is
    scrollers = visit.page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1"
        " && getComputedStyle(e).overflowX === 'auto')"
        ".map(e => [e.tabIndex, e.getAttribute('aria-label')])"
    )
    assert len(scrollers) > 2
    assert all(index == 0 and label for index, label in scrollers)
    visit.page.locator("a.panel").first.tap()
    box = visit.page.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    visit.page.context.close()


def test_a_screen_reader_finds_its_way(visit):
    page = visit.page
    for role, name in (
        ("banner", None),
        ("navigation", "Sections"),
        ("main", None),
        ("contentinfo", None),
        ("search", "Tiles"),
        ("region", "Quality checks"),
    ):
        assert page.get_by_role(role, name=name, exact=True).count() == 1, (role, name)
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(h => Number(h.tagName[1]))")
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for chart in page.locator("figure svg").all():
        assert chart.get_attribute("role") == "img"
        assert any(letter.isdigit() for letter in chart.get_attribute("aria-label"))
    unnamed = page.evaluate(
        "[...document.querySelectorAll('table')].filter(t => !t.caption?.textContent.trim()).length"
        " + [...document.querySelectorAll('th')].filter(t => !t.scope).length"
        " + [...document.querySelectorAll('a, button, summary')]"
        ".filter(e => !e.textContent.trim()).length"
    )
    assert unnamed == 0
    links = page.eval_on_selector_all(
        "main a[href]:not([href^='#'])", "all => all.map(a => [a.textContent.trim(), a.href])"
    )
    by_name = dict(links)
    assert all(by_name[name] == target for name, target in links)  # no two ends of one name
    repeated = page.evaluate(
        "(ids => ids.length - new Set(ids).size)"
        "([...document.querySelectorAll('[id]')].map(e => e.id))"
    )
    assert repeated == 0


CONTRAST = """
() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map(
      (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest("script, style")) continue;
    const style = getComputedStyle(e);
    const [a, b] = [parse(e.closest("svg") ? style.fill : style.color), behind(e)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${e.tagName} ${e.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return low;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(browser, report, scheme):
    visit = Visit.begin(browser, report.as_uri(), color_scheme=scheme)
    assert visit.page.evaluate(CONTRAST) == []  # WCAG 2.2, 1.4.3: 4.5 to 1
    visit.page.context.close()
