# Tiles to one catalogue, each sub-tile exactly once.

# a receipt is worth nothing when somebody has removed the catalogue
if "folder" not in CATALOGUE and workflow.is_main_process:
    if not (RESULTS / "catalogue" / "files.parquet").exists():
        CATALOGUE["receipt"].unlink(missing_ok=True)


rule merged_catalogue:
    input:
        lambda wildcards: RUN.tile_catalogues(),
    output:
        **PUBLISHED,
    log:
        LOGS / "merged_catalogue.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.catalogue.publish"),
        tiling=TILING,
        tiles=lambda wildcards, input: Path(input[0]).parent,
        logs=LOGS / "subtiles",
        folder=lambda wildcards, output: Path(output.receipt).with_suffix(""),
    message:
        "Publishing the catalogue of all tiles"
    shell:
        "constellation merge-tiles --tiling {params.tiling:q} --tiles {params.tiles:q}"
        " --logs {params.logs:q} --receipt {output.receipt:q} --output {params.folder:q}"
        " > {log:q} 2>&1"
