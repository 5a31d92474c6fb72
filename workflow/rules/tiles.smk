# Sub-tiles to tiles, each sub-tile exactly once.


rule tile_catalogue:
    input:
        lambda wildcards: RUN.subtiles(".parquet", int(wildcards.tile)),
        lambda wildcards: RUN.subtiles("_sources.parquet", int(wildcards.tile)),
    output:
        shear=RESULTS / "tiles" / "{tile}.parquet",
        sources=RESULTS / "tiles" / "{tile}_sources.parquet",
    log:
        LOGS / "tiles" / "{tile}.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.catalog_assembler"),
        tiling=TILING,
        folder=lambda wildcards, output: Path(output.shear).parent,
        subtiles=lambda wildcards, input: Path(input[0]).parent,
        logs=f"{LOGS}/subtiles/{{tile}}",
    message:
        "Assembling tile {wildcards.tile}"
    shell:
        "constellation assemble --tiling {params.tiling:q} --tile {wildcards.tile}"
        " --input {params.subtiles:q} --logs {params.logs:q} --output {params.folder:q}"
        " > {log:q} 2>&1"
