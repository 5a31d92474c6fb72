# Sub-tiles to tiles to one catalogue, each sub-tile exactly once.


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
        logs=lambda wildcards: LOGS / "subtiles" / wildcards.tile,
    message:
        "Assembling tile {wildcards.tile}"
    shell:
        "constellation assemble --tiling {params.tiling:q} --tile {wildcards.tile}"
        " --input {params.subtiles:q} --logs {params.logs:q} --output {params.folder:q}"
        " > {log:q} 2>&1"


rule merged_catalogue:
    input:
        [
            RESULTS / "tiles" / f"{tile}{suffix}"
            for tile in PLAN.by_tile
            for suffix in (".parquet", "_sources.parquet")
        ],
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
