"""Each profile is one that Snakemake and its plugins understand; the image's files fit together."""

from __future__ import annotations

import inspect
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from snakemake.cli import parse_args
from snakemake.iocontainers import InputFiles
from snakemake_executor_plugin_kubernetes import Executor
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from constellation.config import ComputeConfig

ROOT = Path(__file__).parents[1]
PROFILES = sorted(path.parent.name for path in ROOT.glob("profiles/*/config.yaml"))
IMAGE = ROOT / "profiles" / "image"
PLATFORM = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.9",
    "python_version": "3.11",
    "sys_platform": "linux",
}
STANDARD_RESOURCES = {"mem_mb", "disk_mb", "runtime", "tmpdir"}


def read_profile(folder: Path) -> Any:
    """What Snakemake's own parser makes of a profile; a key that it does not know ends it."""
    snakefile = ("--snakefile", str(ROOT / "workflow" / "Snakefile"))
    _, arguments = parse_args(["--profile", str(folder), "--workflow-profile", "none", *snakefile])
    return arguments


@pytest.mark.parametrize("name", PROFILES)
def test_snakemake_and_the_plugin_know_every_key_of_a_profile(name):
    arguments = read_profile(ROOT / "profiles" / name)
    if name == "default":  # it would override the executor of every other profile
        assert arguments.executor is None and arguments.jobs is None
    else:
        plugin = ExecutorPluginRegistry().get_plugin(arguments.executor)
        plugin.validate_settings(plugin.get_settings(arguments))
    assert f"| `{name}` |" in (ROOT / "profiles" / "README.md").read_text()


@pytest.mark.parametrize("name", PROFILES)
def test_resources_of_a_profile_are_for_rules_and_a_plugin_that_exist(name):
    arguments = read_profile(ROOT / "profiles" / name)
    workflow = "".join(path.read_text() for path in ROOT.glob("workflow/rules/*.smk"))
    rules = re.findall(r"^rule (\w+):", workflow, flags=re.MULTILINE)
    assert set(arguments.set_resources) <= set(rules)
    asked = set(arguments.default_resources or {}).union(*arguments.set_resources.values())
    if arguments.executor:
        executor = ExecutorPluginRegistry().get_plugin(arguments.executor).executor
        package = Path(inspect.getfile(executor)).parent
        known = "".join(path.read_text() for path in package.rglob("*.py"))
        assert [name for name in asked - STANDARD_RESOURCES if f'"{name}"' not in known] == []
    else:
        assert not asked


