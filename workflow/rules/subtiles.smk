# The shear of one sub-tile: all the inference happens here.


rule subtile:
    input:
        manifest=RUN.pattern("manifests", RUN.manifest_suffix),
        config=rules.shine_config.output,
    output:
        shear=RUN.pattern("subtiles", ".parquet"),
        sources=RUN.pattern("subtiles", "_sources.parquet"),
        record=RUN.pattern("runs", ".run.json"),
        panels=RUN.pattern("subtiles", ".png"),
    log:
        LOGS / "subtiles" / "{tile}" / "{tile}_{row}_{col}.log",
    benchmark:
        RUN.pattern("benchmarks", ".tsv")
    conda:
        "../../environment.yml"
    threads: COMPUTE.threads
    resources:
        **RUN.subtile_resources,
        mem_mb=lambda wildcards, attempt: attempt * COMPUTE.mem_mb,
        runtime=lambda wildcards, attempt: attempt * COMPUTE.runtime_minutes,
    params:
        # a change of shine's code makes the sub-tiles run again; comments do not count
        code=code_digest(),
        commit=git_commit(),  # is in the results; changed alone, it costs no inference
        # Snakemake deletes a job's outputs before it starts. shine keeps its results here, and
        # leaves them as they are if nothing that they depend on has changed.
        kept=f"{RESULTS}/kept/{{tile}}",
        jax_cache=str(RUN.jax_cache),
        gpu_fraction=COMPUTE.gpu_memory_fraction,
        device=RUN.device_flags,
    message:
        "Inferring the shear of sub-tile {wildcards.tile}_{wildcards.row}_{wildcards.col}"
    shell:
        """
        log={log:q}
        # whatever ends the job, its last word tells `constellation.outcome` the class of the error
        trap 'status=$?; [ $status -eq 0 ] || echo "exit status $status" >>"$log"' EXIT
        export NPROC={threads} JAX_COMPILATION_CACHE_DIR={params.jax_cache:q}
        export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
        # no false alarm in the log for each program from the cache (openxla/xla 44565); what XLA
        # cannot do is raised. Whatever it was: jax itself sets it where it is imported, and whoever
        # starts Snakemake from there hands it on
        export TF_CPP_MIN_LOG_LEVEL=3
        export XLA_PYTHON_CLIENT_MEM_FRACTION={params.gpu_fraction}
        # 4 is no failure: not converged, and the result says so.
        # One process serves the sub-tiles of this Snakemake, which is the parent of this shell.
        python -m shine.euclid.run --manifest {input.manifest:q} --config {input.config:q} \
            --output {params.kept:q} --keep-alive $PPID {params.device} --verbose >"$log" 2>&1 \
            || {{ status=$?; [ $status -eq 4 ] || exit $status; }}
        # the table of the shear is what others ask for: it comes last, when all else is there
        for file in {output.sources:q} {output.record:q} {output.panels:q} {output.shear:q}; do
            ln -f {params.kept:q}/"$(basename "$file")" "$file" 2>>"$log"
        done
        """
