"""The vectors' files, made anew: ``python -m lrp_ref.oracle.vectors.generate [DIR]``, by default in their place here.

Nothing in them depends on a machine, a clock, or a library's random numbers: the same bytes come out again.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...arrays import Array
from ...errors import LrpError
from ...files import written_whole
from ...text import Progress
from ..variants import CATALOGUE, of_statistics
from . import coverage, hand, networks, schema, singles, smooth
from .cases import CONDITIONS, Case, Network
from .compute import MISTAKES, NOT_TOLD, Computed, computed
from .files import DATA, FORMAT, VERSION
from .instances import GROUP
from .networks import STATISTICS
from .numbers import float32, safetensors
from .singles import LATER
from .spelled import ALWAYS, FORMULAS, SOURCES, arrays, spelled_network

ORDER = (*dict.fromkeys(GROUP.values()), "networks", "smooth", "hand")
"""The groups, each a file of JSON and one of tensors."""


def cases() -> list[Case]:
    """All cases, in the order of their numbers."""
    every = [*singles.cases(), *networks.cases(), *smooth.cases(), *hand.cases()]
    places = {network: i for i, network in enumerate(dict.fromkeys((c.group, c.network.name) for c in every))}
    return sorted(every, key=lambda case: (ORDER.index(case.group), places[case.group, case.network.name]))


def test(number: int, case: Case, found: Computed) -> dict[str, Any]:
    """A case as it stands in its group's file."""
    return {"tcId": number, "id": f"{case.group}/{case.name}", **found.data}


def tensors(number: int, found: Computed) -> dict[str, Array]:
    """Its arrays, by the names that they have in its group's file."""
    return {f"{number}/{name}": array for name, array in found.tensors.items()}


def dumped(value: Any) -> str:
    """JSON without spaces, in ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def files() -> dict[str, bytes]:
    """The content of every file, by its name."""
    every = cases()
    by_group: dict[str, list[tuple[int, Case, Computed]]] = {group: [] for group in ORDER}
    with Progress("cases computed", len(every)) as bar:
        for number, case in enumerate(every, start=1):
            by_group[case.group].append((number, case, computed(case)))
            bar.advance(1)
    made: dict[str, bytes] = {}
    for group, members in by_group.items():
        made[f"{group}.json"], made[f"{group}.safetensors"] = _group(group, members)
    made["group.schema.json"] = _indented(schema.group())
    made["manifest.schema.json"] = _indented(schema.manifest(ORDER))
    made["coverage.md"] = _coverage(by_group).encode()
    onnx = dict(sorted(_onnx(every)))
    made["manifest.json"] = _manifest(by_group, made, onnx)
    made["networks.zip"] = zipped(onnx)
    return made


def _group(group: str, members: list[tuple[int, Case, Computed]]) -> tuple[bytes, bytes]:
    """The JSON, a test a line, and the tensors."""
    nets: dict[str, Network] = {}
    for _, case, _ in members:
        nets.setdefault(case.network.name, case.network)
    stored: dict[str, Array] = {}
    parts = []
    for name, network in nets.items():
        for node in network.graph.nodes:
            stored |= {f"network/{name}/{node.name}/{key}": a for key, a in arrays(node.layer).items()}
        tests = []
        for number, case, found in members:
            if case.network.name == name:
                tests.append(dumped(test(number, case, found)))
                stored |= tensors(number, found)
        about = dumped(
            {
                "network": name,
                "onnx": f"networks/{name}.onnx",
                "graph": spelled_network(network.graph, network.shapes),
            }
        )
        parts.append(about[:-1] + ',"tests":[\n' + ",\n".join(tests) + "\n]}")
    head = dumped(
        {
            "schema": "group.schema.json",
            "format": FORMAT,
            "version": VERSION,
            "group": group,
            "tensors": f"{group}.safetensors",
            "numberOfTests": len(members),
        }
    )
    text = head[:-1] + ',"testGroups":[\n' + ",\n".join(parts) + "\n]}\n"
    return text.encode(), safetensors(stored)


def _onnx(every: Iterable[Case]) -> Iterator[tuple[str, bytes]]:
    """Each network's file, by its path."""
    seen: dict[str, Network] = {}
    for case in every:
        if case.network.name in seen:
            if repr(seen[case.network.name].graph) != repr(case.network.graph):
                raise LrpError(f"two networks are called {case.network.name}")
            continue
        seen[case.network.name] = case.network
        yield f"networks/{case.network.name}.onnx", onnx_file(case)


def onnx_file(case: Case) -> bytes:
    """The case's network in float32, as lrp_ref saves it."""
    from ...loaders.onnx_write import save

    x = {name: float32(a) for name, a in case.inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        save(case.network.graph.like(x), path, input=x)
        return path.read_bytes()


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """An archive that holds them as they are, without compression and without a time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            archive.writestr(info, content)
    return buffer.getvalue()


def notes(by_group: Mapping[str, list[tuple[int, Case, Computed]]]) -> dict[str, Any]:
    """What each flag says: the variants of the catalogue, and what others compute by name."""
    told = Counter(flag for members in by_group.values() for _, _, found in members for flag in found.data["flags"])
    made: dict[str, Any] = {}
    for variant in (*CATALOGUE, *of_statistics(STATISTICS)):
        if variant.name not in NOT_TOLD:
            kind = "mistake" if variant.name in MISTAKES else "choice"
            made[variant.name] = {"says": variant.says, "who": list(variant.who), "kind": kind}
            made[variant.name]["numberOfTests"] = told.pop(variant.name, 0)
    for name, count in told.items():
        made[name] = {"says": "as its name says; the numbers stand in the test", "who": [name], "kind": "choice"}
        made[name]["numberOfTests"] = count
    return dict(sorted(made.items()))


def _manifest(
    by_group: Mapping[str, list[tuple[int, Case, Computed]]], made: Mapping[str, bytes], onnx: Mapping[str, bytes]
) -> bytes:
    about = {
        "schema": "manifest.schema.json",
        "format": FORMAT,
        "version": VERSION,
        "numberOfTests": sum(map(len, by_group.values())),
        "groups": {group: {"tests": len(members)} for group, members in by_group.items()},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in {**made, **onnx}.items()},
        "rules": {name: {"formula": says, "sources": list(who)} for name, (says, who) in FORMULAS.items()},
        "always": dict(ALWAYS),
        "conditions": dict(CONDITIONS),
        "sources": dict(SOURCES),
        "notes": notes(by_group),
        "notTold": dict(NOT_TOLD),
        "later": LATER,
    }
    return _indented(about)


def _indented(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _coverage(by_group: Mapping[str, list[tuple[int, Case, Computed]]]) -> str:
    rows = [
        coverage.row(case.kind, case.label, case.network.shapes, found.data["conditions"])
        for members in by_group.values()
        for _, case, found in members
        if case.kind is not None and case.label is not None
    ]
    counts = {group: len(members) for group, members in by_group.items()}
    told = {name: note["numberOfTests"] for name, note in notes(by_group).items()}
    return coverage.markdown(coverage.filled(rows), counts, told)


def main(folder: Path = DATA) -> None:
    """Write all files into a folder."""
    made = files()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        with written_whole(folder / name) as file:
            file.write(content)
    print(f"{len(made)} files, {sum(map(len, made.values())) / 1e6:.2f} MB, in {folder}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
