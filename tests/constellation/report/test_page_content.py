"""What a page is made of: nothing in the files can hurt it, and it is as large as it can bear."""

from __future__ import annotations

import base64
import re
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pyarrow import parquet

from constellation.catalogue.schema import SHEAR
from constellation.report import page, pictures
from constellation.report.campaign import Request, read_settings
from shine.errors import InputError

from ..fake_campaign import FakeCampaign
from ..html_page import PageParts
from .written import FAILED, STATUS, parts, write


@pytest.mark.parametrize("form", ["</pre><script>alert(1)</script>", "\"'><img src=x onerror=a()>"])
def test_nothing_in_the_files_can_become_part_of_the_page(campaign, form):
    plain = parts(write(campaign))
    evil = FakeCampaign(campaign.folder.parent / "evil", failed=(FAILED,), status=STATUS).write()
    log = evil.path("logs/subtiles", FAILED, ".log")
    log.write_text(f"{form}\x00\x1b[31m\nexit status 3\n")
    evil.write_failures({FAILED: ("bad or missing input", f"{form}")})
    settings = yaml.safe_load(evil.config.read_text())
    settings["data"]["survey"] += form.replace("/", "")
    evil.config.write_text(yaml.safe_dump(settings))
    output = write(evil, iceberg_snapshot=form)
    found = parts(output)
    assert [e.tag for e in found.elements if e.tag in ("script", "pre", "style")] == [
        e.tag for e in plain.elements if e.tag in ("script", "pre", "style")
    ]
    assert len(found.all("img")) == len(plain.all("img"))
    assert form in found.text_of("failures")
    assert form in found.text_of("provenance")
    assert not re.search("[\x00\x1b]", output.read_text())


def test_hostile_checks_and_odd_folders_are_only_text(campaign):
    hostile = "<script>alert(1)</script>"
    rows = [(hostile, hostile, 1.0, None, hostile, "passed", hostile)]
    campaign.write_checks(tuple(rows))
    odd = campaign.folder.parent / "re\"s & <b>'"
    shutil.copytree(campaign.results, odd)
    settings = read_settings(str(campaign.config))
    output = campaign.folder / "other" / "page.html"
    page.write_report(Request(settings, odd, output))
    found = parts(output)
    assert found.text_of("checks").count(hostile) == 4
    assert len(found.all("script")) == 1
    assert found.all("b") == []
    [link] = [a for a in found.all("a", **{"class": "panel"}) if "1000_0_1" in a["href"]]
    assert link["href"] == "../../re%22s%20%26%20%3Cb%3E%27/subtiles/1000/1000_0_1.png"
    assert (output.parent / "page_files").is_dir()


def test_a_large_campaign_keeps_sub_tiles_as_text_until_they_are_asked_for(campaign, monkeypatch):
    whole = parts(write(campaign))
    monkeypatch.setattr(page, "MOST_OPEN", 3)
    lazy = parts(write(campaign))
    assert lazy.all("tr", id="s-1000_0_1") == []
    stored = [e for e in lazy.all("script") if e.attributes.get("type") == "text/html"]
    inner = [PageParts.of(element.text) for element in stored]
    assert len(inner) == 2
    assert sum(len(tile.all("tr")) for tile in inner) == 2 + 7
    [row] = inner[0].all("tr", id="s-1000_0_1")
    assert row.text == whole.all("tr", id="s-1000_0_1")[0].text
    assert lazy.all("noscript")


@pytest.mark.parametrize(
    ("budget", "width", "embedded"), [(6_000_000, 1440, True), (40_000, 320, True), (0, 320, False)]
)
def test_pictures_are_as_large_as_the_page_can_bear(tmp_path, monkeypatch, budget, width, embedded):
    large = FakeCampaign(tmp_path, 1, 1, (1, 2), panel_px=(1600, 520)).write()
    monkeypatch.setattr(pictures, "EMBEDDED_BYTES", budget)
    output = write(large)
    images = [i for i in parts(output).all("img") if i["alt"]]
    stems = ["1000_0_0", "1000_0_1"]
    for image, stem in zip(images, stems, strict=True):
        assert image["src"].startswith("data:image/webp;base64,") == embedded
        if embedded:
            content = base64.b64decode(image["src"].partition(",")[2])
        else:
            assert image["src"] == f"report_files/{stem}.webp"
            content = (output.parent / image["src"]).read_bytes()
        copy = Image.open(BytesIO(content))
        assert copy.size == (int(image["width"]), int(image["height"]))
        assert copy.size == (width, round(width * 0.325))
        apart = [rms_from(copy, large.path("subtiles", name, ".png")) for name in stems]
        assert apart[stems.index(stem)] < 0.9 * max(apart)


def rms_from(copy: Image.Image, path: Path) -> float:
    original = Image.open(path).convert("L").resize(copy.size, Image.Resampling.BOX)
    return float(np.std(np.asarray(original, float) - np.asarray(copy.convert("L"), float)))


def test_damaged_files_are_named(campaign, tmp_path):
    def refused(path: Path, content: bytes, match: str):
        before = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(f"{path}") + match):
            write(campaign)
        path.write_bytes(before)

    refused(campaign.path("subtiles", "1000_0_1", ".png"), b"no picture", ": found no readable")
    record = campaign.path("runs", "1000_0_1", ".run.json")
    refused(record, b"{", ": found JSONDecodeError")
    refused(record, b'{"measurements": {"history": {"moving": []}}}', ": found KeyError")
    campaign.write_checks()
    refused(campaign.results / "quality" / "checks.parquet", b"PAR1", ": found no readable table")
    assert not (campaign.results / "report" / "report.html").exists()
    assert list((campaign.results / "report").iterdir()) == []
    with pytest.raises(InputError, match=r"no\.lock: found no such file, expected dvc\.lock"):
        write(campaign, dvc_lock=tmp_path / "no.lock")
    parquet.write_table(SHEAR.empty_table(), campaign.results / "catalogue" / "shear.parquet")
    with pytest.raises(InputError, match=r"shear\.parquet: found no sub-tile"):
        write(campaign)
