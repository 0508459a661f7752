"""Stands in for LSF, which cannot be had freely: bsub and bkill that do what their manual pages say, with processes of
this machine. What asks for jobs is tried with it; LSF itself is not."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BSUB = '''#!{python}
"""bsub < SCRIPT: options stand in lines of the script that begin with #BSUB; prints the job's number."""
import os, pathlib, re, subprocess, sys

jobs, script = pathlib.Path({folder!r}), sys.stdin.read()
options = dict(re.findall(r"^#BSUB +-(\\w+) +(.+)$", script, re.MULTILINE))
unknown = options.keys() - set("JqnMWPeoR")
if sys.argv[1:] or unknown or not re.fullmatch(r"\\d+:\\d\\d|\\d+", options.get("W", "0")) or options["n"] != "1":
    sys.exit(f"bsub: not understood here: {{sys.argv[1:]}} {{options}}")
number = 1 + len(list(jobs.glob("*.sh")))
spooled = jobs / f"{{number}}.sh"
spooled.write_text(script)
with open(jobs / f"{{number}}.out", "wb") as log:
    job = subprocess.Popen(
        ["/bin/bash", str(spooled)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        env={{**os.environ, "LSB_JOBID": str(number)}},
    )
(jobs / f"{{number}}.pid").write_text(str(job.pid))
print(f"Job <{{number}}> is submitted to queue <{{options['q']}}>.")
'''
BKILL = '''#!{python}
"""bkill JOB: ends a job and all that it started."""
import os, pathlib, signal, sys

try:
    os.killpg(int((pathlib.Path({folder!r}) / f"{{sys.argv[1]}}.pid").read_text()), signal.SIGKILL)
except (OSError, ValueError):
    sys.exit(f"Job <{{sys.argv[1]}}>: No matching job found")
print(f"Job <{{sys.argv[1]}}> is being terminated")
'''


@contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """Gives the environment in which bsub and bkill are found; jobs that are left are ended behind it."""
    folder.mkdir(parents=True)
    for name, text in (("bsub", BSUB), ("bkill", BKILL)):
        (folder / name).write_text(text.format(python=sys.executable, folder=str(folder)))
        (folder / name).chmod(0o755)
    try:
        yield {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    finally:
        for job in running_jobs({"PATH": str(folder)}):
            cancel(job, {"PATH": str(folder)})


def running_jobs(environment: dict[str, str]) -> list[str]:
    """Numbers of the jobs that run."""
    return [file.stem for file in _folder(environment).glob("*.pid") if _runs(int(file.read_text()))]


def cancel(job: str, environment: dict[str, str]) -> None:
    """bkill, by hand: the job need not run any more."""
    with suppress(ProcessLookupError):
        os.killpg(int((_folder(environment) / f"{job}.pid").read_text()), signal.SIGKILL)


def _folder(environment: dict[str, str]) -> Path:
    return Path(environment["PATH"].split(os.pathsep)[0])


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
