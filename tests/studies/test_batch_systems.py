"""The script for batch systems: is the table the undisturbed one where a job is cancelled in the middle?

On a Slurm and a Grid Engine of one node: needs Debian's slurm-wlm, or gridengine-master, -exec and -client, and root:
python -m pytest -m batch --override-ini addopts= tests/studies/test_batch_systems.py
On commands that stand in for LSF's it runs among the slow tests.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

import dchw
from dchw.studies.study import read_results
from tests.reports.runs import tiny_network
from tests.studies import gridengine, lsf_stand_in, slurm

pytest.importorskip("dask_jobqueue", reason="needs the extra 'cluster'")
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "notebooks" / "studies" / "on_a_cluster.py"
STUDY = """\
networks: tiny.dchw
vary:
  huffman.output_queue: [1, 2, 4, 8]
  pe_array.queue_depth: {from: 1, to: 16, step: 1}
  weight_sram.access_cycles: [1, 2]
  dram.channels: [1, 2, 4]
"""


def words(system: str, queue: str, *more: str) -> list[str]:
    jobs = ["--queue", queue, "--jobs", "2", "--memory", "1GB"]
    return [sys.executable, str(SCRIPT), "study.yaml", "out", "--system", system, *jobs, *more]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


@pytest.mark.parametrize(
    ("system", "queue", "batch"),
    [
        *(
            pytest.param(
                name,
                queue,
                found,
                id=name,
                marks=[pytest.mark.batch, pytest.mark.skipif(bool(why), reason=why or "runs")],
            )
            for name, queue, found, why in (
                ("slurm", "all", slurm, slurm.missing()),
                ("sge", gridengine.QUEUE, gridengine, gridengine.missing()),
            )
        ),
        pytest.param("lsf", "short", lsf_stand_in, id="lsf stand-in", marks=pytest.mark.slow),
    ],
)
def test_a_job_is_cancelled_in_the_middle(
    tmp_path: Path, study: Path, system: str, queue: str, batch: ModuleType
) -> None:
    undisturbed = dchw.study(study).run(tmp_path / "undisturbed")
    assert undisturbed["error"].isna().all()
    out = tmp_path / "out"
    # munge wants its socket in a folder that only root may write, all the way up
    with (
        tempfile.TemporaryDirectory(prefix=system, dir="/run" if batch is slurm else None) as run,
        batch.one_node(Path(run) / "one") as environment,
    ):
        asked = words(system, queue, "--prologue", f"export PYTHONPATH={ROOT}")
        script = subprocess.Popen(asked, env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
        while script.poll() is None and not (out / "parts").exists():
            time.sleep(0.1)
        while script.poll() is None and len(read_results(out)) < 20:
            time.sleep(0.1)
        assert script.poll() is None, script.communicate()[1]
        before, jobs = len(read_results(out)), batch.running_jobs(environment)
        batch.cancel(jobs[0], environment)
        _, said = script.communicate(timeout=300)
    assert script.returncode == 0, said
    assert before < len(undisturbed)
    assert jobs
    pd.testing.assert_frame_equal(read_results(out), undisturbed, check_exact=True)


@pytest.mark.parametrize(
    ("system", "lines"),
    [
        ("slurm", ["#SBATCH -p short", "#SBATCH -n 1", "#SBATCH --mem=954M", "#SBATCH -t 02:00:00"]),
        ("sge", ["#$ -q short", "#$ -l h_rt=02:00:00", "#$ -cwd"]),
        # bsub takes hours and minutes; memory in kB, the unit of an LSF whose lsf.conf says nothing else
        ("lsf", ["#BSUB -q short", "#BSUB -n 1", "#BSUB -M 1000000", "#BSUB -W 02:00"]),
    ],
)
def test_what_is_submitted(study: Path, system: str, lines: list[str]) -> None:
    """LSF is not to be had freely: that its jobs are asked for in its own words is all that is known of it here."""
    asked = words(system, "short", "--prologue", "module load python", "--show-script")
    done = subprocess.run(asked, cwd=study.parent, capture_output=True, text=True, check=True)
    script = done.stdout.splitlines()
    assert script[0] == "#!/usr/bin/env bash"
    for line in lines:
        assert line in script
    assert script.index("export OMP_NUM_THREADS=1") + 1 == script.index("module load python")
    start = next(line for line in script if "distributed.cli.dask_worker" in line)
    assert start.startswith(f"{sys.executable} -m distributed.cli.dask_worker tcp://")
    assert "--nthreads 1" in start
    assert not (study.parent / "out").exists()
