"""The core without lrp_ref.fast: nothing but the fast engine itself needs it."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
sys.modules["lrp_ref.fast"] = None
import lrp_ref as lrp
from lrp_ref.data import digits, digits_cnn
x = digits().images[:2]
e = lrp.explain(digits_cnn(), x, lrp.presets.epsilon_plus())
assert set(e.engine.values()) == {"plain"}
try:
    lrp.explain(digits_cnn(), x, lrp.presets.epsilon_plus(), engine="fast")
except ImportError:
    print("plain without fast")
"""


def test_the_plain_path_runs_with_fast_blocked():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout == "plain without fast\n", done.stderr


MODULES = ["accuracy", "cases", "composites", "explain", "golden", "hand_facts", "store", "theory"]
"""Those that hold what `explain` computes in floats: with the engine there they hold the engine."""


def test_the_cores_own_tests_pass_with_fast_blocked():
    here = Path(__file__).parent
    modules = [str(here / f"test_{name}.py") for name in MODULES]
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-m", "not full", "--without-fast"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *modules], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"[1-9]\d\d passed", done.stdout), done.stdout[-400:]
