"""A real SLURM for the tests: one node with fake graphics cards, on 127.0.0.1.

All workers of a test run share it: whoever needs it first starts it, and it is stopped when nobody
holds the lock on `users.lock` any more, however the test run ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .debian import Unavailable, require
from .processes import STOP_S, alive, end_daemon, free_ports, send, wait_for

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("slurmctld", "slurmd", "munged")
ETC = Path("/etc/slurm")  # where Debian's SLURM looks: jobs do not see SLURM_CONF
MARKER = "# written by tests/servers/slurm.py for "
MACHINE_LOCK = Path(tempfile.gettempdir()) / "slurm-of-the-tests.lock"
SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
CPUS, MEMORY_MB, GPUS = 8, 200_000, 4
START_S, OTHERS_S = 60, 1800
PARTITIONS = ("gpu", "other")
FEATURE = "a100"


@dataclass(frozen=True)
class Slurm:
    """The running cluster, and what a test does to it."""

    folder: Path

    def ask(self, *command: str) -> str:
        """Run one of SLURM's programs, which must succeed; returns what it printed."""
        return run_program(*command)

    def jobs(self, run: str) -> list[dict[str, str]]:
        """All jobs of a Snakemake run, oldest first, as `scontrol show job` describes them.

        `run` is the run's identifier, which is the name of its jobs.
        """
        text = self.ask("scontrol", "show", "job", "--oneliner", "--all")
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines()]
        mine = [job for job in jobs if job.get("JobName") == run]
        return sorted(mine, key=lambda job: int(job["JobId"]))

    @contextlib.contextmanager
    def in_use(self, *, alone: bool = False) -> Iterator[None]:
        """While a test of this or another worker runs jobs; or nobody else does."""
        with (self.folder / "tests.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def ends_with(self, client: subprocess.Popen) -> Iterator[None]:
        """End this process group when the context is left, or when the whole test run is killed."""
        note = self.folder / f"client-{client.pid}"
        note.touch()
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(client.pid, signal.SIGKILL)
            client.wait()
            note.unlink()

    def processes(self, job: str) -> set[int]:
        """The processes of a running job."""
        listed = self.ask("scontrol", "listpids", job).splitlines()[1:]
        return {int(line.split()[0]) for line in listed}

    def freeze(self, job: str) -> None:
        """Stop all processes of a job; SLURM still sees it running."""
        send(signal.SIGSTOP, self.processes(job))

    def stop_node(self) -> None:
        """End all that runs on the node and give it up, as SLURM does if it hears nothing of it."""
        # a job that outlived its node would be started beside itself, for which SLURM drains a node
        running = self.ask("squeue", "--noheader", "--states=running", "--format=%A").split()
        dying = {pid for job in running for pid in self.processes(job)}
        end_daemon(self.folder / "slurmd.pid")
        dying |= step_daemons()
        send(signal.SIGKILL, dying)
        gone = lambda: not any(alive(Path(f"/proc/{pid}")) for pid in dying)  # noqa: E731
        wait_for(gone, STOP_S, f"the node's processes {sorted(dying)} to end")
        self.ask("scontrol", "update", "nodename=localhost", "state=down", "reason=stopped")

    def state(self) -> str:
        """What the cluster says of itself: its jobs, and why its node takes none."""
        return self.ask("squeue") + self.ask("sinfo", "--list-reasons")

    def start_node(self) -> None:
        """Start the node's daemon again."""
        start_node(self.folder)


@contextlib.contextmanager
def shared_slurm(folder: Path) -> Iterator[Slurm]:
    """The cluster of this test run, whose state, logs and process ids are in `folder`.

    Raises `Unavailable` where there cannot be one.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "users.lock").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with (folder / "start.lock").open("w") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            if not (folder / "ready").exists():
                require_programs()
                start_guardian(folder)
        yield Slurm(folder)


def require_programs() -> None:
    """Make sure that SLURM is installed and is nobody else's."""
    if os.geteuid() != 0:
        raise Unavailable("SLURM's daemons and fake graphics cards need root")
    for path in (ETC / "slurm.conf", ETC / "gres.conf"):
        if path.exists() and not path.read_text().startswith(MARKER):
            raise Unavailable(f"{path} is not from these tests: this machine has a SLURM already")
    require(PROGRAMS, PACKAGES, SEARCHED)


def start_guardian(folder: Path) -> None:
    """Start the process that starts the daemons, and outlives this one to stop them."""
    log = folder / "guardian.log"
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, "-m", "tests.servers.slurm", str(folder)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            start_new_session=True,  # so that Ctrl-C on the tests does not end it
        )
    if done.returncode != 0:
        raise RuntimeError(f"SLURM does not start, its files are in {folder}:\n{log.read_text()}")


