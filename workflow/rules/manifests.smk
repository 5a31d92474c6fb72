# What each sub-tile consists of: its quadrants and its core and extended sources.
# shine's own settings go into a file of their own, so that nothing else in the configuration
# makes a sub-tile run again.


rule shine_config:
    output:
        RESULTS / "shine.yaml",
    log:
        LOGS / "shine_config.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: code_of("constellation.config"),
        sections=json.dumps(
            {key: config.get(key) or {} for key in ("inference", "gal")}
        ),
    message:
        "Writing the settings of shine"
    shell:
        "constellation shine-config --sections {params.sections:q} --output {output:q}"
        " > {log:q} 2>&1"


# One rule for all tiles with the same planned cells: a single one, but for a survey cut to an area.
# (A pattern of 60,000 tiles would take longer to read than the rest of this file.)
for cells, tiles in PLAN.cell_sets.items():

    rule:
        name:
            "manifests" if len(PLAN.cell_sets) == 1 else f"manifests_{tiles[0]}"
        input:
            index=INDEX,
            mer=lambda wildcards: RUN.local_mer_files(int(wildcards.tile)),
        output:
            [
                RESULTS
                / "manifests"
                / "{tile}"
                / f"{{tile}}_{row}_{col}{RUN.manifest_suffix}"
                for row, col in cells
            ],
        log:
            LOGS / "manifests" / "{tile}.log",
        wildcard_constraints:
            tile=(
                r"\d+"
                if len(PLAN.cell_sets) == 1
                else "|".join(str(tile) for tile in tiles)
            ),
        conda:
            "../../environment.yml"
        params:
            code=lambda wildcards: code_of("constellation.manifest"),
            tiling=TILING,
            tiles=RUN.tiles_digest,
            exposures=RUN.exposures,
            left_out=lambda wildcards: RUN.left_out_digest,
            form=RUN.config.output.manifests,
            # a survey in S3 is no input: Snakemake would ask for each object by itself
            mer=lambda wildcards: RUN.mer_options(int(wildcards.tile)),
            version=lambda wildcards: RUN.mer_digest(int(wildcards.tile)),
            folder=lambda wildcards, output: Path(output[0]).parent,
        message:
            "Partitioning tile {wildcards.tile}"
        shell:
            "constellation manifests --tiling {params.tiling:q} --tile {wildcards.tile}"
            " --index {input.index:q} {params.mer:q}"
            " --exposures {params.exposures:q} --form {params.form}"
            " --output {params.folder:q} > {log:q} 2>&1"
