"""Processes that the tests' servers start: their ports, their ends, and waiting for them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

STOP_S = 20


def end_daemon(pid_file: Path) -> None:
    """End the daemon that wrote this file `<program>.pid`, if it is still there."""
    try:
        pid = int(pid_file.read_text())
        process = Path(f"/proc/{pid}")
        if not process.joinpath("comm").read_text().startswith(pid_file.stem):
            return  # the number belongs to something else by now
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not alive(process), STOP_S, f"{pid_file.stem} to end")
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return


def send(number: signal.Signals, processes: set[int]) -> None:
    """Send a signal to those of the processes that are still there."""
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def alive(process: Path) -> bool:
    """Whether a process, by its folder in /proc, exists and is not a zombie."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return as soon as the condition holds; raises TimeoutError, which says for what it waited."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.1)
