"""A Grid Engine of one node for the length of a test: sge_qmaster and sge_execd with a folder of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.studies.daemons import free_ports, said, stop, wait_until

NEEDED = ("sge_qmaster", "sge_execd", "qsub", "qdel", "qstat", "qconf")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PACKAGE = Path("/var/lib/gridengine")
TOOLS, SHARED = Path("/usr/lib/gridengine"), Path("/usr/share/gridengine")
QUEUE = "studies.q"
BOOTSTRAP = """\
admin_user              none
default_domain          none
ignore_fqdn             false
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         {folder}/database
binary_path             /usr/sbin
qmaster_spool_dir       {folder}/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
LIMITS = ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")
OF_A_QUEUE = {
    "seq_no": "0",
    "load_thresholds": "NONE",  # a machine that others use takes jobs too
    "suspend_thresholds": "NONE",
    "nsuspend": "1",
    "suspend_interval": "00:05:00",
    "priority": "0",
    "min_cpu_interval": "00:05:00",
    "processors": "UNDEFINED",
    "qtype": "BATCH",
    "rerun": "FALSE",
    "slots": "4",
    "tmpdir": "/tmp",
    "shell": "/bin/sh",
    "shell_start_mode": "unix_behavior",
    "notify": "00:00:60",
    "initial_state": "default",
    **dict.fromkeys(("ckpt_list", "pe_list", "prolog", "epilog", "starter_method", "suspend_method"), "NONE"),
    **dict.fromkeys(("resume_method", "terminate_method", "owner_list", "user_lists", "xuser_lists"), "NONE"),
    **dict.fromkeys(("subordinate_list", "complex_values", "projects", "xprojects", "calendar"), "NONE"),
    **{f"{kind}_{what}": "INFINITY" for kind in "sh" for what in LIMITS},
}
CONFIGURATION = {"min_uid": "0", "min_gid": "0", "load_report_time": "00:00:02"}
SCHEDULING = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}


def missing() -> str:
    """What keeps a Grid Engine from being started here; empty where nothing does."""
    absent = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if absent or not (SHARED / "default-configuration").exists():
        return f"needs {', '.join(absent)}: Debian's gridengine-master, gridengine-exec and gridengine-client"
    return "" if os.geteuid() == 0 else "needs root, to start sge_execd"


@contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """A running Grid Engine with the queue `QUEUE`; gives the environment in which its commands find it."""
    for name in ("default/common", "qmaster/job_scripts", "execd", "database"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    for name in ("bin", "lib", "utilbin", "util"):
        (folder / name).symlink_to(PACKAGE / name)
    host, ports = socket.gethostname(), free_ports(2)
    common = folder / "default" / "common"
    (common / "bootstrap").write_text(BOOTSTRAP.format(folder=folder))
    (common / "act_qmaster").write_text(f"{host}\n")
    (common / "host_aliases").write_text(f"{host} localhost\n")
    given = {"SGE_QMASTER_PORT": str(ports[0]), "SGE_EXECD_PORT": str(ports[1])}
    environment = {**os.environ, "SGE_ROOT": str(folder), "SGE_CELL": "default", "PATH": PATH, **given}
    _initialise(folder, environment)
    daemons: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> None:
        with open(folder / f"{name}.out", "wb") as log:
            stays = {**environment, "SGE_ND": "1"}  # in the foreground
            daemons.append(subprocess.Popen([name], env=stays, stdout=log, stderr=log))

    try:
        start("sge_qmaster")
        wait_until(lambda: _does(["qconf", "-as", host], environment), folder, "Grid Engine")
        start("sge_execd")
        wait_until(lambda: host.encode() in said(["qconf", "-sel"], environment), folder, "Grid Engine")
        _ask("-Aq", {"qname": QUEUE, "hostlist": host, **OF_A_QUEUE}, folder, environment)
        scheduling = dict(line.split(None, 1) for line in said(["qconf", "-ssconf"], environment).decode().splitlines())
        _ask("-Msconf", {**scheduling, **SCHEDULING}, folder, environment)
        yield environment
    finally:
        said(["qdel", "-u", "*"], environment)
        stop(daemons)


def running_jobs(environment: dict[str, str]) -> list[str]:
    """Numbers of the jobs that run."""
    return [line.split()[0] for line in said(["qstat", "-s", "r", "-u", "*"], environment).decode().splitlines()[2:]]


def cancel(job: str, environment: dict[str, str]) -> None:
    """qdel."""
    subprocess.run(["qdel", job], env=environment, check=True, capture_output=True)


def _initialise(folder: Path, environment: dict[str, str]) -> None:
    """What Debian's init_cluster does, in a folder of our own."""
    lines = (SHARED / "default-configuration").read_text().splitlines()
    changes = {**CONFIGURATION, "execd_spool_dir": str(folder / "execd")}
    kept = [line for line in lines if not line.startswith(tuple(changes))]
    (folder / "configuration").write_text("\n".join([*kept, *map(" ".join, changes.items())]) + "\n")
    resources = SHARED / "util" / "resources"
    for words in (
        ["spoolinit", "berkeleydb", "libspoolb", str(folder / "database"), "init"],
        ["spooldefaults", "configuration", str(folder / "configuration")],
        ["spooldefaults", "complexes", str(resources / "centry")],
        ["spooldefaults", "usersets", str(resources / "usersets")],
        ["spooldefaults", "managers", "root"],
    ):
        subprocess.run([str(TOOLS / words[0]), *words[1:]], env=environment, check=True, capture_output=True)


def _ask(option: str, settings: dict[str, str], folder: Path, environment: dict[str, str]) -> None:
    """qconf with a file of settings."""
    file = folder / "settings"
    file.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    done = subprocess.run(["qconf", option, str(file)], env=environment, capture_output=True)
    assert done.returncode == 0, done


def _does(command: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0
