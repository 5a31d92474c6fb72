# Where on the sky each detector quadrant lies: one row per quadrant, from the headers alone.


rule quadrant_index:
    input:
        lambda wildcards: RUN.survey.exposures,
    output:
        INDEX,
    log:
        LOGS / "quadrant_index.log",
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.discovery"),
        survey=lambda wildcards: str(RUN.config.data.survey),
        kinds=list(RUN.config.data.exposure_kinds),
        # a survey in S3 is no input: Snakemake would ask for each object by itself
        version=lambda wildcards: RUN.exposure_digest(),
        # Snakemake deletes a job's outputs before it starts: what was read of each exposure stays
        kept=RESULTS / "kept" / "index",
    message:
        "Indexing the quadrants of {params.survey}"
    shell:
        "constellation index --survey {params.survey:q} --kinds {params.kinds}"
        " --kept {params.kept:q} --output {output:q} > {log:q} 2>&1"
