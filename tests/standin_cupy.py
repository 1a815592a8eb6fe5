"""A strict stand-in for CuPy: NumPy behind a wrapper that refuses what CuPy refuses and counts what waits for it.

It refuses implicit conversion, host arrays and lists as operands, names and keywords that CuPy has not
(cupy_names.json, frozen from an installed CuPy), dtypes that a device has not, and to run a kernel. It counts hidden
synchronisations (bool, float, int, item, get, printing, boolean masks and their kin) and uploads (arrays made of host
data, host index arrays, host values written into an array), and can forbid the former. Where it cannot know it is
stricter than CuPy. It knows nothing of numerics on a device, of indices out of bounds, which wrap around there, of
duplicate indices, of memory, and of streams.

    with installed() as counts:
        import cupy
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.machinery
import inspect
import json
import math
import operator
import sys
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NAMES = json.loads((Path(__file__).parent / "cupy_names.json").read_text(encoding="utf-8"))
DTYPES = "?bBhHiIlLqQefdFD"
SCALARS = (bool, int, float, complex, np.generic)


@dataclass
class Counts:
    """What happened since the last reset, by kind."""

    syncs: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    forbids_syncs: bool = False

    def reset(self) -> None:
        self.syncs.clear()
        self.uploads.clear()

    def sync(self, kind: str) -> None:
        self.syncs[kind] += 1
        if self.forbids_syncs:
            raise AssertionError(f"{kind} waits for the device")

    @contextlib.contextmanager
    def no_syncs(self) -> Iterator[None]:
        self.forbids_syncs = True
        try:
            yield
        finally:
            self.forbids_syncs = False


COUNTS = Counts()


# --- between host and device ----------------------------------------------------------------------------------------


def wrapped(value: Any) -> Any:
    """What NumPy computed, as CuPy would give it: scalars are arrays of no axes."""
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.char not in DTYPES:
            raise ValueError(f"Unsupported dtype {value.dtype}")
        made = object.__new__(ndarray)
        made._host = np.asarray(value)
        return made
    if type(value) in (list, tuple):
        return type(value)(map(wrapped, value))
    return value


def operand(value: Any) -> Any:
    """What a kernel may be given: an array of the device, or a number."""
    if isinstance(value, ndarray):
        return value._host
    if not isinstance(value, SCALARS) or np.dtype(type(value)).char not in DTYPES:
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def parts(value: Any) -> Any:
    """Arrays in a sequence, such as what is stacked."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(parts, value))
    if not isinstance(value, ndarray):
        raise TypeError(f"Only cupy arrays can be given here, not {type(value)}")
    return value._host


