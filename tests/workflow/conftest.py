"""The finished run of a tiny survey, and a SLURM: made once for all workers of the test run."""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.debian import Unavailable
from tests.servers.slurm import Slurm, shared_slurm

from .project import ROOT, Project
from .repository import STAGES, Repository


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all workers of pytest-xdist see."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def checkout(shared) -> Path:
    """The code as it is now, outside of git.

    shine keeps no result of code that differs from its commit, and code that is being worked on
    does differ; besides, it may change while the tests run.
    """
    return build_once(shared / "checkout", copy_code)


@pytest.fixture(scope="session")
def finished(shared, checkout) -> Project:
    """A complete run: not to be changed, see `project`."""

    def build(folder: Path) -> None:
        project = Project.create(folder, checkout)
        (folder / "printed.txt").write_text(project.run())

    return Project(build_once(shared / "finished", build), checkout)


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of the complete run, to be changed at will."""
    return finished.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def pinned(shared, checkout) -> Repository:
    """A repository after its first `dvc repro`, committed: not to be changed."""

    def build(folder: Path) -> None:
        repository = Repository.create(folder, checkout)
        assert repository.repro() == list(STAGES)
        repository.commit("pinned")

    folder = build_once(shared / "pinned", build)
    return Repository(folder, folder)


@pytest.fixture(scope="session")
def slurm_service(shared) -> Iterator[Slurm]:
    """A cluster of one node, for all workers."""
    with contextlib.ExitStack() as stack:
        try:
            slurm = stack.enter_context(shared_slurm(shared / "slurm"))
        except Unavailable as reason:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no SLURM: {reason}")
        yield slurm


@pytest.fixture
def slurm(slurm_service) -> Iterator[Slurm]:
    """The cluster; other workers' tests may use it at the same time."""
    with slurm_service.in_use():
        yield slurm_service


@pytest.fixture
def slurm_alone(slurm_service) -> Iterator[tuple[Slurm, Callable[[], None]]]:
    """The cluster while no other test uses it, and what lets the others in again."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(slurm_service.in_use(alone=True))
        yield slurm_service, stack.close


def copy_code(folder: Path) -> None:
    for name in ("shine", "workflow", "profiles", "config"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy2(ROOT / "environment.yml", folder)
    shutil.copy2(ROOT / "slurm", folder, follow_symlinks=False)  # for `--profile slurm`
    compileall.compile_dir(folder, quiet=1)


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Let the first worker build a folder, which appears when it is complete."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            build(partial)
            partial.rename(folder)
    return folder
