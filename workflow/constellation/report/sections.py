"""What the page says, section by section, as plain values for the template."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from constellation.catalogue.schema import KEY, ORIGIN
from constellation.cost_report import format_duration
from constellation.plan import SubTile
from constellation.report.beside import Beside, Failure, failure_of
from constellation.report.campaign import Campaign, Floats
from constellation.report.drawing import plain, signed
from constellation.report.pictures import Picture
from constellation.report.sky import STATES, state_of
from shine.errors import Status, SubtileFlag

N_FIRST, N_SLOWEST, MOST_FAILURES = 3, 10, 50
OUTCOMES = {"failed": "red", "not checked": "grey", "passed": "green"}
TIMES = {
    "TOTAL_S": "whole inference",
    "LOAD_S": "of it loading",
    "COMPILE_S": "of it compiling",
    "SOLVE_S": "of it solving",
}


def verdict(campaign: Campaign) -> tuple[str, str]:
    """The colour and the words of the line at the top."""
    n_lost = len(campaign.unaccounted) + campaign.catalogue.failures.num_rows
    lost = f" {n_lost:,} planned sub-tiles have no result." if n_lost else ""
    if campaign.checks is None:
        return ("red" if n_lost else "grey"), f"No quality checks were made.{lost}"
    counts = Counter(check["OUTCOME"] for check in campaign.checks)
    failed = [check["CHECK"] for check in campaign.checks if check["OUTCOME"] == "failed"]
    open_ones = counts["not checked"]
    rest = f"; {open_ones} could not be checked" if open_ones else ""
    if failed:
        told = f"{len(failed)} of {counts.total()} quality checks failed: {', '.join(failed)}"
        return "red", f"{told}{rest}.{lost}"
    colour = "red" if n_lost else "orange" if open_ones else "green"
    return colour, f"{counts['passed']} of {counts.total()} quality checks passed{rest}.{lost}"


def checks(campaign: Campaign) -> list[dict[str, Any]]:
    """The quality checks, failed ones first."""
    order = list(OUTCOMES)
    found = sorted(campaign.checks or [], key=lambda check: order.index(check["OUTCOME"]))
    return [
        {
            "name": check["CHECK"],
            "meaning": check["MEANING"],
            "value": _with_error(check["VALUE"], check["ERROR"]),
            "limit": check["LIMIT"],
            "outcome": check["OUTCOME"],
            "colour": OUTCOMES[check["OUTCOME"]],
            "detail": check["DETAIL"],
        }
        for check in found
    ]


def counts(campaign: Campaign) -> list[tuple[str, str]]:
    """The numbers at the top: what each is, and the number."""
    states = Counter(state_of(status) for status in campaign.status)
    n_lost = len(campaign.unaccounted) + campaign.catalogue.failures.num_rows
    rows = [
        ("tiles", f"{len(campaign.run.plan.tile_ids):,}"),
        ("sub-tiles planned", f"{len(campaign.run.plan.subtiles):,}"),
        *((f"of them {state}", f"{states[state]:,}") for state in STATES if states[state]),
    ]
    if n_lost:
        rows.append(("of them without a result", f"{n_lost:,}"))
    rows += [
        ("core sources", f"{campaign.n_sources:,}"),
        ("galaxies that carry shear", f"{int(np.nansum(campaign.numbers('N_SOURCES'))):,}"),
        ("mean error of g₁ and g₂ in a sub-tile", plain(_mean(campaign.g_err), ".4f")),
    ]
    pulls = campaign.pulls[np.isfinite(campaign.pulls)]
    if len(pulls):
        rows.append(("rms of the pulls", f"{np.sqrt(np.mean(pulls**2)):.2f}"))
    total_s = np.nansum(campaign.seconds("TOTAL_S"))
    if total_s:
        cores = campaign.run.config.compute.threads
        rows.append((f"core hours, {cores} per sub-tile", f"{cores * total_s / 3600.0:.2f}"))
    return rows


def first_looks(campaign: Campaign) -> list[tuple[str, str]]:
    """Sub-tiles that deserve a look: the name, and why."""
    stems = [subtile.stem for subtile in campaign.subtiles]
    chi2 = campaign.numbers("CHI2") / np.maximum(campaign.numbers("N_PIXELS"), 1.0)
    largest = np.max(np.abs(np.nan_to_num(campaign.pulls)), axis=1, initial=0.0)
    reasons: dict[str, list[str]] = {}
    for values, form in (
        (np.where(largest > 0.0, largest, np.nan), "largest pull {:.2f}"),
        (campaign.numbers("CONVERGENCE"), "convergence {:.2g} errors"),
        (np.abs(np.log(np.where(chi2 > 0.0, chi2, np.nan))), "chi² per pixel {:.4f}"),
    ):
        for place in _largest(values, N_FIRST):
            shown = chi2[place] if form.startswith("chi") else values[place]
            reasons.setdefault(stems[place], []).append(form.format(shown))
    return [(stem, "; ".join(told)) for stem, told in reasons.items()]


def tiles(
    campaign: Campaign, beside: Beside, pictures: Mapping[str, Picture]
) -> list[dict[str, Any]]:
    """The sub-tiles of each tile that has any, with what its heading says."""
    groups: dict[int, list[dict[str, Any]]] = {}
    columns = {
        name: campaign.numbers(name)
        for name in ("G1", "G2", "G1_ERR", "G2_ERR", "N_SOURCES", "CHI2", "N_PIXELS", "FLAGS")
    }
    seconds = campaign.seconds("TOTAL_S")
    for place, subtile in enumerate(campaign.subtiles):
        row = {name: float(values[place]) for name, values in columns.items()}
        groups.setdefault(subtile.tile_id, []).append(
            {
                "subtile": subtile,
                "stem": subtile.stem,
                "n": f"{int(row['N_SOURCES']):,}",
                "g1": _pm(row["G1"], row["G1_ERR"]),
                "g2": _pm(row["G2"], row["G2_ERR"]),
                "chi2": plain(row["CHI2"] / max(row["N_PIXELS"], 1.0), ".4f"),
                "seconds": plain(seconds[place], ".1f"),
                "status": campaign.status[place].name.replace("_", " ").lower(),
                "colour": STATES[state_of(campaign.status[place])][0],
                "flags": ", ".join(flag_name(flag) for flag in SubtileFlag(int(row["FLAGS"]))),
                "panel": beside.link(beside.path("subtiles", subtile, ".png")),
                "log": beside.link(beside.log(subtile)),
                "picture": pictures.get(subtile.stem),
            }
        )
    planned = campaign.run.plan.by_tile
    return [_group(tile, rows, len(planned[tile])) for tile, rows in groups.items()]


def _group(tile: int, rows: list[dict[str, Any]], n_planned: int) -> dict[str, Any]:
    statuses = Counter(row["status"] for row in rows)
    told = [f"{count} {status}" for status, count in sorted(statuses.items())]
    if n_planned > len(rows):
        told.append(f"{n_planned - len(rows)} without a result")
    return {
        "id": tile,
        "rows": rows,
        "statuses": sorted(statuses),
        "counts": ", ".join(told),
        "is_fine": set(statuses) == {"ok"} and n_planned == len(rows),
    }


def timings(campaign: Campaign) -> list[tuple[str, str, str, str]]:
    """For each of the times: its name, sum, median and maximum; then memory."""
    rows = []
    for name, label in TIMES.items():
        known = _known(campaign.seconds(name))
        if len(known):
            numbers = (known.sum(), np.median(known), known.max())
            rows.append((label, *(format_duration(float(value)) for value in numbers)))
    memory = _known(campaign.seconds("PEAK_RSS_MB"))
    if len(memory):
        rows.append(
            ("most memory held", "–", f"{np.median(memory):,.0f} MB", f"{memory.max():,.0f} MB")
        )
    return rows


def slowest(campaign: Campaign) -> list[dict[str, Any]]:
    """The sub-tiles that took longest."""
    rows = campaign.measured.to_pylist()
    found = []
    for place in _largest(campaign.seconds("TOTAL_S"), N_SLOWEST):
        row = rows[place]
        numbers = [f"{row[name]:,.1f}" for name in TIMES]
        memory = f"{row['PEAK_RSS_MB']:,.0f}"
        where = f"{row['HOST']}, {row['DEVICE']}"
        cells = [*numbers, memory, where]
        found.append({"stem": campaign.subtiles[place].stem, "cells": cells})
    return found


def failures(campaign: Campaign, beside: Beside) -> list[dict[str, Any]]:
    """The sub-tiles without converged shear by class, each class with what to do and some logs."""
    groups: dict[str, list[Any]] = {}
    for row in campaign.catalogue.failures.to_pylist():
        subtile = SubTile(*(row[key] for key in KEY))
        told = row["CLASS"], row["MESSAGE"]
        groups.setdefault(row["CLASS"], []).append((subtile, told))
    for subtile in campaign.unaccounted:
        groups.setdefault("neither in the catalogue nor among its failures", []).append(
            (subtile, None)
        )
    for subtile, status in zip(campaign.subtiles, campaign.status, strict=True):
        if status in (Status.NOT_CONVERGED, Status.FAILED, Status.NOT_ATTEMPTED):
            told = status.name.replace("_", " ").lower(), status.meaning
            groups.setdefault(told[0], []).append((subtile, told))
    found = []
    for what, members in sorted(groups.items(), key=lambda group: -len(group[1])):
        shown: list[Failure] = [failure_of(s, beside, told) for s, told in members[:MOST_FAILURES]]
        found.append(
            {"what": what, "count": len(members), "advice": _advice(what, shown), "shown": shown}
        )
    return found


def flag_name(flag: SubtileFlag) -> str:
    """A flag in words."""
    return str(flag.name).replace("_", " ").lower()


def _advice(what: str, shown: list[Failure]) -> str:
    if what == "not converged":
        return "the result is there and flagged: look at its panels and at the curves of its solver"
    return shown[0].advice


def origins(campaign: Campaign) -> list[tuple[str, list[tuple[str, int]]]]:
    """What rows depend on: each description, and its values with the number of sub-tiles."""
    found = []
    for field in ORIGIN:
        if field.name != "PACKAGE_VERSIONS":
            values = Counter(str(value) for value in campaign.shear[field.name].to_pylist())
            text = field.metadata[b"description"].decode()
            found.append((text[0].upper() + text[1:], values.most_common()))
    return found


def versions(campaign: Campaign) -> dict[str, str]:
    """Versions of the packages by name; several of one package are joined."""
    found: dict[str, set[str]] = {}
    for text in set(campaign.shear["PACKAGE_VERSIONS"].to_pylist()):
        for name, version in json.loads(text).items():
            found.setdefault(name, set()).add(str(version))
    return {name: ", ".join(sorted(found[name])) for name in sorted(found)}


def files(campaign: Campaign, dvc_lock: Path | None) -> list[tuple[str, str]]:
    """SHA-256 of the files that pin what is reported on."""
    paths = [campaign.catalogue.folder / name for name in ("shear.parquet", "files.parquet")]
    named = [(f"catalogue/{path.name}", path) for path in paths]
    if dvc_lock is not None:
        named.append((dvc_lock.name, dvc_lock))
    return [(name, hashlib.sha256(path.read_bytes()).hexdigest()) for name, path in named]


def settings_text(settings: Mapping[str, Any]) -> str:
    """The configuration as YAML."""
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)


def _largest(values: Floats, n: int) -> list[int]:
    order = np.argsort(-np.where(np.isfinite(values), values, -np.inf), kind="stable")
    return [int(place) for place in order[:n] if np.isfinite(values[place])]


def _known(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _mean(values: Floats) -> float:
    known = _known(values)
    return float(known.mean()) if len(known) else float("nan")


def _pm(value: float, error: float) -> str:
    return f"{signed(value, 4)} ± {plain(error, '.4f')}" if np.isfinite(value) else "–"


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    shown = plain(value, ".4g")
    return shown if error is None else f"{shown} ± {plain(error, '.2g')}"
