"""What the repository promises about itself: dependencies in step, a lock that needs no address."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {
    "flatbuffers": "python-flatbuffers",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
}
PEERS = "workflow/constellation/validation/peers/requirements.lock"
ONLY_ON_PYPI = {"lsst-sphgeom"}


def test_environment_yml_is_in_step_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    [by_pip] = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    by_conda = {entry for entry in entries if isinstance(entry, str)} - {"pip"}
    required = {f"python{project['requires-python']}"}
    for requirement in project["dependencies"]:
        name, rest = re.fullmatch(r"([a-z0-9-]+)(.*)", requirement).groups()
        if name in ONLY_ON_PYPI:
            assert requirement in by_pip
        else:
            required.add(CONDA_NAMES.get(name, name) + rest)
    assert by_conda == required


@pytest.mark.parametrize("lock", ["requirements.lock", PEERS])
def test_the_lock_file_has_versions_and_hashes_and_no_address(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    options = {line.split("=")[0].strip() for line in text.splitlines() if "--" in line}
    assert {option for option in options if option.startswith("--")} == {"--hash"}
    packages = re.split(r"\n(?=\S)", text.strip())
    for package in packages:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", package), package[:60]
        assert "--hash=sha256:" in package, package[:60]


def test_the_lock_file_covers_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {n: names for n, names in project["optional-dependencies"].items() if n != "cuda"}
    wanted = [*project["dependencies"], *(name for names in extras.values() for name in names)]
    locked = set(
        re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.M)
    )
    for requirement in wanted:
        name = re.match(r"[a-z0-9-]+", requirement)[0]
        assert name in locked or name == project["name"]


def test_the_lock_file_of_other_codes_agrees_with_ours():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    ours, theirs = (
        dict(re.findall(r"^([A-Za-z0-9._-]+)==(.+?) \\$", (ROOT / lock).read_text(), re.M))
        for lock in ("requirements.lock", PEERS)
    )
    names = {re.match(r"[a-z0-9-]+", requirement)[0] for requirement in groups["peers"]}
    assert names <= set(theirs) and not names & set(ours)
    assert {name: theirs[name] for name in ours if name in theirs} == {
        name: ours[name] for name in ours if name in theirs
    }


def test_the_slurm_profile_is_found_by_its_name_alone():
    """`snakemake --profile slurm` looks in the current folder; the link leads to the profile."""
    assert (ROOT / "slurm").is_symlink()
    assert (ROOT / "slurm" / "config.yaml").samefile(ROOT / "profiles" / "slurm" / "config.yaml")


def test_the_data_model_is_the_one_in_the_code():
    """`python docs/write_data_model.py` mends it."""
    spec = importlib.util.spec_from_file_location("writer", ROOT / "docs" / "write_data_model.py")
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    assert (ROOT / "docs" / "data-model.md").read_text() == writer.data_model()