def setting(value: Any) -> Any:
    """An axis, shape, dtype or the like: nothing of the device, and no array of the host."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(setting, value))
    if isinstance(value, (ndarray, np.ndarray)):
        raise TypeError(f"{type(value)} cannot be interpreted as an integer or other setting")
    return value


def index(key: Any) -> tuple[Any, bool]:
    """An index for NumPy, and whether an array is part of it; masks are counted, and what has to be uploaded."""
    each, made, advanced = key if isinstance(key, tuple) else (key,), [], False
    for part in each:
        if isinstance(part, (list, np.ndarray)):
            COUNTS.uploads["index"] += 1
            part = np.asarray(part)
        elif isinstance(part, ndarray):
            part = part._host
        elif isinstance(part, slice):
            part = slice(*(bound(end) for end in (part.start, part.stop, part.step)))
        if isinstance(part, np.ndarray):
            advanced = True
            if part.dtype == bool:
                COUNTS.sync("mask")
        made.append(part)
    return tuple(made), advanced


def bound(end: Any) -> Any:
    """The end of a slice, which is read where it lies on the device."""
    if isinstance(end, ndarray):
        COUNTS.sync("slice")
        return int(end._host)
    return end


def uploaded(a: Any, dtype: Any = None, order: Any = None, *, copy: bool = False) -> Any:
    """An array of whatever is given, copied to the device if it lies on the host."""
    if isinstance(a, ndarray):
        host = np.array(a._host, dtype, order=order or "K", copy=copy or None)
        return a if host is a._host else wrapped(host)
    if isinstance(a, (list, tuple)) and any(isinstance(part, ndarray) for part in a):
        return wrapped(np.array(parts(a), dtype))
    COUNTS.uploads["array"] += 1
    return wrapped(np.array(a, dtype, order=order or "K"))


# --- functions ------------------------------------------------------------------------------------------------------

ARRAYS = {
    "A", "a", "a1", "a2", "a_max", "a_min", "ar", "ar1", "ar2", "arr", "arr1", "arr2", "array", "ary", "b", "choices",
    "condition", "dst", "element", "f", "fill_value", "fp", "ind", "indices", "m", "mask", "max", "min", "prototype",
    "src", "test_elements", "v", "val", "vals", "value", "values", "weights", "x", "xp", "y",
}  # fmt: skip
"""Parameters that take an array of the device; all but the first of a function may be numbers as well."""
SEQUENCES = {"arrays", "arys", "choicelist", "condlist", "keys", "multi_index", "tup", "xi"}
"""Parameters that take several."""
SYNCS = {
    "nonzero", "argwhere", "flatnonzero", "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values",
    "extract", "compress", "bincount", "trim_zeros", "array_repr", "array_str", "array2string",
}  # fmt: skip
"""Functions whose result has a size that only the device knows, or that print."""
ANSWERS = {"allclose", "array_equal", "array_equiv", "count_nonzero"}
"""Functions that give a number in NumPy, an array of no axes in CuPy."""


@functools.cache
def signature(parameters: str) -> inspect.Signature:
    return inspect.signature(eval(f"lambda {parameters}: None"))


def checked(name: str, parameters: str, args: Any, kwargs: Any, *, method: bool = False) -> tuple[list[Any], Any]:
    """The arguments for NumPy, refused as CuPy refuses them: by name, by keyword, and by where they lie."""
    try:
        bound = signature(parameters).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"cupy's {name}({parameters}): {error}") from None
    first, convert = True, {}
    for key, value in bound.arguments.items():
        kind = bound.signature.parameters[key].kind
        if value is None:
            convert[key] = None
        elif key == "operands":  # einsum's
            convert[key] = tuple(part if isinstance(part, (str, list)) else parts(part) for part in value)
        elif key == "out" or key in SEQUENCES:
            convert[key] = parts(value)
        elif key in ARRAYS:
            convert[key] = parts(value) if first and not method and isinstance(value, SCALARS) else operand(value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            convert[key] = {word: setting(part) for word, part in value.items()}
        else:
            convert[key] = setting(value)
        first = False
    bound.arguments.update(convert)
    return list(bound.args), bound.kwargs


def function(name: str, parameters: str, compute: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        hosts, words = checked(name, parameters, args, kwargs)
        if name in SYNCS or (name == "where" and len(args) + len(kwargs) == 1):
            COUNTS.sync(name)
        result = compute(*hosts, **words)
        out = kwargs.get("out")
        return out if out is not None else wrapped(np.asarray(result) if name in ANSWERS else result)

    call.__name__ = call.__qualname__ = name
    return call


ATOMIC = {  # operands of ufunc.at; the other ufuncs have none
    "add": "iIlLqQefd",
    "subtract": "iI",
    "maximum": "iIlLqQefd",
    "minimum": "iIlLqQefd",
    "bitwise_and": "iIlLqQ",
    "bitwise_or": "iIlLqQ",
    "bitwise_xor": "iIlLqQ",
}


class ufunc:
    """CuPy's: three keywords, two reductions, and `at` for a few of them."""

    def __init__(self, name: str, compute: Any) -> None:
        self.__name__, self._compute = name, compute
        self.nin, self.nout, self.nargs = compute.nin, compute.nout, compute.nargs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if set(kwargs) - set(NAMES["ufunc keywords"]):
            raise TypeError(f"{self.__name__}: Wrong arguments {kwargs}")
        out = kwargs.pop("out", None)
        outs = args[self.nin :] or (out if isinstance(out, tuple) else () if out is None else (out,))
        hosts = [operand(value) for value in args[: self.nin]]
        words = {**kwargs, "out": tuple(map(parts, outs))} if outs else kwargs
        result = self._compute(*hosts, **words)
        return (outs[0] if len(outs) == 1 else outs) if outs else wrapped(result)

    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        if a.dtype.char not in ATOMIC.get(self.__name__, ""):
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet for {a.dtype}")
        key, _ = index(indices)
        if not isinstance(b, ndarray):
            COUNTS.uploads["value"] += 1
        self._compute.at(a._host, key, b._host if isinstance(b, ndarray) else b)

    def reduce(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.__name__}.reduce` is not supported yet")
        return (array.sum if self.__name__ == "add" else array.prod)(axis, dtype, out, keepdims)

    def accumulate(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.__name__}.accumulate` is not supported yet")
        return (array.cumsum if self.__name__ == "add" else array.cumprod)(axis, dtype, out)

    def outer(self, a: Any, b: Any, **kwargs: Any) -> Any:
        if set(kwargs) - set(NAMES["ufunc keywords"]):
            raise TypeError(f"{self.__name__}: Wrong arguments {kwargs}")
        return wrapped(self._compute.outer(parts(a), parts(b), **kwargs))

    def reduceat(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("reduceat is not modelled")


# --- the array ------------------------------------------------------------------------------------------------------


class ndarray:
    """An array that pretends to lie on a device."""

    __slots__ = ("__weakref__", "_host")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100
    __module__ = "cupy"

    def __init__(self, shape: Any, dtype: Any = float) -> None:
        self._host = np.empty(setting(shape), dtype)

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: wrapped(self._host.T))
    mT = property(lambda self: wrapped(self._host.mT))
    real = property(lambda self: wrapped(self._host.real))
    imag = property(lambda self: wrapped(self._host.imag))
    device = property(lambda self: DEVICE)
    data = property(lambda self: types.SimpleNamespace(ptr=self._host.ctypes.data))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a "
                        "NumPy array explicitly.")  # fmt: skip

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        for module in ("cupy", "cupyx.scipy.special"):
            if ufunc.__name__ in NAMES["modules"][module]:
                ours = getattr(sys.modules[module], ufunc.__name__)
                return ours(*inputs, **kwargs) if method == "__call__" else getattr(ours, method)(*inputs, **kwargs)
        return NotImplemented

    def __array_function__(self, func: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        module = func.__module__.replace("numpy", "cupy")
        if func.__name__ not in NAMES["modules"].get(module, ()):
            return NotImplemented
        return getattr(sys.modules[module], func.__name__)(*args, **kwargs)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[Any]:
        return map(wrapped, self._host)

    def __getitem__(self, key: Any) -> Any:
        return wrapped(self._host[index(key)[0]])

    def __setitem__(self, key: Any, value: Any) -> None:
        place, advanced = index(key)
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("a host array is not written into a device array: make it one with asarray")
        if advanced and not isinstance(value, ndarray):  # else a number goes with the kernel
            COUNTS.uploads["value"] += 1
        self._host[place] = operand(value)

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        COUNTS.sync("get")
        return self._host.copy(order)

    def fill(self, value: Any) -> None:
        self._host.fill(operand(value))

    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True) -> Any:
        made = self._host.astype(dtype, order=order, copy=copy)
        return self if made is self._host else wrapped(made)

    def scatter_add(self, slices: Any, value: Any) -> None:
        ufunc("add", np.add).at(self, slices, value)


