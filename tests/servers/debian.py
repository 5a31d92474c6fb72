"""Programs of Debian's packages that the tests need, installed where they may be."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

LOCK = Path(tempfile.gettempdir()) / "packages-of-the-tests.lock"


class Unavailable(Exception):
    """This machine cannot run what a test needs, and why."""


def require(programs: tuple[str, ...], packages: tuple[str, ...], searched: str) -> None:
    """Make sure that programs are on the path `searched`; raises `Unavailable`.

    One worker installs, and the others wait: apt-get refuses to work twice at a time.
    """
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name in programs if shutil.which(name, path=searched) is None]
        if not missing:
            return
        if not (Path("/etc/debian_version").exists() and shutil.which("apt-get")):
            raise Unavailable(f"{', '.join(missing)} not found: install {' and '.join(packages)}")
        if os.geteuid() != 0:
            raise Unavailable(f"{', '.join(missing)} not found, and to install needs root")
        _install(packages)


def _install(packages: tuple[str, ...]) -> None:
    """Install packages without starting their services."""
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", "--quiet", *arguments],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise Unavailable(
                    f"apt-get {arguments[0]} failed; install {' and '.join(packages)} by hand:\n"
                    f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
                )
    finally:
        if ours:
            policy.unlink()
