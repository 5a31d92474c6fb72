# A campaign that measures the shear's biases: one job for each block of a case, then the report.
# snakemake --snakefile workflow/validation.smk --config campaign=config/validation_smoke.yaml
# Blocks that are there are not measured again, unless the code or the campaign's images changed.
import hashlib
import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from constellation.code_digests import code_of
from constellation.validation.campaign import load_campaign
from constellation.validation.cosmos_sample import FILES
from shine.errors import ShineError
from shine.provenance import code_digest

min_version("9.0")

if "campaign" not in config:
    raise WorkflowError(
        "no campaign: add --config campaign=config/validation_smoke.yaml"
    )
CAMPAIGN = Path(config["campaign"])
try:
    CASES = load_campaign(CAMPAIGN)
except ShineError as error:
    raise WorkflowError(str(error)) from None

RESULTS = Path("build") / "validation" / CAMPAIGN.stem
# a campaign may name another folder, which it then fills itself
SAMPLE = Path("build") / "validation" / "cosmos"
TARGETS = {
    "validation_smoke": "make validate",
    "validation": "make validate-full",
    "validation_more": "make validate-more",
}
TARGET = TARGETS.get(
    CAMPAIGN.stem, f"snakemake -s workflow/validation.smk --config campaign={CAMPAIGN}"
)

# Other codes are asked where a case names them and all of them are installed.
ASKED = [case for case in CASES.cases if case.peers and all(map(find_spec, case.peers))]

MORE_FIGURES = [RESULTS / f"{case.name}.png" for case in CASES.cases if case.coverage]
if any(case.compared_with or case.halves for case in CASES.cases):
    MORE_FIGURES.append(RESULTS / "differences.png")

# so that jobs find the programs that belong to this very Python, activated or not
shell.prefix(f"export PATH={Path(sys.executable).parent}:$PATH; ")


wildcard_constraints:
    case=r"[a-z0-9_]+",
    block=r"\d+",


def meaning(case):
    """What a block's result depends on, but for its number."""
    known = [CASES.seed, case.of_a_block(), CASES.settings(case)]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def drawing(case):
    """The code that draws a block's images and asks about them."""
    kind = "grids"
    if case.field is not None:
        kind = "fields"
    elif sample_of(case):
        kind = "reals"
    return code_of(f"constellation.validation.{kind}")


def sample_of(case):
    """The files of a case's real galaxies, if it has any."""
    folder = case.scene.galaxies.sample
    return [] if folder is None else [folder / name for name in FILES]


def peer_meaning(wildcards):
    """What other codes' answers depend on, but for the block's number: nothing of shine's."""
    case = CASES.case(wildcards.case)
    known = [CASES.seed, case.scene.model_dump(mode="json"), case.peers]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def peer_code(wildcards):
    """The code that asks other codes, and their versions."""
    asked = CASES.case(wildcards.case).peers
    # run.py imports the others by names that are made up as it runs
    modules = ["run"] + [f"with_{name}" for name in asked]
    parts = [code_of(f"constellation.validation.peers.{name}") for name in modules]
    return parts + [version(name) for name in asked]


# apart from the report, which Snakemake would remove with a job that failed
rule limits:
    default_target: True
    input:
        RESULTS / "validation.json",
    log:
        RESULTS / "logs" / "limits.log",
    conda:
        "../environment.yml"
    message:
        "Comparing the biases with their limits"
    shell:
        "constellation validation-limits --json {input:q} 2>&1 | tee {log:q}"


rule report:
    input:
        blocks=[
            RESULTS / "blocks" / case.name / f"{block}.parquet"
            for case in CASES.cases
            for block in range(case.blocks)
        ],
        peers=[
            RESULTS / "peers" / case.name / f"{block}.parquet"
            for case in ASKED
            for block in range(case.peer_blocks)
        ],
        campaign=CAMPAIGN,
    output:
        json=RESULTS / "validation.json",
        markdown=RESULTS / "validation.md",
        figure=RESULTS / "validation.png",
        more=MORE_FIGURES,
    log:
        RESULTS / "logs" / "report.log",
    conda:
        "../environment.yml"
    params:
        blocks=RESULTS / "blocks",
        code=[
            code_of(f"constellation.validation.{name}")
            for name in ("report", "side_by_side")
        ],
        target=TARGET,
        folder=RESULTS,
    message:
        "Reporting the biases"
    shell:
        "constellation validation-report --campaign {input.campaign:q} --blocks {params.blocks:q}"
        " --peers {input.peers:q}"
        " --command {params.target:q} --output {params.folder:q} 2>&1 | tee {log:q}"


rule sample:
    output:
        [SAMPLE / name for name in FILES],
    log:
        RESULTS / "logs" / "sample.log",
    priority: 10  # or what waits for it begins last
    conda:
        "../environment.yml"
    params:
        folder=SAMPLE,
    message:
        "Fetching galaxies that Hubble saw"
    shell:
        "constellation validation-sample --output {params.folder:q} >{log:q} 2>&1"


for case in CASES.cases:
    for part in case.parts():

        rule:
            name:
                f"block_{case.name}_{part[0]}"
            input:
                sample_of(case),
            output:
                [RESULTS / "blocks" / case.name / f"{block}.parquet" for block in part],
            log:
                RESULTS / "logs" / case.name / f"{part[0]}.log",
            # what takes longest first: no core shall wait for it at the end
            priority: len(part) + (case.field is not None)
            conda:
                "../environment.yml"
            threads: 1
            resources:
                mem_mb=4000,
            params:
                meaning=meaning(case),
                code=code_digest(),
                drawing=drawing(case),
                campaign=CAMPAIGN,
                case=case.name,
                blocks=part,
                jax_cache=RESULTS / "jax_cache",
            message:
                f"Measuring {case.name}, block{'s' if len(part) > 1 else ''} {', '.join(map(str, part))}"
            shell:
                # every job has a core to itself: NPROC is that of XLA and of shine
                """
                export NPROC={threads} JAX_COMPILATION_CACHE_DIR=${{JAX_COMPILATION_CACHE_DIR:-{params.jax_cache:q}}}
                export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
                constellation validation-block --campaign {params.campaign:q} --case {params.case} \
                    --block {params.blocks} --output {output:q} >{log:q} 2>&1
                """


rule peers:
    output:
        RESULTS / "peers" / "{case}" / "{block}.parquet",
    log:
        RESULTS / "logs" / "peers" / "{case}" / "{block}.log",
    priority: 10  # they take longest
    conda:
        "../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        meaning=peer_meaning,
        code=peer_code,
        campaign=CAMPAIGN,
    message:
        "Asking other codes about block {wildcards.block} of {wildcards.case}"
    shell:
        """
        export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
        constellation validation-peers --campaign {params.campaign:q} --case {wildcards.case} \
            --block {wildcards.block} --output {output:q} >{log:q} 2>&1
        """