def waits(kind: str, compute: Any) -> Any:
    """A method that gives the host a value."""

    def method(self: Any, *args: Any) -> Any:
        COUNTS.sync(kind)
        return compute(self._host, *args)

    return method


def unary(name: str) -> Any:
    return lambda self: getattr(sys.modules["cupy"], name)(self)


def binary(name: str) -> Any:
    return lambda self, other: getattr(sys.modules["cupy"], name)(self, other)


def swapped(name: str) -> Any:
    return lambda self, other: getattr(sys.modules["cupy"], name)(other, self)


def in_place(name: str) -> Any:
    def method(self: Any, other: Any) -> Any:
        getattr(np, name)(self._host, operand(other), out=self._host)
        return self

    return method


def delegated(name: str, parameters: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        hosts, words = checked(f"ndarray.{name}", parameters, args, kwargs, method=True)
        if name in SYNCS:
            COUNTS.sync(name)
        out = kwargs.get("out")
        result = getattr(self._host, name)(*hosts, **words)
        return out if out is not None else wrapped(result)

    return method


UNARY = {"abs": "absolute", "neg": "negative", "pos": "positive", "invert": "invert"}
BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "divmod": "divmod", "pow": "power", "matmul": "matmul", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift", "lt": "less",
    "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
}  # fmt: skip
WAITING = {"bool": bool, "float": float, "int": int, "complex": complex, "repr": repr, "str": str, "format": format}


