"""The benchmark's figures for people: a table and a picture."""

from pathlib import Path

_PHASES = {"load_s": "load", "compile_s": "compile", "solve_s": "solve", "rest_s": "write, plot"}


def table(found: dict) -> str:
    """The figures, with the targets beside those that have one."""
    survey, gradient, classic = found["survey"], found["gradient"], found["classic"]
    bounds = gradient["limits"]
    scaling = found["scaling"]
    reached = ", ".join(f"{name} {value:.2f}" for name, value in bounds["fraction"].items())
    lines = [
        "",
        f"sub-tile {survey['sub_tile']}: {survey['sources']} sources ({survey['modelled']} "
        f"modelled), {survey['quadrants']} quadrants, {survey['pairs']} pairs; "
        f"{found['machine']['cores']} cores, load {found['machine']['load_average']} beforehand",
        "",
        f"{'':22}{'load':>8}{'compile':>9}{'solve':>8}{'total':>8}{'per source':>12}"
        f"{'peak RSS':>11}",
    ]
    lines += [
        f"{_label(run):22}{run['load_s']:6.1f} s{run['compile_s']:7.1f} s{run['solve_s']:6.1f} s"
        f"{run['total_s']:6.1f} s{run['per_source_ms']:9.2f} ms{run['peak_rss_mb'] / 1e3:8.2f} GB"
        f"{'' if run['converged'] else '  NOT CONVERGED'}"
        for run in found["runs"]
    ]
    lines.append(
        f"{'target':22}{'<= 15 s':>8}{'<= 5 s':>9}  (warm)   map <= 15 s, marginal <= 30 s"
        "       < 6 GB"
    )
    lines.append("")
    lines += [
        f"load, plain files, {psf}: {loading['gigabytes']:.1f} GB in {loading['load_s']:.1f} s, "
        f"{loading['fraction_of_disk_rate']:.0%} of the disk's rate "
        f"({loading['disk_gigabytes_per_s']:.2f} GB/s); peak {loading['peak_mb'] / 1e3:.2f} GB, "
        f"{loading['peak_over_kept']:.1f} times what is kept (targets: 15 s, 2.5)"
        for psf, loading in found["loading"].items()
    ]
    for axis in ("sources", "quadrants"):
        lines.append("")
        lines += [
            f"{point['sources']:6d} sources, {point['quadrants']:3d} quadrants: load "
            f"{point['load_s']:5.1f} s, compile {point['compile_s']:4.1f} s, solve "
            f"{point['solve_s']:5.1f} s  ({scaling['method']}, {scaling['psf']})"
            for point in scaling[axis]
        ]
    if max(scaling["asked_sources"]) > scaling["largest_sources"]:
        lines.append(
            f"       {max(scaling['asked_sources'])} sources: not measured; the survey has "
            f"{scaling['largest_sources']}, all in the last line of each"
        )
    lines += [
        "",
        f"one gradient   {gradient['pairs']} pairs in {gradient['seconds']:.2f} s: "
        f"{gradient['us_per_pair']:.1f} us per pair",
        f"this machine   {bounds['fft_stamps_per_s']:.3g} inverse FFTs of {bounds['fft_stamp_px']} "
        f"px per second; copies {bounds['memory_bytes_per_s'] / 1e9:.1f} GB/s from memory, "
        f"{bounds['cache_bytes_per_s'] / 1e9:.1f} GB/s in cache",
        *(
            f"               {tier['stamp_px']:3d} px: {tier['flop'] / 1e6:.2f} Mflop, "
            f"{tier['bytes'] / 1e6:.2f} MB per pair of an isolated source (XLA's cost analysis)"
            for tier in bounds["cost_per_pair"]
        ),
        f"limit reached  {reached} ({bounds['ffts_per_pair']} FFTs per pair; isolated sources)",
        "",
        f"classic route  {classic['gradient_us_per_pair']:.0f} us per gradient and pair "
        f"({classic['pairs']} pairs), ours on the same pairs {classic['ours_us_per_same_pair']:.1f}"
        f" us: {classic['ratio_per_same_pair']:.0f} times",
        f"               whole fit {classic['extrapolated_s']:.3g} s, EXTRAPOLATED: "
        f"{classic['extrapolation']}",
        f"               (overlapping pairs alone: {classic['overlapping_pairs_s']:.3g} s)",
        "               over our compile + solve, warm (target for map >= 500): "
        + ", ".join(f"{name} {ratio:.0f}" for name, ratio in classic["ratio"].items()),
    ]
    return "\n".join(lines)


