"""A Slurm of one node for the length of a test: munged, slurmctld and slurmd with a folder of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.studies.daemons import free_ports, said, stop, wait_until

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4096 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """What keeps a Slurm from being started here; empty where nothing does."""
    absent = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if absent:
        return f"needs {', '.join(absent)}: Debian's slurm-wlm"
    return "" if os.geteuid() == 0 else "needs root, to start slurmd"


@contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """A running Slurm; gives the environment in which its commands find it."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    configuration = CONFIGURATION.format(host=host, folder=folder, ports=free_ports(2))
    (folder / "slurm.conf").write_text(configuration)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
    munged = ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"]
    munged += [
        f"--pid-file={folder}/munged.pid",
        f"--seed-file={folder}/munged.seed",
        f"--log-file={folder}/munged.log",
    ]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            with open(folder / f"{command[0]}.out", "wb") as log:
                daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            if command is munged:
                wait_until(lambda: (folder / "munge.socket").exists(), folder, "Slurm")
        wait_until(lambda: b"idle" in said(["sinfo", "-h", "-o", "%t"], environment), folder, "Slurm")
        yield environment
    finally:
        said(["scancel", "--full", "--user", "root"], environment)
        stop(daemons)


def running_jobs(environment: dict[str, str]) -> list[str]:
    """Numbers of the jobs that run."""
    return said(["squeue", "-h", "-t", "RUNNING", "-o", "%A"], environment).decode().split()


def cancel(job: str, environment: dict[str, str]) -> None:
    """scancel."""
    subprocess.run(["scancel", job], env=environment, check=True)
