"""A stand-in for CuPy, as much as the device path of lrp_ref needs: numpy behind arrays that do not mix with its own.

Host arrays as operands raise, as with CuPy; what waits for a device (bool, float, item, get) is counted in `waits`.
Kernels are those of :mod:`kernel_emulation`.
"""

import sys
import types

import kernel_emulation
import numpy as np

waits = []


class _Data:
    def __init__(self, host):
        self.ptr = host.ctypes.data


class Device:
    """The only one."""

    id = 0

    def __init__(self, number=0):
        if number:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __eq__(self, other):
        return isinstance(other, Device)

    def __hash__(self):
        return 0

    def __str__(self):
        return "<CUDA Device 0>"


def inside(value):
    """What numpy is to see of an argument."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (list, tuple)):
        return type(value)(inside(each) for each in value)
    if isinstance(value, dict):
        return {key: inside(each) for key, each in value.items()}
    return value


def outside(value):
    """The same for a result: even a reduction to one number stays on the device."""
    if isinstance(value, (np.ndarray, np.generic)) and not isinstance(value, np.dtype):
        made = ndarray.__new__(ndarray)
        made._host = np.asarray(value)
        return made
    if isinstance(value, (list, tuple)):
        return type(value)(outside(each) for each in value)
    return value


def _no_copies(args, out):
    """CuPy's elementwise functions copy an argument that shares memory with `out` and is not the same object."""
    for a in args:
        if isinstance(a, ndarray) and isinstance(out, ndarray) and a is not out:
            assert not np.may_share_memory(a._host, out._host), "CuPy would make a copy"


def _waiting(name, convert):
    def method(self, *args):
        waits.append(name)
        return convert(self._host, *args)

    return method


def _forwarded(name):
    def method(self, *args, **kwargs):
        refuse = {"where", "initial"}.intersection(kwargs)
        assert not refuse, f"{name} has no {refuse} in CuPy"
        return outside(getattr(self._host, name)(*inside(args), **inside(kwargs)))

    return method


class ndarray:
    """cupy.ndarray."""

    __array_priority__ = 100
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: types.SimpleNamespace(c_contiguous=self._host.flags.c_contiguous))
    T = property(lambda self: outside(self._host.T))
    data = property(lambda self: _Data(self._host))
    device = property(lambda self: Device())

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        assert method == "__call__", f"{ufunc.__name__}.{method}"
        assert "where" not in kwargs, "ufuncs have no where in CuPy"
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = inside(tuple(out))
        result = ufunc(*inside(args), **inside(kwargs))
        return out[0] if out is not None else outside(result)

    def __getitem__(self, index):
        return outside(self._host[inside(index)])

    def __setitem__(self, index, value):
        self._host[inside(index)] = inside(value)

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def get(self):
        waits.append("get")
        return self._host.copy()

    __bool__ = _waiting("bool", bool)
    __float__ = _waiting("float", float)
    __int__ = _waiting("int", int)
    item = _waiting("item", lambda host, *args: host.item(*args))
    tolist = _waiting("tolist", lambda host: host.tolist())
    __hash__ = None


_BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "matmul"]
_OTHERS = ["neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne"]
for _name in [*_BINARY, *(f"r{n}" for n in _BINARY), *(f"i{n}" for n in _BINARY if n != "matmul"), *_OTHERS]:
    setattr(ndarray, f"__{_name}__", _forwarded(f"__{_name}__"))
for _name in [
    "sum",
    "max",
    "min",
    "mean",
    "any",
    "all",
    "prod",
    "argmax",
    "argmin",
    "astype",
    "reshape",
    "transpose",
    "swapaxes",
    "copy",
    "ravel",
    "nonzero",
    "repeat",
    "squeeze",
    "clip",
    "cumsum",
    "take",
    "view",
    "fill",
]:
    setattr(ndarray, _name, _forwarded(_name))
ndarray.__module__ = "cupy"


def _function(name):
    numpys = getattr(np, name)

    def function(*args, **kwargs):
        assert not {"where", "initial"}.intersection(kwargs), f"{name} has no such keyword in CuPy"
        out = kwargs.get("out")
        _no_copies(args, out)
        result = numpys(*inside(args), **inside(kwargs))
        return out if out is not None else outside(result)

    return function


def _dot(a, b, out):
    """Of matrices in C or F order, of which CuPy makes no copy; out must be in C order."""
    assert out.flags.c_contiguous
    assert a.ndim == b.ndim == 2
    assert all(each.flags.c_contiguous or each.T.flags.c_contiguous for each in (a, b)), "CuPy would make a copy"
    return _matmul(a, b, out)


def _matmul(a, b, out=None):
    """Out only in C order, as CuPy honours it."""
    assert out is None or out.flags.c_contiguous, "matmul: out must be in C order, else CuPy makes a copy"
    assert a.dtype == b.dtype
    result = np.matmul(a._host, b._host, out=None if out is None else out._host)
    return out if out is not None else outside(result)


def module():
    """A module named cupy."""
    made = types.ModuleType("cupy")
    for name in [
        "add",
        "subtract",
        "multiply",
        "divide",
        "maximum",
        "minimum",
        "copysign",
        "sqrt",
        "exp",
        "log",
        "log1p",
        "expm1",
        "tanh",
        "abs",
        "isfinite",
        "where",
        "concatenate",
        "stack",
        "broadcast_to",
        "ascontiguousarray",
        "take_along_axis",
        "expand_dims",
        "repeat",
        "sign",
        "dot",
        "tensordot",
        "einsum",
        "pad",
        "moveaxis",
        "zeros_like",
        "ones_like",
        "empty_like",
        "argmax",
        "argmin",
        "floor",
        "ceil",
        "power",
        "logical_and",
        "logical_or",
    ]:
        setattr(made, name, _function(name))
    for name in ("zeros", "ones", "full", "arange"):
        setattr(made, name, _function(name))

    def empty(shape, dtype=float):
        dtype = np.dtype(dtype)  # aligned as a device's allocations are, and full of what nobody may read
        count = int(np.prod(shape)) * dtype.itemsize
        block = np.full(count + 512, 255, np.uint8)
        start = -block.ctypes.data % 512
        return outside(block[start : start + count].view(dtype).reshape(shape))

    def asarray(value, dtype=None):
        host = value._host if isinstance(value, ndarray) else np.asarray(value)
        if isinstance(value, ndarray) and (dtype is None or host.dtype == dtype):
            return value
        if host.dtype == object:
            raise ValueError("Unsupported dtype object")
        out = empty(host.shape, dtype or host.dtype)
        out._host[...] = host
        return out

    runtime = types.SimpleNamespace(getDevice=lambda: 0)
    made.empty, made.asarray, made.array, made.matmul, made.dot = empty, asarray, asarray, _matmul, _dot
    made.ndarray, made.RawModule = ndarray, kernel_emulation.RawModule
    made.cuda = types.SimpleNamespace(Device=Device, runtime=runtime)
    return made


def install(monkeypatch):
    """``import cupy`` gives this; what the library keeps of the real one is set aside."""
    from lrp_ref.fast import device

    made = module()
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setattr(device, "_kernel", device._kernel.__wrapped__)
    waits.clear()
    return made
