# The shear of one sub-tile: all the inference happens here.


rule subtile:
    input:
        manifest=RESULTS / "manifests" / "{tile}" / "{tile}_{row}_{col}.yaml",
        config=rules.shine_config.output,
    output:
        shear=RUN.subtile_pattern(".parquet"),
        sources=RUN.subtile_pattern("_sources.parquet"),
        record=RUN.subtile_pattern(".run.json"),
        panels=RUN.subtile_pattern(".png"),
    log:
        LOGS / "subtiles" / "{tile}" / "{tile}_{row}_{col}.log",
    benchmark:
        RESULTS / "benchmarks" / "subtiles" / "{tile}_{row}_{col}.tsv"
    conda:
        "../../environment.yml"
    threads: COMPUTE.threads
    resources:
        mem_mb=COMPUTE.mem_mb,
        runtime=COMPUTE.runtime_minutes,
    params:
        # Snakemake deletes a job's outputs before it starts. shine keeps its results here, and
        # leaves them as they are if nothing that they depend on has changed.
        kept=lambda wildcards: RESULTS / "kept" / wildcards.tile,
        jax_cache=str(RUN.jax_cache),
    message:
        "Inferring the shear of sub-tile {wildcards.tile}_{wildcards.row}_{wildcards.col}"
    shell:
        """
        log={log:q}
        # whatever ends the job, its last word tells `constellation.failures` the class of the error
        trap 'status=$?; [ $status -eq 0 ] || echo "exit status $status" >>"$log"' EXIT
        export NPROC={threads} JAX_COMPILATION_CACHE_DIR={params.jax_cache:q}
        export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
        # 4 is no failure: not converged, and the result says so
        python -m shine.euclid.run --manifest {input.manifest:q} --config {input.config:q} \
            --output {params.kept:q} --verbose >"$log" 2>&1 \
            || {{ status=$?; [ $status -eq 4 ] || exit $status; }}
        for file in {output:q}; do
            ln -f {params.kept:q}/"$(basename "$file")" "$file" 2>>"$log"
        done
        """
