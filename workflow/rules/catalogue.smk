# Tiles to one catalogue, each sub-tile exactly once.


rule merged_catalogue:
    input:
        lambda wildcards: RUN.tile_catalogues(),
    output:
        shear=RESULTS / "catalogue" / "shear.parquet",
        sources=RESULTS / "catalogue" / "shear_sources.parquet",
    log:
        LOGS / "merged_catalogue.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.catalog_assembler"),
        tiling=TILING,
        folder=lambda wildcards, output: Path(output.shear).parent,
        tiles=lambda wildcards, input: Path(input[0]).parent,
    message:
        "Merging the tiles into one catalogue"
    shell:
        "constellation assemble --tiling {params.tiling:q} --input {params.tiles:q}"
        " --output {params.folder:q} > {log:q} 2>&1"
