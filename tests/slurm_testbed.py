"""A real Slurm on this machine: several slurmd on loopback, with pretended GPUs. Needs root.

What takes minutes by default is shortened: a dead node is given up after five seconds, and a job
that is queued again begins after five.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_CONF = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,defer_batch,sched_min_interval=0,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=5
InactiveLimit=0
KillWait=3
MinJobAge=300
GresTypes=gpu
SlurmdParameters=config_overrides
"""


def missing() -> str | None:
    """Return why there can be no cluster here; None when there can."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (make slurm)"
    return None if os.getuid() == 0 else "only root can pretend GPUs"


class Cluster:
    """A cluster of its own, with its own ports: several may run at once."""

    def __init__(self, nodes: int = 2, gpus: int = 2) -> None:
        # Short, for sockets' sake, and open to the jobs of all users.
        self.root = Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))
        self.root.chmod(0o755)
        self.nodes = [f"node{n}" for n in range(nodes)]
        self.conf = self.root / "etc" / "slurm.conf"
        self.env = {"SLURM_CONF": str(self.conf)}
        self._write(gpus, _free_ports(nodes + 1))

    def up(self) -> None:
        """Start all daemons and wait until every node is idle."""
        munge = {
            "key-file": self.root / "etc" / "munge.key",
            "socket": self.root / "munge.sock",
            "pid-file": self.root / "munged.pid",
            "log-file": self.root / "log" / "munged.log",
            "seed-file": self.root / "munged.seed",
        }
        self.run("munged", "--force", *(f"--{key}={value}" for key, value in munge.items()))
        self.run("slurmctld", "-f", str(self.conf))
        for node in self.nodes:
            self.start_slurmd(node)
        self.wait_idle()

    def down(self) -> None:
        """End all jobs and daemons, and remove everything."""
        with suppress(subprocess.SubprocessError):
            self.run("scancel", "--user", str(os.getuid()), timeout=10)
        pids = ["slurmctld.pid", "munged.pid", *(f"slurmd-{node}.pid" for node in self.nodes)]
        daemons = [d for name in pids if (d := self._daemon(self.root / name))]
        for daemon in daemons:
            daemon.terminate()
        _, alive = psutil.wait_procs(daemons, timeout=15)
        for daemon in alive:
            daemon.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, *argv: str, timeout: float = 60) -> str:
        """Run one of Slurm's programs; return its output."""
        env = {**os.environ, **self.env, "PATH": _path()}
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, timeout=timeout, check=True
        )
        return done.stdout

    def start_slurmd(self, node: str) -> None:
        (self.root / f"spool-{node}").mkdir(exist_ok=True)
        self.run("slurmd", "-N", node, "-f", str(self.conf))

    def kill_slurmd(self, node: str) -> None:
        """Kill a node's daemon, as a crash does; its jobs' processes go on."""
        daemon = self._daemon(self.root / f"slurmd-{node}.pid")
        assert daemon
        daemon.send_signal(signal.SIGKILL)
        daemon.wait(10)

    def states(self) -> list[str]:
        """Return the state of every node, in sinfo's words."""
        return self.run("sinfo", "--noheader", "--Node", "--format=%T").split()

    def wait_idle(self) -> None:
        """Wait until nothing runs on any node."""
        self._wait(lambda found: found == "idle")

    def wait_answering(self) -> None:
        """Wait until every node answers."""
        self._wait(lambda found: found in {"idle", "mixed", "allocated", "completing"})

    def _wait(self, good: object, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while True:
            with suppress(subprocess.CalledProcessError):
                found = self.states()
                if len(found) == len(self.nodes) and all(map(good, found)):  # type: ignore[call-overload]
                    return
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.1)

    def _daemon(self, path: Path) -> psutil.Process | None:
        try:
            process = psutil.Process(int(path.read_text()))
            named = path.name.partition("-")[0].partition(".")[0]
            return process if named in process.name() else None
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None

    def _write(self, gpus: int, ports: list[int]) -> None:
        for folder in ("etc", "log", "state", "dev"):
            (self.root / folder).mkdir()
        key = self.root / "etc" / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        host = os.uname().nodename.partition(".")[0]
        text = _CONF.format(host=host, port=ports[0], root=self.root)
        gres = ""
        for node, port in zip(self.nodes, ports[1:], strict=True):
            for number in range(gpus):
                # Slurm wants character devices; this one is /dev/null.
                device = self.root / "dev" / f"{node}gpu{number}"
                os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            text += (
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16"
                f" RealMemory=20000 Gres=gpu:{gpus} State=UNKNOWN\n"
            )
            gres += f"NodeName={node} Name=gpu File={self.root}/dev/{node}gpu[0-{gpus - 1}]\n"
        text += (
            f"PartitionName=main Nodes={','.join(self.nodes)} Default=YES MaxTime=INFINITE State=UP"
            " OverSubscribe=NO\n"
        )
        self.conf.write_text(text)
        (self.root / "etc" / "gres.conf").write_text(gres)
        (self.root / "etc" / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody uses, below those that the kernel gives to clients."""
    found: list[int] = []
    with ExitStack() as held:
        for port in range(20_000 + os.getpid() % 10_000, 32_000):
            tried = held.enter_context(socket.socket())
            with suppress(OSError):
                tried.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                break
    return found
