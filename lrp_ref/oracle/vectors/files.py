"""The vectors as they ship, and how they get into a folder of yours."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

from ...errors import LrpError

VERSION = "1.0.0"
"""Of the vectors: the first number changes with an expected value, the second with new tests, the third with words."""
FORMAT = 1
"""Of the files."""
DATA = Path(__file__).parent / "data"


def contents() -> dict[str, bytes]:
    """Every file of an export, by its path in it: what the manifest lists, the manifest, and README.md.

    Raises
    ------
    LrpError
        if one is not there, or not what the manifest says.
    """
    made = {"README.md": (DATA.parent / "README.md").read_bytes(), "manifest.json": _read("manifest.json")}
    with zipfile.ZipFile(DATA / "networks.zip") as archive:
        for name, digest in json.loads(made["manifest.json"])["files"].items():
            made[name] = archive.read(name) if name in archive.namelist() else _read(name)
            if hashlib.sha256(made[name]).hexdigest() != digest:
                raise LrpError(f"the vectors' file {name} is not the one that was shipped: install lrp_ref again")
    return made


def _read(name: str) -> bytes:
    try:
        return (DATA / name).read_bytes()
    except FileNotFoundError:
        raise LrpError(f"the vectors' file {name} is missing: install lrp_ref again") from None


def export(folder: str | Path) -> Path:
    """Write all vectors into a new folder: whole, or not at all.

    Parameters
    ----------
    folder : str or Path, of a folder that is not there yet, or is empty

    Returns
    -------
    Path
        of the folder

    Raises
    ------
    LrpError
        if there is something already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LrpError(f"{folder} is there already, and nothing is overwritten: name a new folder")
    made = contents()
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        for name, content in made.items():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_bytes(content)
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
