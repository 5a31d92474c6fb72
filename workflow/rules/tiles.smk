# Sub-tiles to tiles, each sub-tile exactly once: one job for all of them, which makes anew those whose
# sub-tiles have changed.

# No job of a sub-tile makes tiles, and the list of 60,000 would cost each of them a second.
if workflow.is_main_process:

    rule tiles:
        input:
            lambda wildcards: RUN.subtiles(".parquet"),
            lambda wildcards: RUN.subtiles("_sources.parquet"),
        output:
            RUN.tile_catalogues(),
        log:
            LOGS / "tiles.log"
            if RUN.is_whole
            else LOGS / "tiles" / f"{RUN.shard.number}.log",
        localrule: True
        conda:
            "../../environment.yml"
        threads: 2
        params:
            code=lambda wildcards: code_of("constellation.catalogue.kept_tiles"),
            tiling=TILING,
            tiles=RUN.tiles_digest,
            shard=["--shard", str(RUN.shard)] if RUN.shard else [],
            subtiles=lambda wildcards, input: Path(input[0]).parents[1],
            logs=LOGS / "subtiles",
            # Snakemake deletes a job's outputs before it starts: what was made of results that
            # have not changed stays
            kept=RESULTS / "kept" / "tiles",
            folder=lambda wildcards, output: Path(output[0]).parent,
        message:
            "Assembling the tiles"
        shell:
            "constellation assemble-tiles --tiling {params.tiling:q} {params.shard:q}"
            " --subtiles {params.subtiles:q} --logs {params.logs:q} --kept {params.kept:q}"
            " --processes {threads} --output {params.folder:q} > {log:q} 2>&1"
