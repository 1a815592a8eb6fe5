"""What holds for every test: what it needs, how long the parts take, and the report of a full run."""

import functools
import importlib
import os
import platform
import subprocess
import sys
import time
import warnings
from collections import Counter, defaultdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import pytest
from hypothesis import HealthCheck, settings

os.environ["MPLBACKEND"] = "Agg"

settings.register_profile(
    "default", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("full", settings.get_profile("default"), max_examples=1000)
settings.load_profile("default")

NEEDS = {"gpu": "cupy", "torch": "torch"}  # marker: module
PACKAGES = ["numpy", "scipy", "python-flint", "matplotlib", "torch", "cupy-cuda12x", "cupy-cuda13x"]
PACKAGES += ["pytest", "hypothesis"]
STARTED = time.monotonic()
SECONDS = defaultdict(float)  # by module
OUTCOMES = defaultdict(Counter)  # by module
SKIPS = Counter()  # by reason


def pytest_addoption(parser):
    parser.addoption("--full-report", metavar="PATH", help="write the report of this run, as Markdown")
    parser.addoption("--without-fast", action="store_true", help="as if lrp_ref.fast were not there")


def pytest_configure(config):
    if config.getoption("--without-fast"):
        sys.modules["lrp_ref.fast"] = None


@functools.cache
def lacks(marker):
    """Why a test with this marker cannot run here, or nothing."""
    try:
        with warnings.catch_warnings(action="ignore"):  # what an import warns of is no test's failure
            module = importlib.import_module(NEEDS[marker])
            if marker == "gpu":
                module.zeros(1)
    except Exception as error:
        return f"needs {marker}: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    for marker in NEEDS:
        if item.get_closest_marker(marker) and (reason := lacks(marker)):
            pytest.skip(reason)


def pytest_runtest_logreport(report):
    module = report.nodeid.partition("::")[0]
    SECONDS[module] += report.duration
    if report.when == "call" or not report.passed:
        OUTCOMES[module]["xfailed" if hasattr(report, "wasxfail") else report.outcome] += 1
    pytest_collectreport(report)


def pytest_collectreport(report):
    if report.skipped and isinstance(report.longrepr, tuple):
        SKIPS[report.longrepr[2].removeprefix("Skipped: ")] += 1


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    write = terminalreporter.write_line
    terminalreporter.section("time of each module")
    for module in sorted(SECONDS, key=SECONDS.get, reverse=True):
        write(f"{SECONDS[module]:9.2f} s {OUTCOMES[module].total():6} tests  {module}")
    write(f"skipped for want of a gpu: {wanting('gpu')}, for want of torch: {wanting('torch')}")
    path = config.getoption("--full-report")
    if path and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        path = config.rootpath / path
        text = full_report(config, except_for=path)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        write(f"report: {path}")


def wanting(marker):
    """How many tests were skipped for want of what the marker needs; a module skipped whole counts as one."""
    return sum(n for reason, n in SKIPS.items() if f"needs {marker}" in reason or f"import '{NEEDS[marker]}" in reason)


def full_report(config, except_for):
    outcomes = ("passed", "failed", "skipped", "xfailed")
    totals = sum(OUTCOMES.values(), Counter())
    lines = [
        "# The last full run of the tests",
        "",
        "Written by `sh scripts/test --full`.",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- commit: {commit(config.rootpath, except_for)}",
        f"- machine: {platform.system()} {platform.machine()}, {os.cpu_count()} cores; gpu: {gpu()}",
        f"- python {platform.python_version()}; " + ", ".join(f"{name} {installed(name)}" for name in PACKAGES),
        f"- pytest's arguments: `{' '.join(config.invocation_params.args)}`",
        f"- result: {', '.join(f'{totals[outcome]} {outcome}' for outcome in outcomes)}"
        f" in {time.monotonic() - STARTED:.0f} s",
        "",
        f"| module | {' | '.join(outcomes)} | seconds |",
        "|---" * (len(outcomes) + 2) + "|",
    ]
    for module, counts in sorted(OUTCOMES.items()):
        lines.append(f"| {module} | {' | '.join(str(counts[o]) for o in outcomes)} | {SECONDS[module]:.1f} |")
    lines += ["", "Skipped:" if SKIPS else "Nothing was skipped.", ""]
    lines += [f"- {n} × {reason}" for reason, n in SKIPS.most_common()]
    return "\n".join(lines).rstrip() + "\n"


def commit(root, except_for):
    """The commit that was tested, and whether the tree differs from it in more than the report itself."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ".", f":(exclude){except_for}")
        return git("rev-parse", "HEAD") + (" with changes not committed" if changes else ", clean")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def gpu():
    if lacks("gpu"):
        return "none"
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@pytest.fixture
def run(capsys):
    """`lrp-ref` with these arguments: its exit status, and what it said on standard output and error."""
    from lrp_ref import cli

    def run(*argv):
        code = cli.main([str(part) for part in argv])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(params=["flint", "fractions"])
def exact(request, monkeypatch):
    """lrp_ref.exact, on python-flint's rationals and, as where it is not installed, on the standard library's."""
    import lrp_ref

    if request.param == "flint":
        pytest.importorskip("flint")
    else:
        monkeypatch.setitem(sys.modules, "flint", None)
    return lrp_ref.exact


@pytest.fixture
def standin():
    """The stand-in for CuPy as the module `cupy`, and the counts of what waits for it."""
    from standin_cupy import installed

    with installed() as counts:
        yield counts
