"""The core without lrp_ref.fast: nothing but the fast engine itself needs it."""

import subprocess
import sys

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
