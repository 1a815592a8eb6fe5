"""Every tutorial runs as a plain script, and is a percent script that a notebook can be made of."""

import os
import re
import runpy
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).resolve().parent.parent / "tutorials").glob("*.py"))
every_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def test_they_are_numbered():
    assert [path.name[:3] for path in TUTORIALS] == [f"{i:02}_" for i in range(1, len(TUTORIALS) + 1)]
    assert TUTORIALS


@every_tutorial
def test_it_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    runpy.run_path(str(path), run_name="__main__")
    out, err = capsys.readouterr()
    assert err == ""
    assert "True" in out
    assert "False" not in out  # what it claims and prints, holds
    assert os.listdir() == ["demo-output"]
    assert all(name.startswith(path.stem) and name.endswith((".png", ".npz")) for name in os.listdir("demo-output"))
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        assert pyplot.get_fignums() == []


@every_tutorial
def test_it_is_a_percent_script(path):
    text = path.read_text(encoding="utf-8")
    before, *cells = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    assert before == ""
    assert set(cells[::2]) == {"", " [markdown]"}
    assert re.match(r"# # \w", cells[1])  # it begins with a title
    for kind, cell in zip(cells[::2], cells[1::2], strict=True):
        lines = cell.rstrip("\n").split("\n")
        if kind:
            assert all(line == "#" or line.startswith("# ") for line in lines), cell
        else:
            compile(cell, path.name, "exec")
            assert any(line and not line.startswith("#") for line in lines), cell