def draw(found: dict, path: Path) -> None:
    """Time by phase, its scaling, and the classic route beside ours, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.0, 8.0), layout="constrained")
    (phases, classic), scaling = figure.subplots(2, 2)
    _draw_phases(phases, found["runs"])
    _draw_classic(classic, found)
    for axis, name in zip(scaling, ("sources", "quadrants"), strict=True):
        _draw_scaling(axis, found["scaling"], name)
    survey, machine = found["survey"], found["machine"]
    figure.suptitle(
        f"sub-tile {survey['sub_tile']}: {survey['sources']} sources, {survey['quadrants']} "
        f"quadrants; {machine['device']}, {machine['cores']} cores"
    )
    figure.savefig(path, dpi=130)


def _label(run: dict) -> str:
    return f"{run['method']} {run['psf']}, {run['cache']}"


def _draw_phases(axis, runs: list[dict]) -> None:
    labels = [_label(run) for run in runs]
    left = [0.0] * len(runs)
    for key, name in _PHASES.items():
        widths = [_rest(run) if key == "rest_s" else run[key] for run in runs]
        axis.barh(labels, widths, left=left, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axis.invert_yaxis()
    axis.set(xlabel="time [s]", title="one sub-tile, by phase (cache of compiled programs)")
    axis.legend(loc="upper right")


def _rest(run: dict) -> float:
    return run["total_s"] - run["load_s"] - run["compile_s"] - run["solve_s"]


def _draw_scaling(axis, scaling: dict, name: str) -> None:
    points = sorted(scaling[name], key=lambda point: point[name])
    numbers = [point[name] for point in points]
    for key in ("load_s", "compile_s", "solve_s", "total_s"):
        label = _PHASES.get(key, "total")
        axis.plot(numbers, [point[key] for point in points], "o-", label=label)
    other = "quadrants" if name == "sources" else "sources"
    axis.set(
        xlabel=f"number of {name}",
        ylabel="time [s]",
        title=f"{scaling['method']}, {scaling['psf']}, {points[-1][other]} {other}",
        xlim=(0, None),
        ylim=(0, None),
    )
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left")


def _draw_classic(axis, found: dict) -> None:
    classic = found["classic"]
    runs = [run for run in found["runs"] if run["cache"] == "warm"]
    bars = {"classic route\n(extrapolated)": classic["extrapolated_s"]}
    bars["classic, overlapping\npairs (extrapolated)"] = classic["overlapping_pairs_s"]
    bars |= {f"{run['method']} {run['psf']}": run["compile_s"] + run["solve_s"] for run in runs}
    drawn = axis.barh(list(bars), list(bars.values()), color=["0.5"] * 2 + ["C2"] * len(runs))
    texts = [f"{seconds:.3g} s" for seconds in bars.values()]
    for i, run in enumerate(runs):
        ratio = classic["ratio"][f"{run['method']} {run['psf']}"]
        texts[2 + i] += f" ({ratio:.0f} times less)"
    axis.bar_label(drawn, texts, padding=4)
    axis.set_xscale("log")
    axis.set_xlim(0.3 * min(bars.values()), 30.0 * max(bars.values()))
    axis.invert_yaxis()
    axis.set(xlabel="compile + solve [s]", title="against the classic route, without reading files")
