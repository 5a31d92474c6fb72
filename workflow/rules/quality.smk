# Is the catalogue what it should be? The checks themselves never fail: Snakemake deletes the outputs
# of a failed job, and a catalogue that fails is to be looked at. The gate behind them does.


rule quality:
    input:
        **CATALOGUE,
        truth=local(RUN.truth) if RUN.truth else [],
    output:
        checks=RESULTS / "quality" / "checks.parquet",
        table=RESULTS / "quality" / "checks.txt",
        figure=report(
            RESULTS / "quality" / "quality.png",
            caption="../report/quality.rst",
            category="Quality",
        ),
    log:
        LOGS / "quality.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.quality.plots"),
        tiling=TILING,
        settings=RUN.config.quality.model_dump_json(),
        # replaced as a whole, and so no output of a rule
        catalogue=lambda wildcards, input: Path(input.receipt).with_suffix(""),
        truth=lambda wildcards, input: ["--truth", input.truth] if input.truth else [],
        folder=lambda wildcards, output: Path(output.checks).parent,
    message:
        "Checking the quality of the catalogue"
    shell:
        "constellation quality --tiling {params.tiling:q} --catalogue {params.catalogue:q}"
        " --settings {params.settings:q} {params.truth:q} --output {params.folder:q}"
        " > {log:q} 2>&1"


rule quality_gate:
    input:
        rules.quality.output.checks,
    output:
        RESULTS / "quality" / "passed",
    log:
        LOGS / "quality_gate.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.quality.report"),
        settings=RUN.config.quality.model_dump_json(),
    message:
        "Looking at what the quality checks found"
    shell:
        "constellation quality-gate --checks {input:q} --settings {params.settings:q}"
        " --output {output:q} > {log:q} 2>&1"
