# A survey simulated with GalSim, in Euclid's own format, for those without access to the archive.


rule mock_survey:
    input:
        RUN.config.data.mock_survey,
    output:
        RUN.survey.exposures,
        RUN.survey.mer_files,
        RUN.survey.truth,
    log:
        LOGS / "mock_survey.log",
    benchmark:
        RESULTS / "benchmarks" / "mock_survey.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    params:
        code=lambda wildcards: code_of("constellation.mock_survey.cli"),
        survey=lambda wildcards: str(RUN.config.data.survey),
    message:
        "Simulating the survey {params.survey}"
    shell:
        "constellation mock-survey --config {input:q} --output {params.survey:q}"
        " --workers {threads} > {log:q} 2>&1"
