"""The report of a campaign: what it says, from which files, and that nothing in them can hurt."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import yaml
from pyarrow import parquet

from constellation.catalogue.schema import KEY
from constellation.cli import main
from constellation.code_digests import code_of
from constellation.outcome import Results, describe_success
from constellation.plan import SubTile
from constellation.report import assets
from constellation.report.campaign import read_settings
from shine.errors import ConfigurationError, Status

from ..fake_campaign import CHECKS, FakeCampaign
from .written import FAILED, counts, parts, row_of, write


def test_the_summary_counts_what_the_catalogue_holds(campaign):
    found = parts(write(campaign))
    told = counts(found)
    shear = parquet.read_table(campaign.results / "catalogue" / "shear.parquet")
    errors = np.array([shear["G1_ERR"].drop_null(), shear["G2_ERR"].drop_null()])
    g = np.array([shear["G1"].to_pylist(), shear["G2"].to_pylist()], float)
    err = np.array([shear["G1_ERR"].to_pylist(), shear["G2_ERR"].to_pylist()], float)
    pulls = (g - [[0.02], [-0.01]]) / err  # the truth is the same everywhere
    assert told["tiles"] == "2"
    assert told["sub-tiles planned"] == "8"
    assert told["of them converged"] == "5"
    assert told["of them not converged"] == told["of them nothing to infer"] == "1"
    assert told["of them without a result"] == "1"
    assert told["core sources"] == "21"
    assert told["mean error of g₁ and g₂ in a sub-tile"] == f"{errors.mean():.4f}"
    assert told["rms of the pulls"] == f"{np.sqrt(np.nanmean(pulls**2)):.2f}"
    lead = found.all("p", **{"class": "lead"})[0].text
    assert "inferred from 2026-11-24 20:00:00 to 2026-11-24 21:01:01" in lead


def test_each_sub_tile_has_a_row_with_its_numbers_and_its_picture(campaign):
    found = parts(write(campaign))
    shear = parquet.read_table(campaign.results / "catalogue" / "shear.parquet").to_pylist()
    assert len(shear) == 7
    for row in shear:
        stem = SubTile(*(row[key] for key in KEY)).stem
        cells = row_of(found, stem)
        if row["G1"] is not None:
            assert f"{row['G1']:+.4f}".replace("-", "−") in cells
            assert f"{row['G2_ERR']:.4f}" in cells
        else:
            assert "sources" in cells and "–" in cells
        [image] = [i for i in found.all("img") if stem in (i["alt"] or "")]
        assert image["loading"] == "lazy"
        [link] = [a for a in found.all("a", **{"class": "panel"}) if stem in a["href"]]
        assert link["href"] == f"../subtiles/{row['TILE_ID']}/{stem}.png"
    assert not found.all("tr", id=f"s-{FAILED}")


def test_the_page_stands_by_itself(campaign):
    output = write(campaign)
    html, found = output.read_text(), parts(output)
    assert not re.search(r'(src|href)="(https?:|//)', html)
    assert not re.search(r"@import|url\(", html)
    assert not re.search(r'\son\w+="|\sstyle="|javascript:', html)
    [policy] = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        [element] = found.all(tag)
        digest = hashlib.sha256(element.text.encode()).digest()
        assert f"{name} 'sha256-{base64.b64encode(digest).decode()}';" in policy["content"]
    assert policy["content"].startswith("default-src 'none';")
    assert "unsafe" not in policy["content"]
    links = [a["href"] for a in found.all("a")]
    ids = [e["id"] for e in found.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for link in links:
        where = output.parent / link if not link.startswith("#") else None
        assert where.is_file() if where else link[1:] in ids, link


def test_the_same_files_give_the_same_bytes(campaign, tmp_path):
    campaign.write_checks()
    campaign.write_psf()
    output = write(campaign)
    first = {p.relative_to(output.parent): p.read_bytes() for p in output.parent.rglob("*.*")}
    assert len(first) > 10
    shutil.rmtree(output.parent)
    for path in campaign.results.rglob("*"):
        path.touch()
    write(campaign)
    second = {p.relative_to(output.parent): p.read_bytes() for p in output.parent.rglob("*.*")}
    assert second == first


def test_nothing_is_left_behind_and_an_older_report_is_replaced(campaign):
    output = write(campaign)
    (output.parent / "report_files" / "old.svg").touch()
    write(campaign)
    assert sorted(p.name for p in output.parent.iterdir()) == ["report.html", "report_files"]
    assert not (output.parent / "report_files" / "old.svg").exists()
    for chart in (output.parent / "report_files").glob("*.svg"):
        assert "dark" not in chart.read_text()
        assert chart.read_text().startswith("<svg xmlns=") and "<style>" in chart.read_text()


def test_failed_checks_come_first_and_make_the_verdict(campaign):
    campaign.write_checks()
    found = parts(write(campaign))
    [verdict] = found.all("p", **{"class": "verdict red"})
    assert "1 of 3 quality checks failed: B modes; 1 could not be checked." in verdict.text
    text = found.text_of("checks")
    assert text.index("B modes") < text.index("PSF leakage") < text.index("pull rms")
    assert "1.04 ± 0.02" in text and "2.7 ± 1" in text and "p = 0.007" in text


def test_passed_checks_make_a_green_verdict(campaign):
    whole = FakeCampaign(campaign.folder.parent / "whole").write()
    whole.write_checks(CHECKS[:1])
    found = parts(write(whole))
    [verdict] = found.all("p", **{"class": "verdict green"})
    assert "1 of 1 quality checks passed." in verdict.text
    assert "None: every planned sub-tile has its result" in found.text_of("failures")


def test_what_is_not_there_is_said(campaign):
    for name in ("measurements.parquet", "runs", "logs", "subtiles"):
        path = campaign.results / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    settings = yaml.safe_load(campaign.config.read_text())
    del settings["data"]["truth"]
    campaign.config.write_text(yaml.safe_dump(settings))
    found = parts(write(campaign))
    assert "No quality checks were made." in found.all("p", **{"class": "verdict red"})[0].text
    assert found.text_of("checks").endswith("there is no quality/checks.parquet in the results.")
    assert "Not measured" in found.text_of("psf")
    assert "Not measured" in found.text_of("timings")
    assert "No truth is configured" in found.text_of("shear")
    assert "Its log is not at hand." in found.text_of("failures")
    assert "rms of the pulls" not in counts(found)
    assert [i for i in found.all("img") if i["alt"]] == []
    assert row_of(found, "1000_0_1")


def test_the_psf_is_mapped_where_it_is_measured(campaign):
    campaign.write_psf()
    found = parts(write(campaign))
    rows = parquet.read_table(campaign.results / "catalogue" / "shear.parquet")
    fwhm = rows["PSF_FWHM"].to_numpy()
    [chart] = [s for s in found.all("svg") if s["aria-label"].startswith("PSF of 7 sub-tiles")]
    assert f"FWHM {fwhm.min():.4f} to {fwhm.max():.4f} arcsec" in chart["aria-label"]


def test_failures_say_what_to_do_and_how_the_log_ends(campaign):
    lost = campaign.plan.subtiles[-1].stem
    rows = parquet.read_table(campaign.results / "catalogue" / "shear.parquet")
    parquet.write_table(rows.slice(0, 0), campaign.results / "catalogue" / "other.parquet")
    keep = [
        f"{r['TILE_ID']}_{r['SUBTILE_ROW']}_{r['SUBTILE_COL']}" != lost for r in rows.to_pylist()
    ]
    parquet.write_table(rows.filter(keep), campaign.results / "catalogue" / "shear.parquet")
    log = campaign.path("logs/subtiles", FAILED, ".log")
    log.write_text("".join(f"line {n}\n" for n in range(2000)) + "exit status 5\n")
    campaign.write_failures({FAILED: ("out of memory", "error: 9 GB asked for")})
    text = parts(write(campaign)).text_of("failures")
    assert "Out of memory: 1 What to do: raise compute.mem_mb" in text
    assert f"{FAILED}: error: 9 GB asked for" in text
    assert "line 1999 exit status 5" in text and "line 1900" not in text
    assert "Neither in the catalogue nor among its failures: 1" in text
    assert lost in text
    assert "Not converged: 1" in text and "1000_0_0" in text


def test_provenance_names_all_that_the_rows_depend_on(campaign, tmp_path):
    (lock := tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    text = parts(write(campaign, dvc_lock=lock, iceberg_snapshot="8231")).text_of("provenance")
    table = campaign.results / "catalogue" / "shear.parquet"
    for value in (
        "c0ffee",
        "b" * 64,
        "a" * 64,
        "d" * 64,
        "numpy 2.0",
        hashlib.sha256(table.read_bytes()).hexdigest(),
        hashlib.sha256(lock.read_bytes()).hexdigest(),
        "Iceberg snapshot 8231",
        "sub_tile_grid: - 2 - 2",
    ):
        assert value in text


def test_the_command_takes_a_file_or_the_settings_themselves(campaign, capsys, tmp_path):
    outputs = [tmp_path / name / "report.html" for name in ("a", "b")]
    assert main(["report", "--config", str(campaign.config), "--output", str(outputs[0])]) == 0
    assert capsys.readouterr().out.startswith(f"{outputs[0]}: 0.")
    settings = yaml.safe_load(campaign.config.read_text())
    elsewhere = tmp_path / "fetched"
    campaign.results.rename(elsewhere)
    arguments = ["--config", json.dumps(settings), "--results", str(elsewhere)]
    assert main(["report", *arguments, "--output", str(outputs[1])]) == 0
    assert len(parts(outputs[1]).all("tr")) == len(parts(outputs[0]).all("tr"))
    with pytest.raises(ConfigurationError, match="configuration: not valid JSON"):
        read_settings("{")
    assert main(["report", "--config", "no.yaml", "--output", str(outputs[1])]) == 2


def test_the_end_of_a_run_says_where_the_report_is(campaign):
    (campaign.results / "summary").mkdir()
    (campaign.results / "summary" / "summary.txt").write_text("a table\n")
    results = Results.of(campaign.results, None)
    assert not any("report" in line for line in describe_success(results))
    output = write(campaign)
    assert f"report:    {output}" in describe_success(results)


def test_a_change_of_the_page_counts_as_one_of_the_code(monkeypatch, tmp_path):
    before = assets.assets_digest()
    shutil.copytree(assets.FOLDER, tmp_path / "assets")
    monkeypatch.setattr(assets, "FOLDER", tmp_path / "assets")
    assert assets.assets_digest() == before
    with (tmp_path / "assets" / "page.css").open("a") as sheet:
        sheet.write("p{color:red}\n")
    assert assets.assets_digest() != before
    assert code_of("constellation.report.page")


@pytest.mark.parametrize("grid", [(1, 1), (1, 2)])
@pytest.mark.parametrize("status", [Status.OK, Status.NO_SOURCES, Status.NOT_CONVERGED])
def test_the_smallest_campaigns_have_a_report(tmp_path, grid, status):
    stems = {f"1000_0_{col}": status for col in range(grid[1])}
    small = FakeCampaign(tmp_path, 1, 1, grid, sources_per_subtile=1, status=stems).write()
    found = parts(write(small))
    assert len(found.all("tr", id="s-1000_0_0")) == 1
    assert not re.search(r"\b(nan|inf)\b", found.all("main")[0].text, re.IGNORECASE)


def test_a_catalogue_without_any_source_has_a_report(campaign):
    path = campaign.results / "catalogue" / "files.parquet"
    parquet.write_table(parquet.read_table(path).slice(0, 0), path)
    told = counts(parts(write(campaign)))
    assert told["core sources"] == "0"
    assert "rms of the pulls" not in told
