# The catalogue against the truth, as a table and a figure; and what the runs took, apart from it
# because it differs from run to run.


rule summary:
    input:
        **CATALOGUE,
        panels=lambda wildcards: RUN.subtile(PLAN.middle, ".png"),
        truth=local(RUN.truth) if RUN.truth else [],
    output:
        table=RESULTS / "summary" / "summary.txt",
        figure=report(
            RESULTS / "summary" / "summary.png",
            caption="../report/summary.rst",
            category="Summary",
        ),
    log:
        LOGS / "summary.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.summary_plots"),
        catalogue=lambda wildcards, input: Path(input.receipt).with_suffix(""),
        truth=lambda wildcards, input: ["--truth", input.truth] if input.truth else [],
    message:
        "Comparing the catalogue with the truth"
    shell:
        "constellation summary --catalogue {params.catalogue:q}"
        " {params.truth:q} --panels {input.panels:q}"
        " --table {output.table:q} --figure {output.figure:q} > {log:q} 2>&1"


rule measurements:
    input:
        records=lambda wildcards: RUN.records(),
        benchmarks=lambda wildcards: RUN.benchmarks(),
    output:
        RESULTS / "measurements.parquet",
    log:
        LOGS / "measurements.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.measurements"),
        tiling=TILING,
        runs=lambda wildcards, input: Path(input.records[0]).parents[1],
        benchmarks=lambda wildcards, input: Path(input.benchmarks[0]).parents[1],
    message:
        "Collecting the sub-tiles' times and memory"
    shell:
        "constellation measurements --tiling {params.tiling:q} --runs {params.runs:q}"
        " --benchmarks {params.benchmarks:q} --output {output:q} > {log:q} 2>&1"
