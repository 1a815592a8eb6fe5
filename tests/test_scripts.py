"""The scripts say in one line what is missing, and the tests say how long they took and what they skipped."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SH = shutil.which("sh")
SCRIPTS = ["demo", "test", "check", "fuzz", "mutate", "golden", "peers", "bench", "freeze_cupy_names"]


def fake_python(folder, prelude):
    """A folder for PATH whose python3 runs `prelude` before what it is told; with no prelude no python3."""
    folder.mkdir()
    (folder / "dirname").symlink_to(shutil.which("dirname"))
    if prelude:
        python = folder / "python3"
        python.write_text(f"#!{SH}\nexec '{sys.executable}' -c 'import sys; {prelude}; exec(sys.argv[1])' \"$2\"\n")
        python.chmod(0o755)
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("prelude", "says"),
    [
        ("", "no python3 that runs: install Python 3.11 or newer, or name another: PYTHON=/path/to/python3"),
        ("sys.version_info = (3, 9, 2)", "python3 is Python 3.9: install Python 3.11 or newer, or name"),
        ('sys.modules["venv"] = None', "python3 lacks the venv module: install it"),
        ('sys.modules["ensurepip"] = None', "python3 lacks the venv module: install it"),
    ],
)
def test_a_script_says_in_one_line_what_is_missing(tmp_path, script, prelude, says):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    environment["PATH"] = str(fake_python(tmp_path / "bin", prelude))
    ran = subprocess.run(
        [SH, ROOT / "scripts" / script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert says in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("script", [*SCRIPTS, "_python"])
def test_a_script_is_sound_shell(script):
    subprocess.run([SH, "-n", ROOT / "scripts" / script], check=True)


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="a source distribution has no .ci")
def test_ci_runs_the_tests():
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    commands = [line for line in run.read_text().splitlines() if not line.startswith("#")]
    assert "set -euo pipefail" in commands
    assert "sh scripts/check --lint" in commands
    assert "sh scripts/test" in commands


def test_the_lower_bounds_of_pyproject_hold_here():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    extras = project["project"]["optional-dependencies"].values()
    named = [name for group in (project["project"]["dependencies"], *extras, *groups) for name in group]
    needs = [Requirement(name) for name in named if isinstance(name, str)]
    assert needs
    for need in needs:
        assert [bound.operator for bound in need.specifier] == [">="], f"{need}: one lower bound, no other"
    for need in map(Requirement, project["project"]["dependencies"]):
        assert need.specifier.contains(version(need.name), prereleases=True)
    lowest = re.fullmatch(r">=3\.(\d+)", project["project"]["requires-python"])[1]
    assert f"sys.version_info < (3, {lowest})" in (ROOT / "scripts" / "_python").read_text()


def test_conftest_counts_times_and_skips_in_sight(tmp_path):
    """Run in a small project whose cupy has no device and whose torch cannot be imported."""
    tests = tmp_path / "tests"
    tests.mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "tests" / "conftest.py", tests)
    (tmp_path / "cupy.py").write_text("def zeros(n): raise RuntimeError('no device')\n")
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')\n")
    (tests / "test_one.py").write_text(
        "import os, pytest\n"
        "@pytest.mark.gpu\ndef test_gpu(): assert False\n"
        "@pytest.mark.torch\ndef test_torch(): assert False\n"
        "@pytest.mark.torch\ndef test_torch_too(): assert False\n"
        "@pytest.mark.full\ndef test_long(): pass\n"
        "def test_backend(): assert os.environ['MPLBACKEND'] == 'Agg'\n"
    )
    (tests / "test_two.py").write_text(
        "import pytest\ndef test_profile():\n"
        "    from hypothesis import settings\n"
        "    assert settings().derandomize and settings().deadline is None\n"
        "    assert settings().max_examples in (100, 1000)\n"
        "def test_fails(): assert False\n"
    )

    def run(*arguments):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 1, ran.stdout + ran.stderr
        return ran.stdout

    out = run("-m", "not full")
    assert re.search(r" \d+\.\d\d s +4 tests  tests/test_one\.py\n", out)
    assert re.search(r" \d+\.\d\d s +2 tests  tests/test_two\.py\n", out)
    assert "SKIPPED [1] tests/conftest.py" in out
    assert "needs gpu: RuntimeError: no device" in out
    assert "skipped for want of a gpu: 1, for want of torch: 2\n" in out

    out = run("--hypothesis-profile=full", "--full-report=benchmarks/full-tests.md")
    assert re.search(r" \d+\.\d\d s +5 tests  tests/test_one\.py\n", out)
    report = (tmp_path / "benchmarks" / "full-tests.md").read_text()
    assert re.search(r"- date: \d{4}-\d\d-\d\d \d\d:\d\d UTC\n- commit: \w+", report)
    assert re.search(r"\| tests/test_one\.py \| 2 \| 0 \| 3 \| 0 \| \d+\.\d \|", report)
    assert re.search(r"\| tests/test_two\.py \| 1 \| 1 \| 0 \| 0 \| \d+\.\d \|", report)
    assert re.search(r"- result: 3 passed, 1 failed, 3 skipped, 0 xfailed in \d+ s", report)
    assert "- 2 × needs torch: ImportError: no torch" in report
    assert os.uname().nodename not in report
