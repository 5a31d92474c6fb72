# The catalogue to Iceberg tables. Only with a section `iceberg` in the configuration.


rule publish:
    input:
        **CATALOGUE,
    output:
        ICEBERG,
    log:
        LOGS / "publish.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.lakehouse.publication"),
        config=RUN.config.model_dump_json(
            include={"tiling", "data", "output", "iceberg"},
            exclude_none=True,
            exclude_unset=True,
        ),
    message:
        "Publishing the catalogue to Iceberg tables"
    shell:
        "constellation publish --config {params.config:q} > {output:q} 2> {log:q}"