@pytest.mark.parametrize("line", ["jbos: 3", "kubernetes-namespce: x", "storage-s3-regoin: x"])
def test_a_misspelt_key_is_refused(tmp_path, capsys, line):
    text = (ROOT / "profiles" / "kubernetes" / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(f"{text}\n{line}\n")
    with pytest.raises(SystemExit):
        read_profile(tmp_path)
    assert line.partition(":")[0] in capsys.readouterr().err


def test_kubernetes_is_asked_for_a_gpu_with_a_limit():
    """By the plugin's own code, without a cluster: Kubernetes refuses a GPU without a limit."""
    arguments = read_profile(ROOT / "profiles" / "kubernetes")
    resources = resources_of_sub_tile(arguments, attempt=1)
    settings = ExecutorPluginRegistry().get_plugin("kubernetes").get_settings(arguments)
    created = []
    executor = Executor.__new__(Executor)
    executor.__dict__ |= {
        "namespace": settings.namespace,
        "k8s_cpu_scalar": settings.cpu_scalar,
        "k8s_service_account_name": settings.service_account_name,
        "privileged": settings.privileged,
        "persistent_volumes": settings.persistent_volumes,
        "container_image": arguments.container_image,
        "run_namespace": "run",
        "secret_envvars": {},
        "lock": threading.Lock(),
        "logger": logging.getLogger(__name__),
        "workflow": SimpleNamespace(deployment_settings=SimpleNamespace(deployment_method=set())),
        "batchapi": SimpleNamespace(
            create_namespaced_job=lambda namespace, body: created.append((namespace, body))
        ),
        "format_job_exec": lambda job: "command",
        "report_job_submission": lambda job: None,
    }
    job = SimpleNamespace(resources={**resources, "_cores": 4}, jobid=1, attempt=1)
    job.is_containerized = False
    executor.run_job(job)
    [(namespace, body)] = created
    pod = body.spec.template.spec
    [container] = pod.containers
    assert namespace == "shine" and pod.service_account_name == "shine"
    assert container.image == "shine:0.1.0"
    assert container.resources.limits["nvidia.com/gpu"] == "1"
    assert container.resources.limits["memory"] == "8000M"
    assert container.resources.requests["nvidia.com/gpu"] == "1"
    assert not container.security_context


@pytest.mark.parametrize("attempt", [1, 3])
def test_batch_jobs_get_the_memory_and_time_of_the_compute_settings(attempt):
    """The plugin has names of its own for both, so that the profile repeats the defaults."""
    resources = resources_of_sub_tile(read_profile(ROOT / "profiles" / "aws-batch"), attempt)
    compute = ComputeConfig()
    assert resources["aws_batch_mem_mb"] == attempt * compute.mem_mb
    assert resources["aws_batch_task_timeout"] == attempt * compute.runtime_minutes * 60


def test_the_job_definition_runs_a_reclaimed_job_again_and_no_other():
    definition = json.loads((ROOT / "profiles" / "aws-batch" / "job-definition.json").read_text())
    arguments = read_profile(ROOT / "profiles" / "aws-batch")
    assert definition["jobDefinitionName"] == arguments.aws_basic_batch_job_definition
    assert definition["retryStrategy"]["attempts"] > 1
    *_, last = definition["retryStrategy"]["evaluateOnExit"]
    assert last == {"onReason": "*", "action": "EXIT"}  # else Batch retries whatever fits no rule


def test_the_dockerfile_passes_the_linter_without_exception():
    hadolint = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    done = subprocess.run(
        [hadolint, "--no-color", "--disable-ignore-pragma", IMAGE / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_built_from_files_that_exist_and_holds_both_packages(tmp_path):
    """The build's own last step, on nothing but the files that the Dockerfile copies."""
    ignored = (IMAGE / "Dockerfile.dockerignore").read_text().split()
    for line in instructions("COPY"):
        *sources, target = shlex.split(line)
        if sources[0].startswith("--from"):
            continue
        for source in sources:
            assert f"!{source}" in ignored
            copy_to = tmp_path / target if len(sources) == 1 and target != "./" else tmp_path
            if (ROOT / source).is_dir():
                no_cache = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, copy_to, ignore=no_cache)
            else:
                shutil.copy2(ROOT / source, copy_to)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", "wheels", "."]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    [wheel] = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package, source in (("shine", "shine"), ("constellation", "workflow/constellation")):
        modules = [path.relative_to(ROOT / source) for path in (ROOT / source).rglob("*.py")]
        assert {f"{package}/{module.as_posix()}" for module in modules} <= names


def test_the_image_runs_as_a_user_who_owns_the_working_folder():
    [user], [folder] = instructions("USER"), instructions("WORKDIR")[1:]
    assert user == "1000:1000"
    [made] = [line for line in instructions("RUN") if "useradd" in line]
    assert "--uid 1000" in made and f"--owner shine --group shine {folder}" in made


def test_the_image_has_the_versions_of_the_main_lock_and_cuda_and_storage():
    image, main = locked(IMAGE / "requirements.lock"), locked(ROOT / "requirements.lock")
    assert {name: main.get(name, version) for name, version in image.items()} == image
    assert {"jax", "jax-cuda12-plugin", "boto3", "snakemake-storage-plugin-s3"} <= set(image)
    assert "setuptools" in image  # the Dockerfile builds with it
    only_here = set(image) - set(main)
    assert {name for name in only_here if not re.match(r"nvidia-|jax-cuda", name)} == set()


def resources_of_sub_tile(arguments: Any, attempt: int) -> dict[str, Any]:
    """What a profile asks of its executor for a sub-tile's job."""
    asked = {**arguments.default_resources, **arguments.set_resources["subtile"]}
    aside = {"input": InputFiles(), "threads": 4, "rulename": "subtile", "async_run": None}
    evaluated = {name: asked[name].evaluate(None, attempt=attempt, **aside) for name in asked}
    return {name: resource.value for name, resource in evaluated.items()}


def instructions(name: str) -> list[str]:
    """The arguments of all such instructions of the Dockerfile, in order."""
    text = (IMAGE / "Dockerfile").read_text().replace("\\\n", " ")
    found = re.findall(rf"^{name} +(.*)$", text, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in found]


def locked(path: Path) -> dict[str, str]:
    """Version of each package that a lock holds for the image's Python; all must have hashes."""
    text = path.read_text()
    assert "://" not in text
    versions = {}
    for package in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in package
        requirement = Requirement(package.partition("--hash")[0].rstrip(" \\\n"))
        if requirement.marker is None or requirement.marker.evaluate(PLATFORM):
            [specifier] = requirement.specifier
            versions[requirement.name] = specifier.version
    return versions
