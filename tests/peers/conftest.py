"""What the tests beside zennit and captum share: options, counts, and the report.

With ZENNIT_CHECKOUT, a folder, in the environment, the fixtures of zennit's own tests are there too.
"""

import importlib.util
import os
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

OUTCOMES = ("agree", "variant", "0/0", "differ")
PACKAGES = ("numpy", "torch", "zennit", "captum")
COUNTS = defaultdict(Counter)  # by group
ARRAYS = Counter()
WORST = defaultdict(float)


def pytest_addoption(parser, pluginmanager):
    parser.addoption("--draws", type=int, default=200, help="how many networks for each peer")
    parser.addoption("--peers-report", metavar="PATH", help="write the table of this run, as Markdown")
    if checkout := os.environ.get("ZENNIT_CHECKOUT"):
        tests = Path(checkout) / "tests"
        sys.path.append(str(tests))  # for its helpers
        import draws  # noqa: F401  makes torchvision importable

        for name in ("conftest", "test_rules"):
            spec = importlib.util.spec_from_file_location(f"zennit_{name}", tests / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            pluginmanager.register(module, f"zennit's {name}")


def pytest_configure(config):
    config.addinivalue_line("markers", "extended: zennit's further seeds")


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--draws")))


@pytest.fixture
def record():
    """Counts an outcome of a group of comparisons; a second call of the same test takes the place of the first."""
    before = []

    def count(group, outcome, deviations=()):
        COUNTS[group].subtract(before)
        before[:] = [outcome]
        COUNTS[group][outcome] += 1
        ARRAYS[group] += len(deviations)
        WORST[group] = max([WORST[group], *deviations])

    return count


def pytest_terminal_summary(terminalreporter, config):
    if not COUNTS:
        return
    lines = table()
    terminalreporter.section("beside zennit and captum")
    for line in lines:
        terminalreporter.write_line(line)
    if path := config.getoption("--peers-report"):
        path = config.rootpath / path
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([*head(config, path), "", *lines]) + "\n", encoding="utf-8")


def table():
    titles = ["peer and what it was asked for", "runs", *OUTCOMES, "arrays", "greatest deviation"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for group, counts in sorted(COUNTS.items()):
        cells = [counts.total(), *(counts[outcome] for outcome in OUTCOMES), ARRAYS[group], f"{WORST[group]:.0e}"]
        lines.append(f"| {group} | {' | '.join(map(str, cells))} |")
    return lines


def head(config, path):
    shared = config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    return [
        "# Beside zennit and captum",
        "",
        "Written by `sh scripts/peers`. Relevance at the input and at every module that the peer tells of, in float64,",
        "relative to max|R|: agree within 1e-10 under the same names; variant: under another public value of lrp_ref;",
        "0/0: zennit's norm_scale alone gives no number, with an absolute part on both sides it agrees.",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- commit: {shared.commit(config.rootpath, path)}",
        f"- machine: {shared.platform.system()} {shared.platform.machine()}, {os.cpu_count()} cores",
        f"- python {shared.platform.python_version()}; "
        + ", ".join(f"{name} {shared.installed(name)}" for name in PACKAGES),
    ]
