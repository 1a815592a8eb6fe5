"""The README's Python blocks run as they stand, one after the other."""

import re
from pathlib import Path

import lrp_ref as lrp

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_blocks_run(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent.parent)
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 5
    scope = {}
    for block in blocks:
        if "# 1 forward" in block:
            source = (Path(lrp.__file__).parent / "propagate.py").read_text()
            for line in filter(None, block.splitlines()):
                code, _, step = line.partition("#")
                shown = code.strip().replace("zip(x, c)", "zip(x, c, strict=True)")
                assert f"{shown}  #{step}" in source
        else:
            exec(compile(block, "README.md", "exec"), scope)
    assert scope["e"].relevance.shape == (1, 1, 8, 8)
