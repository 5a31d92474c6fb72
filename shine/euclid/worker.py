"""A process that stays alive between sub-tiles, so that what they share is paid for once.

Importing JAX, tracing and loading compiled programs take seconds per process, and neighbouring
sub-tiles see the same quadrants. Yet a workflow wants one command per sub-tile, which can fail and
run again alone. So the command hands its arguments and its output streams to a worker, which
answers with the exit status: the worker writes into the command's own log and computes nothing
that the command would not have computed itself.

A worker lives as long as its owner, the process that starts the commands, and ends at once when the
owner or the command it works for ends, however that happens: results are written atomically, so
nothing is lost. Two commands at a time have two workers.
"""

import fcntl
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from shine.errors import INTERRUPTED_EXIT_CODE, ConfigurationError, MemoryExhaustedError

logger = logging.getLogger(__name__)

MOST_WORKERS = 64
KILLED_EXIT_CODE = 137  # as a shell reports a process that the kernel ended
_STREAMS = (1, 2)
_LENGTH_BYTES = 4


def delegate(arguments: Sequence[str], owner_pid: int) -> int:
    """Let a worker run `shine.euclid.cli.main(arguments)`; returns its exit status.

    A worker that is idle is used, else one is started. Where no process can be tied to the owner's
    life (the owner is out of sight, or the system is not Linux), the work is done here.
    """
    try:
        owner = os.pidfd_open(owner_pid)
    except (AttributeError, OSError) as error:
        sys.stderr.write(f"no process can be kept alive for {owner_pid} ({error})\n")
        from shine.euclid.cli import main

        return main(arguments)
    folder = _folder_of(owner_pid)
    with _free_slot(folder) as slot, _connect(folder, slot, (owner, owner_pid)) as connection:
        request = json.dumps({"arguments": list(arguments), "folder": str(Path.cwd())}).encode()
        sys.stdout.flush()
        sys.stderr.flush()
        length = len(request).to_bytes(_LENGTH_BYTES)
        try:
            socket.send_fds(connection, [length, request], _STREAMS)
            answer = connection.recv(1)
        except (BrokenPipeError, ConnectionResetError):  # it may end before it has the request
            answer = b""
        except KeyboardInterrupt:  # the worker sees the connection end
            sys.stderr.write("interrupted: nothing half-written\n")
            return INTERRUPTED_EXIT_CODE
    if not answer:
        sys.stderr.write("error: the process of this sub-tile was killed, perhaps for its memory\n")
        return KILLED_EXIT_CODE
    return answer[0]


def _folder_of(owner_pid: int) -> Path:
    """Where the owner's workers are found; folders of owners that are gone are removed."""
    base = _private_folder()
    for old in base.glob("worker-*"):
        pid, _, started = old.name.removeprefix("worker-").partition("-")
        if _start_time(int(pid)) != started:
            shutil.rmtree(old, ignore_errors=True)  # another command may be doing the same
    folder = base / f"worker-{owner_pid}-{_start_time(owner_pid)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _private_folder() -> Path:
    """A folder for this user's sockets; nobody else can write there, or it is an error."""
    folder = Path(tempfile.gettempdir()) / f"shine-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        raise ConfigurationError(
            f"{folder}: found a folder that others can write to, expected one of user "
            f"{os.getuid()} alone. Remove it, or set TMPDIR."
        )
    return folder


def _start_time(pid: int) -> str | None:
    """Tells a process from a later one of the same number; None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


@contextmanager
def _free_slot(folder: Path):
    """The number of a worker that serves nobody, reserved while the context lasts."""
    for slot in range(MOST_WORKERS):
        with (folder / f"{slot}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield slot
            return
    raise RuntimeError(f"{folder}: {MOST_WORKERS} workers are busy")


def _connect(folder: Path, slot: int, owner: tuple[int, int]) -> socket.socket:
    """Connect to a slot's worker; starts it if there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _short_path(folder) as short:
        address = f"{short}/{slot}.socket"
        try:
            connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            (folder / f"{slot}.socket").unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(address)
                listener.listen()
                connection.connect(address)  # waits in line until the worker is ready
                _start(listener.fileno(), owner)
    return connection


@contextmanager
def _short_path(folder: Path):
    """Another name of the folder: a socket's address has 107 bytes at most."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _start(listener: int, owner: tuple[int, int]) -> None:
    """Start a worker; the owner's number is there for those who list processes."""
    arguments = [str(number) for number in (listener, *owner)]
    subprocess.Popen(
        [sys.executable, "-m", "shine.euclid.worker", *arguments],
        pass_fds=(listener, owner[0]),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the command, whose end ends the work
    )


def serve(listener: socket.socket, owner: int) -> None:
    """Work for one command after the other until the owner ends.

    A command that fails in an unforeseen way, or for lack of memory, is this process's last.
    """
    last = False
    while not last:
        _to_nowhere()
        ready, _, _ = select.select([listener, owner], [], [])
        if owner in ready:
            return
        connection, _ = listener.accept()
        with connection:
            request = _receive(connection)
            if request is None:
                continue
            done = threading.Event()
            threading.Thread(target=_watch, args=(connection.dup(), owner, done)).start()
            status = _work(request)
            last = status in (1, MemoryExhaustedError.exit_code)
            if last:
                listener.close()  # the next command must not wait in line for this process
            _to_nowhere()  # the command's streams are closed before it hears of the end
            done.set()
            connection.sendall(bytes([status]))
            connection.recv(1)  # until the command has closed the connection


def _receive(connection: socket.socket) -> dict | None:
    """Take over the command's streams and return its request; None if it ended meanwhile."""
    length, streams, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, len(_STREAMS))
    for stream, place in zip(streams, _STREAMS, strict=False):
        os.dup2(stream, place)
        os.close(stream)
    with connection.makefile("rb") as reader:
        content = reader.read(int.from_bytes(length))
    return json.loads(content) if content and len(content) == int.from_bytes(length) else None


def _work(request: dict) -> int:
    from shine.euclid.cli import main

    os.chdir(request["folder"])
    try:
        status = main(request["arguments"])
    except SystemExit as error:  # argparse
        status = error.code if isinstance(error.code, int) else 2
    except Exception:
        logger.exception("unforeseen")
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _watch(connection: socket.socket, owner: int, done: threading.Event) -> None:
    """End this process as soon as nobody waits for its answer any more."""
    with connection:
        select.select([connection, owner], [], [])
    if not done.is_set():
        os._exit(INTERRUPTED_EXIT_CODE)


def _to_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for place in _STREAMS:
        os.dup2(nowhere, place)
    os.close(nowhere)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
