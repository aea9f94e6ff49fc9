"""A method of one's own, in one script: registered, studied, reported and resumed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from twostage_jax.report.page import write_report
from twostage_jax.study.folder import StudyFolder, read_description, read_records

ROOT = Path(__file__).parents[1]

SCRIPT = '''
import sys

import numpy as np
import tiny_network  # registers a backbone

from experiments.reproduce import main
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.registry import SamplerEntry, register_sampler
from twostage_jax.resampling.samplers.base import OverSampler
from twostage_jax.study.approaches import Approach, Stage1, Stage2, Style, register


class LastCopied(OverSampler):
    """Copies the last sample of each class."""

    reads_samples = False

    def _decide(self, x, y):
        rows = [np.arange(len(y))]
        for label, size in self.sampling_strategy_.items():
            rows.append(np.full(size, np.flatnonzero(y == label)[-1]))
        return Plan.of_kept(y, np.concatenate(rows))


register_sampler("last", SamplerEntry("Last", LastCopied))
register(
    Approach(
        "mine",
        "Mine",
        "other",
        stage1=Stage1("last"),
        stage2=Stage2("enn"),
        correction="prior",
        style=Style("#D55E00", "*"),
    )
)
sys.exit(main(sys.argv[1:]))
'''

SMALL = shlex.split(
    "--preset demo --accelerator cpu --images-per-class 20 --image-size 32 --epochs 1 --folds 1 "
    "--ratios 4 --k-neighbors 2 --network tiny --output study "
    "--approaches baseline post_prior fs_last ts_last_tomek mine"
)


def run(folder: Path, script: str = SCRIPT) -> subprocess.CompletedProcess:
    (folder / "mine.py").write_text(script)
    return subprocess.run(
        [sys.executable, "mine.py", *SMALL],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
    )


@pytest.mark.integration
def test_a_method_of_ones_own_is_studied_reported_and_resumed(tmp_path):
    ran = run(tmp_path)
    assert ran.returncode == 0, ran.stderr
    folder = StudyFolder(tmp_path / "study")
    records = {record.key.approach: record for record in read_records(folder.records)}
    assert set(records) == {"baseline", "post_prior", "fs_last", "ts_last_tomek", "mine"}
    assert all(record.status == "done" for record in records.values())
    # Three networks: the plain one, and that of the copied samples, which two approaches share.
    assert (records["mine"].curve1 == records["ts_last_tomek"].curve1).all()
    assert (records["post_prior"].curve1 == records["fs_last"].curve1).all()
    assert (records["post_prior"].probabilities != records["baseline"].probabilities).any()
    assert "Mine" in (folder.path / "tables.md").read_text()

    # The report needs no registration: the folder tells the recipes.
    page = write_report(folder.path).read_text()
    for title in ("Mine", "FS Last", "TS Last+Tomek", "Prior correction"):
        assert title in page
    assert read_description(folder.path).recipes["mine"].stage1.sampler == "last"

    folder.record(records["mine"].key).unlink()
    again = run(tmp_path)
    assert again.returncode == 0, again.stderr
    assert "to do: 1 networks" in again.stdout
    assert len(read_records(folder.records)) == 5

    # The same name with another recipe would mix two methods in one folder.
    refused = run(tmp_path, SCRIPT.replace('Stage2("enn")', 'Stage2("rus")'))
    assert refused.returncode == 2
    assert "the recipe of approach mine is another one" in refused.stderr
