# The catalogue against the truth, as a table and a figure.

# the sub-tile whose pixels the figure shows
SHOWN = PLAN.subtiles[len(PLAN.subtiles) // 2]


rule summary:
    input:
        shear=rules.merged_catalogue.output.shear,
        sources=rules.merged_catalogue.output.sources,
        records=RUN.subtiles(".run.json"),
        panels=RUN.subtile(SHOWN, ".png"),
        truth=SURVEY.truth or [],
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
        runs=lambda wildcards, input: Path(input.records[0]).parents[1],
        truth=lambda wildcards, input: ["--truth", input.truth] if input.truth else [],
    message:
        "Comparing the catalogue with the truth"
    shell:
        "constellation summary --shear {input.shear:q} --sources {input.sources:q}"
        " {params.truth:q} --runs {params.runs:q} --panels {input.panels:q}"
        " --table {output.table:q} --figure {output.figure:q} > {log:q} 2>&1"
