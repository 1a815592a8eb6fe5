"""A check of source code for what runs on a device: nothing is asked of `xp` that CuPy has not, and nothing of NumPy.

`xp` is any name bound to ``namespace(...)``, a parameter of that name, or the call itself. Its attributes must be
among CuPy's frozen names and be called with parameters that these have; methods of arrays take no `where=` and
`initial=`; and a function of NumPy makes or asks for arrays of the host, but for scalars and what only knows shapes and
dtypes.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Collection, Iterator

import numpy as np
from standin_cupy import ATOMIC, NAMES, signature

SHAPES_AND_DTYPES = {"broadcast_shapes", "dtype", "finfo", "iinfo", "ndindex", "promote_types", "result_type"}
NOT_CUPYS = {"where", "initial"}
"""Keywords of NumPy's reductions."""


def complaints(source: str, host_only: Collection[str] | None = ()) -> list[str]:
    """What is wrong, with its line; the definitions named in `host_only` (None: all) may use NumPy as they like."""
    tree = ast.parse(source)
    spaces = {"xp"} | {name for node in ast.walk(tree) for name in _bound_to_namespace(node)}
    found = []
    for statement in tree.body:
        host = host_only is None or set(_defined(statement)) & set(host_only)
        for node in ast.walk(statement):
            found += [(node.lineno, word) for word in _wrong_of_xp(node, spaces)]
            found += [(node.lineno, word) for word in _wrong_of_others(node, spaces) if not host]
    return [f"{line}: {word}" for line, word in sorted(found)]


def definitions(source: str) -> set[str]:
    """The names at the top of a module that can be left out."""
    return {name for node in ast.parse(source).body for name in _defined(node)}


def _defined(node: ast.AST) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _bound_to_namespace(node: ast.AST) -> Iterator[str]:
    """Names that an assignment binds to a call of `namespace`, alone or in a tuple."""
    if not isinstance(node, ast.Assign):
        return
    for target in node.targets:
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=False))
        yield from (name.id for name, value in pairs if isinstance(name, ast.Name) and _is_namespace(value, ()))


def _is_namespace(node: ast.AST, spaces: Collection[str]) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "namespace"
    return isinstance(node, ast.Name) and node.id in spaces


def _wrong_of_xp(node: ast.AST, spaces: Collection[str]) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and (path := _path(node, spaces)):
        yield from _unknown(path)
    if isinstance(node, ast.Call) and (path := _path(node.func, spaces)) and not any(_unknown(path)):
        positional = -1 if any(isinstance(part, ast.Starred) for part in node.args) else len(node.args)
        yield from _misfits(path, positional, _keywords(node))


def _wrong_of_others(node: ast.AST, spaces: Collection[str]) -> Iterator[str]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or _path(node.func, spaces):
        return
    name, extra = node.func.attr, _keywords(node) & NOT_CUPYS
    if isinstance(node.func.value, ast.Name) and node.func.value.id in ("np", "numpy"):
        made = getattr(np, name, None)
        if name not in SHAPES_AND_DTYPES and not (isinstance(made, type) and issubclass(made, np.generic)):
            yield f"np.{name}() is of the host"
    elif extra:
        yield f".{name}() of CuPy's arrays has no {', '.join(sorted(extra))}="


def _keywords(call: ast.Call) -> set[str]:
    return {keyword.arg for keyword in call.keywords if keyword.arg}


def _path(node: ast.AST, spaces: Collection[str]) -> list[str]:
    """["linalg", "norm"] for xp.linalg.norm; empty if it does not begin with a namespace."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return names if _is_namespace(node, spaces) else []


def _unknown(path: list[str]) -> Iterator[str]:
    modules, ufuncs = NAMES["modules"], NAMES["ufuncs"]["cupy"]
    *package, name = path
    module = ".".join(["cupy", *package])
    if len(path) == 2 and package[0] in ufuncs:
        fits = {"at": package[0] in ATOMIC, "reduce": package[0] in ("add", "multiply")}
        fits["accumulate"] = fits["reduce"]
        if name not in NAMES["ufunc methods"] or not fits.get(name, True):
            yield f"xp.{'.'.join(path)} is not supported by CuPy"
    elif module in modules and name not in modules[module]:
        yield f"xp.{'.'.join(path)} is not in CuPy"


def _misfits(path: list[str], positional: int, keywords: set[str]) -> Iterator[str]:
    """Arguments that the function has no parameters for."""
    *package, name = path
    module = NAMES["modules"].get(".".join(["cupy", *package]), {})
    if name in NAMES["ufuncs"]["cupy"] and not package:
        extra = keywords - set(NAMES["ufunc keywords"])
    elif module.get(name) is None:
        return
    else:
        parameters = signature(module[name]).parameters.values()
        kinds = [parameter.kind for parameter in parameters]
        if inspect.Parameter.VAR_KEYWORD in kinds:
            return
        extra = keywords - {p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY}
        places = kinds.count(inspect.Parameter.POSITIONAL_ONLY) + kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if inspect.Parameter.VAR_POSITIONAL not in kinds and positional > places:
            yield f"xp.{'.'.join(path)}() of CuPy takes {places} arguments by place"
    if extra:
        yield f"xp.{'.'.join(path)}() of CuPy has no {', '.join(sorted(extra))}="