def main(folder: Path) -> int:
    """Become the guardian, in the background; returns when the cluster is ready, or 1."""
    guardian = os.fork()
    if guardian == 0:
        guard(folder)
        return 0
    process = Path(f"/proc/{guardian}")
    up = lambda: (folder / "ready").exists() or not alive(process)  # noqa: E731
    wait_for(up, OTHERS_S, "another test run to stop its SLURM")
    return 0 if (folder / "ready").exists() else 1


def guard(folder: Path) -> None:
    """Run the cluster for as long as somebody uses it; one at a time on this machine."""
    with MACHINE_LOCK.open("w") as machine, (folder / "users.lock").open("w") as users:
        fcntl.flock(machine, fcntl.LOCK_EX)
        stop_leftovers()
        try:
            start(folder)
            (folder / "ready").touch()
            fcntl.flock(users, fcntl.LOCK_EX)  # held by each user until it has ended
        finally:
            stop(folder)


def start(folder: Path) -> None:
    """Write the configuration and start all daemons; returns when the node is idle."""
    ports = free_ports(2)
    for number in range(GPUS):
        device = folder / f"gpu{number}"
        device.unlink(missing_ok=True)
        os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))  # /dev/null by another name
    for name in ("state", "spool"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    ETC.mkdir(exist_ok=True)
    (ETC / "slurm.conf").write_text(f"{MARKER}{folder}\n{slurm_conf(folder, ports)}")
    (ETC / "gres.conf").write_text(
        f"{MARKER}{folder}\nAutoDetect=off\n"
        + "".join(f"Name=gpu File={folder / f'gpu{number}'}\n" for number in range(GPUS))
    )
    files = {"socket": "munge.socket", "key-file": "munge.key", "seed-file": "munge.seed"} | {
        f"{kind}-file": f"munged.{kind}" for kind in ("pid", "log")
    }
    run_program("munged", "--force", *(f"--{key}={folder / name}" for key, name in files.items()))
    run_program("slurmctld", "-i")
    start_node(folder)


def start_node(folder: Path) -> None:
    """Start the node's daemon and wait until the node takes jobs."""
    run_program("slurmd", "-N", "localhost")

    up = {"idle", "mixed", "allocated"}
    wait_for(lambda: node_states() <= up, START_S, f"the node of SLURM, see the logs in {folder}")


def node_states() -> set[str]:
    """What the controller says of the node, such as `idle` or `down*`."""
    try:
        return set(run_program("sinfo", "--noheader", "--format=%T").split())
    except subprocess.CalledProcessError:
        return {"no controller"}


def slurm_conf(folder: Path, ports: list[int]) -> str:
    """The configuration of one node without cgroups, systemd and accounting."""
    return f"""
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthType=auth/munge
# a job that is put back into the queue waits for its credential to expire
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
# whatever this machine really has
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
KillWait=3
SlurmdTimeout=5
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
NodeName=localhost NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory={MEMORY_MB} Gres=gpu:{GPUS} \
Features={FEATURE} State=UNKNOWN
PartitionName={PARTITIONS[0]} Nodes=localhost Default=YES MaxTime=INFINITE State=UP
PartitionName={PARTITIONS[1]} Nodes=localhost MaxTime=INFINITE State=UP
"""


def stop(folder: Path) -> None:
    """End all jobs and daemons that have their files in `folder`."""
    (folder / "ready").unlink(missing_ok=True)
    for note in folder.glob("client-*"):  # of a test run that was killed
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(note.name.removeprefix("client-")), signal.SIGKILL)
    with contextlib.suppress(subprocess.SubprocessError, TimeoutError):
        run_program("scancel", "--user=root", "--full", timeout_s=STOP_S)
        run_program("scancel", "--user=root", "--signal=KILL", "--full", timeout_s=STOP_S)
        idle = lambda: not run_program("squeue", "--noheader", timeout_s=STOP_S).strip()  # noqa: E731
        wait_for(idle, STOP_S, "the jobs to end")
    for name in ("slurmd", "slurmctld", "munged"):
        end_daemon(folder / f"{name}.pid")
    for name in ("slurm.conf", "gres.conf"):
        (ETC / name).unlink(missing_ok=True)


def stop_leftovers() -> None:
    """Stop the cluster of a test run whose guardian was killed."""
    with contextlib.suppress(FileNotFoundError):
        first = (ETC / "slurm.conf").read_text().partition("\n")[0]
        stop(Path(first.removeprefix(MARKER)))


def step_daemons() -> set[int]:
    """What watches over the jobs' steps: SLURM's daemon starts them, and they outlive it."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if process.joinpath("comm").read_text() == "slurmstepd\n":
                found.add(int(process.name))
    return found


def run_program(*command: str, timeout_s: float = 60.0) -> str:
    """Run a program of SLURM to its end; returns its standard output."""
    path = shutil.which(command[0], path=SEARCHED) or command[0]
    # what is started here must not keep this process's pipes open
    done = subprocess.run(
        [path, *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        print(f"{' '.join(command)}: {done.stdout}{done.stderr}", file=sys.stderr)  # noqa: T201
    done.check_returncode()
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