def _complete() -> None:
    """Give the array the operators and methods of CuPy's, and no others."""
    for word, name in BINARY.items():
        for prefix, make in (("", binary), ("r", swapped), ("i", in_place)):
            dunder = f"__{prefix}{word}__"
            if dunder in NAMES["operators"] or hasattr(object, dunder):  # comparisons
                setattr(ndarray, dunder, make(name))
    for word, name in UNARY.items():
        setattr(ndarray, f"__{word}__", unary(name))
    for word, compute in WAITING.items():
        setattr(ndarray, f"__{word}__", waits(word, compute))
    for name in ("item", "tolist", "tobytes", "dumps"):
        setattr(ndarray, name, waits(name, operator.methodcaller(name)))
    for name, parameters in NAMES["ndarray"].items():
        if parameters is not None and name not in vars(ndarray) and hasattr(np.ndarray, name):
            setattr(ndarray, name, delegated(name, parameters))


_complete()


# --- the modules ----------------------------------------------------------------------------------------------------


class Device:
    """The one there is."""

    id, compute_capability = 0, "90"

    def __init__(self, device: int = 0) -> None:
        if device:
            raise ValueError(f"invalid device ordinal {device}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    def __hash__(self) -> int:
        return 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    use = __exit__

    def synchronize(self) -> None:
        COUNTS.sync("synchronize")


DEVICE = Device()


class Stream(Device):
    """A queue in which nothing ever waits."""

    ptr = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


class Kernel:
    """Source text for a device: it can be held, and neither compiled nor run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.arguments = args

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the stand-in for CuPy runs no kernels: this path needs a device")

    get_function = compile = __call__


def _empty(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    """Aligned as a device aligns, and full of what nobody may read: NaN."""
    shape, dtype = setting(shape), np.dtype(dtype)
    count = math.prod(shape if isinstance(shape, (tuple, list)) else (shape,)) * dtype.itemsize
    block = np.full(count + 512, 255, np.uint8)
    start = -block.ctypes.data % 512
    return wrapped(block[start : start + count].view(dtype).reshape(shape, order=order))


def _matmul(*args: Any, out: Any = None, dtype: Any = None, **kwargs: Any) -> Any:
    signature(NAMES["modules"]["cupy"]["matmul"]).bind(*args, **kwargs)
    result = np.matmul(*map(parts, args), out=_written(out), dtype=dtype, **kwargs)
    return wrapped(result) if out is None else out


def _dot(a: Any, b: Any, out: Any = None) -> Any:
    result = np.dot(parts(a), parts(b), out=_written(out))
    return wrapped(result) if out is None else out


def _written(out: Any) -> Any:
    """Where a product is written: CuPy refuses any order but C, or makes a copy."""
    if out is not None and not out.flags.c_contiguous:
        raise ValueError("Output array must be C-contiguous")
    return None if out is None else parts(out)


def _result_type(*args: Any) -> Any:
    return np.result_type(*(a._host if isinstance(a, ndarray) else a for a in args))


def _asnumpy(a: Any, *args: Any, **kwargs: Any) -> Any:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def _get_array_module(*args: Any) -> Any:
    return sys.modules["cupy"] if any(isinstance(a, ndarray) for a in args) else np


class _ErrState(contextlib.nullcontext[None]):
    """CuPy's own, which says nothing of floating point."""

    def __init__(self, **kwargs: Any) -> None:
        signature(NAMES["modules"]["cupyx"]["errstate"]).bind(**kwargs)
        super().__init__()


OWN: dict[str, Any] = {
    "cupy.ndarray": ndarray,
    "cupy.ufunc": ufunc,
    "cupy.array": lambda obj, dtype=None, copy=True, order="K": uploaded(obj, dtype, order, copy=copy),
    **{
        f"cupy.{name}": lambda a, dtype=None, order=None, *, copy=None: uploaded(a, dtype, order, copy=bool(copy))
        for name in ("asarray", "asanyarray")
    },
    "cupy.ascontiguousarray": lambda a, dtype=None: uploaded(a, dtype, "C"),
    "cupy.asfortranarray": lambda a, dtype=None: uploaded(a, dtype, "F"),
    "cupy.asnumpy": _asnumpy,
    "cupy.empty": _empty,
    "cupy.dot": _dot,
    "cupy.matmul": _matmul,
    "cupy.result_type": _result_type,
    "cupy.broadcast_shapes": np.broadcast_shapes,
    "cupy.get_array_module": _get_array_module,
    "cupy.is_available": lambda: True,
    **{f"cupy.{name}": Kernel for name in ("ElementwiseKernel", "ReductionKernel", "RawKernel", "RawModule")},
    "cupy.cuda.Device": Device,
    "cupy.cuda.Stream": Stream,
    "cupy.cuda.get_current_stream": Stream,
    "cupy.cuda.is_available": lambda: True,
    "cupy.cuda.runtime.getDevice": lambda: 0,
    "cupy.cuda.runtime.getDeviceCount": lambda: 1,
    "cupy.cuda.runtime.deviceSynchronize": DEVICE.synchronize,
    "cupyx.errstate": _ErrState,
    "cupyx.scatter_add": lambda a, slices, value: a.scatter_add(slices, value),
}
"""What is not NumPy's function of that name, given arrays of the device."""

MODULES = [*NAMES["modules"], "cupy.lib", "cupyx.scipy"]


def _found(module: str, name: str) -> Any:
    """An attribute of one of CuPy's modules: the stand-in's own, or NumPy's between host and device."""
    if name not in NAMES["modules"].get(module, ()):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    path = f"{module}.{name}"
    if path in OWN:
        return OWN[path]
    if module == "cupyx.scipy.special":
        compute = getattr(importlib.import_module("scipy.special"), name, None)
    else:
        compute = getattr(importlib.import_module(module.replace("cupy", "numpy")), name, None)
    parameters = NAMES["modules"][module][name]
    if name in NAMES["ufuncs"].get(module, ()) and isinstance(compute, np.ufunc):
        return ufunc(name, compute)
    if callable(compute) and parameters is not None:
        return function(name, parameters, compute)
    if isinstance(compute, (float, type(None))) or compute in (np.dtype, np.finfo, np.iinfo):
        return compute  # constants, newaxis
    if isinstance(compute, type) and issubclass(compute, np.generic) and compute not in (np.object_, np.longdouble):
        return compute
    raise NotImplementedError(f"CuPy has {path}, the stand-in does not model it")


def _module(name: str) -> types.ModuleType:
    made: Any = types.ModuleType(name)
    made.__spec__, made.__path__ = importlib.machinery.ModuleSpec(name, None), []
    made.__version__ = NAMES["version"]
    made.__getattr__ = functools.cache(functools.partial(_found, name))
    return made


@contextlib.contextmanager
def installed(own: Mapping[str, Any] | None = None) -> Iterator[Counts]:
    """The stand-in as the module `cupy`, with the counts of what happens to it.

    `own` gives attributes by their full names in place of the stand-in's, such as a "cupy.RawModule" that does run.
    """
    made = {name: _module(name) for name in MODULES}
    for path, attribute in (own or {}).items():
        module, _, name = path.rpartition(".")
        setattr(made[module], name, attribute)
    for name, module in made.items():
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(made[parent], last, module)
    COUNTS.reset()
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield COUNTS
    finally:  # other modules that were imported meanwhile stay
        for name, module in before.items():
            sys.modules.pop(name)
            sys.modules.update({} if module is None else {name: module})
