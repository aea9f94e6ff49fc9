"""imbalanced-learn's own tests, run on the samplers of this package."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = [f"imblearn.{name}" for name in ("over_sampling", "under_sampling", "combine")]


def test_their_tests_pass_on_ours(tmp_path):
    """All but those of sparse X, which is refused."""
    options = ["-q", "-c", tmp_path / "none.ini", "-p", "tests.swap_in", "-p", "no:cacheprovider"]
    (tmp_path / "none.ini").write_text("[pytest]\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--pyargs", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    failed = re.findall(r"^FAILED \S+::(\S+)", ended.stdout, re.MULTILINE)
    assert len(failed) == 2, ended.stdout[-5000:]
    assert all("sparse" in name for name in failed), ended.stdout[-5000:]
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed, ended.stdout[-5000:]
    assert int(passed[1]) >= 160
