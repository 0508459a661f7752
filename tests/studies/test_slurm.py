"""The script for batch systems on a one-node Slurm, with scancel in the middle: is the table the undisturbed one?

Needs Debian's slurm-wlm and root: python -m pytest -m slurm --override-ini addopts= tests/studies/test_slurm.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

import dchw
from dchw.studies.study import read_results
from tests.reports.runs import tiny_network
from tests.studies import slurm

pytest.importorskip("dask_jobqueue", reason="needs the extra 'cluster'")
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "runs")]
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


def test_scancel_in_the_middle(tmp_path: Path) -> None:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    (tmp_path / "study.yaml").write_text(STUDY)
    undisturbed = dchw.study(tmp_path / "study.yaml").run(tmp_path / "undisturbed")
    assert undisturbed["error"].isna().all()
    out = tmp_path / "out"
    # munge wants its socket in a folder that only root may write, all the way up
    with (
        tempfile.TemporaryDirectory(prefix="slurm", dir="/run") as run,
        slurm.one_node(Path(run) / "one") as environment,
    ):
        words = [sys.executable, str(SCRIPT), "study.yaml", "out", "--queue", "all", "--jobs", "2", "--memory", "1GB"]
        prologue = ["--prologue", f"export PYTHONPATH={ROOT}"]
        script = subprocess.Popen([*words, *prologue], env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
        while script.poll() is None and not (out / "parts").exists():
            time.sleep(0.1)
        while script.poll() is None and len(read_results(out)) < 20:
            time.sleep(0.1)
        assert script.poll() is None, script.communicate()[1]
        before, jobs = len(read_results(out)), slurm.running_jobs(environment)
        slurm.cancel(jobs[0], environment)
        _, said = script.communicate(timeout=300)
    assert script.returncode == 0, said
    assert before < len(undisturbed)
    assert jobs
    pd.testing.assert_frame_equal(read_results(out), undisturbed, check_exact=True)
