# Where on the sky each detector quadrant lies: one row per quadrant, from the headers alone.


rule quadrant_index:
    input:
        SURVEY.exposures,
    output:
        RESULTS / "index" / "quadrants.parquet",
    log:
        LOGS / "quadrant_index.log",
    conda:
        "../../environment.yml"
    params:
        survey=lambda wildcards: str(RUN.config.data.survey),
        kinds=list(RUN.config.data.exposure_kinds),
    message:
        "Indexing the quadrants of {params.survey}"
    shell:
        "constellation index --survey {params.survey:q} --kinds {params.kinds}"
        " --output {output:q} > {log:q} 2>&1"
