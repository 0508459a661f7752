"""A study on a batch system: jobs that are each a Dask worker of one thread, started by dask-jobqueue.

    pip install "dchw[cluster]"
    python on_a_cluster.py decode_units.yaml units --system slurm --queue all --jobs 8 --memory 4GB --walltime 02:00:00

OUT must lie on a file system that the jobs share. A job that is cancelled, killed or runs out of time is replaced, and
the points it had not finished run again elsewhere. If this script itself ends early, start it again with the same OUT.
``--show-script`` prints what would be submitted, to be compared with a job script that works on your system.
"""

from __future__ import annotations

import sys

import click
import dask_jobqueue

import dchw

SYSTEMS = {"slurm": "SLURMCluster", "lsf": "LSFCluster", "sge": "SGECluster"}


@click.command()
@click.argument("study_file", metavar="STUDY")
@click.argument("out")
@click.option("--system", type=click.Choice(list(SYSTEMS)), default="slurm", show_default=True)
@click.option("--queue", help="Partition of Slurm, queue of LSF and SGE; default: the system's own.")
@click.option("--jobs", type=click.IntRange(min=1), default=4, show_default=True, help="Jobs of one core each.")
@click.option("--memory", default="4GB", show_default=True, help="Of each job.")
@click.option("--walltime", default="02:00:00", show_default=True, help="Of each job, HH:MM:SS.")
@click.option("--prologue", multiple=True, help="A shell line that each job begins with, such as 'module load python'.")
@click.option("--show-script", is_flag=True, help="Print the script of a job and run nothing.")
def main(
    study_file: str,
    out: str,
    system: str,
    queue: str | None,
    jobs: int,
    memory: str,
    walltime: str,
    prologue: tuple[str],
    show_script: bool,
) -> None:
    """Run STUDY into OUT on jobs of a batch system."""
    asked = dchw.study(study_file)
    kind = getattr(dask_jobqueue, SYSTEMS[system])
    with kind(
        queue=queue,
        cores=1,
        processes=1,
        memory=memory,
        walltime=walltime[: -len(":SS")] if system == "lsf" and walltime.count(":") == 2 else walltime,
        python=sys.executable,
        job_script_prologue=["export OMP_NUM_THREADS=1", *prologue],
        worker_extra_args=["--no-dashboard"],
        scheduler_options={"dashboard_address": ":0"},
    ) as cluster:
        if show_script:
            click.echo(cluster.job_script())
            return
        cluster.adapt(minimum=jobs, maximum=jobs)  # keeps their number where scale() would let lost jobs be lost
        frame = asked.run(out, scheduler=cluster.scheduler_address)
    click.echo(f"{len(frame):,} points in {out}; {int(frame['error'].notna().sum()):,} of them failed")


if __name__ == "__main__":
    main()
