# The campaign for people: one HTML page, which needs no network and no server.


rule report:
    input:
        **CATALOGUE,
        checks=RESULTS / "quality" / "checks.parquet",
        measurements=RESULTS / "measurements.parquet",
        records=lambda wildcards: RUN.records(),
        panels=lambda wildcards: RUN.subtiles(".png"),
        truth=local(RUN.truth) if RUN.truth else [],
    output:
        page=report(
            RESULTS / "report" / "report.html",
            caption="../report/report.rst",
            category="Report",
        ),
        # the charts as SVG and, of a large campaign, thumbnails
        files=directory(RESULTS / "report" / "report_files"),
    log:
        LOGS / "report.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.report.page"),
        assets=assets_digest(),
        # where the survey is read from, and what jobs ask for, makes no other page
        settings=RUN.config.model_dump_json(
            exclude={"data": {"s3"}, "compute": True, "iceberg": True},
            exclude_none=True,
            exclude_unset=True,
        ),
        # in a store, the copies that Snakemake has fetched
        results=lambda wildcards, input: Path(input.measurements).parent,
        # it speaks of the demo as it is configured
        lock=(
            ["--dvc-lock", "dvc.lock"]
            if Path("dvc.lock").exists() and not workflow.overwrite_configfiles
            else []
        ),
    message:
        "Making the report {output.page}"
    shell:
        "constellation report --config {params.settings:q} --results {params.results:q}"
        " {params.lock:q} --output {output.page:q} > {log:q} 2>&1"
