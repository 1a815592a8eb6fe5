"""The kernels without a device: the very source that a device compiles, compiled by g++ and run a thread at a time.

Each thread of a block is a coroutine that hands on at ``__syncthreads``, so shared memory and barriers mean what they
mean on a device, and every access is to memory that numpy owns. Blocks run one after the other, in an order of choice:
no result may depend on it.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from lrp_ref.fast import kernels

HEAD = """
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <vector>
#include <setjmp.h>
#include <ucontext.h>
struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#define __device__ static
#define __shared__ static
static jmp_buf home, *running;
static void __syncthreads() { if (!_setjmp(*running)) _longjmp(home, 1); }
"""
TAIL = """
static const std::function<void()>* body;
static std::vector<char> done;
static void coroutine(int thread) /* made once: runs one body after the other */
{
    for (;;) {
        (*body)();
        done[thread] = 1;
        __syncthreads();
    }
}
static void launch(unsigned gx, unsigned gy, int backwards, const std::function<void()>& work)
{
    static std::vector<ucontext_t> contexts(THREADS);
    static jmp_buf places[THREADS];
    static std::vector<char> stacks((std::size_t)THREADS << 16);
    static bool made = false;
    body = &work;
    gridDim = {gx, gy, 1};
    blockDim = {THREADS, 1, 1};
    for (unsigned n = 0; n < gx * gy; n++) {
        const unsigned block = backwards ? gx * gy - 1 - n : n;
        blockIdx = {block % gx, block / gx, 0};
        done.assign(THREADS, 0);
        for (volatile unsigned left = THREADS; left;) {
            volatile unsigned still = 0;
            for (volatile unsigned t = 0; t < THREADS; t = t + 1) {
                if (done[t])
                    continue;
                threadIdx = {t, 0, 0};
                running = &places[t];
                if (!_setjmp(home)) {
                    if (made)
                        _longjmp(*running, 1);
                    getcontext(&contexts[t]);
                    contexts[t].uc_stack.ss_sp = &stacks[(std::size_t)t << 16];
                    contexts[t].uc_stack.ss_size = 1 << 16;
                    contexts[t].uc_link = nullptr;
                    makecontext(&contexts[t], (void (*)())coroutine, 1, (int)t);
                    setcontext(&contexts[t]);
                }
                still = still + !done[t];
            }
            made = true;
            if (still && still != left)
                abort(); /* a barrier that not all threads of the block reach */
            left = still;
        }
    }
}
"""
CTYPES = {"int": ctypes.c_int, "unsigned": ctypes.c_uint, "long long": ctypes.c_longlong, "double": ctypes.c_double}
BACKWARDS = False
"""Whether the last block runs first."""


def whole_source(source):
    """A program that g++ compiles, with a function that runs each kernel."""
    parts = [HEAD, source, TAIL]
    for name in kernels.PARAMETERS:
        for packed in (False, True):
            kernel, signature = kernels.kernel_name(name, packed=packed), kernels.signature(name, packed=packed)
            call = f"{kernel}({kernels.names(signature)})"
            parts.append(
                f'extern "C" void run_{kernel}(unsigned gx, unsigned gy, int backwards, {signature})\n'
                f"{{ launch(gx, gy, backwards, [=] {{ {call}; }}); }}\n"
            )
    return "\n".join(parts)


@functools.cache
def library(number, source=None):
    """The kernels for "float" or "double", as a shared library."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++, to compile the kernels for the host")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cpp"
        path.write_text(whole_source(source or kernels.source()), encoding="utf-8")
        made = path.with_suffix(".so")
        command = [
            "g++",
            "-std=c++17",
            "-O1",
            "-U_FORTIFY_SOURCE",
            "-ffp-contract=off",
            "-Wno-volatile",
            "-shared",
            "-fPIC",
        ]
        command += [f"-DNUMBER={number}", "-o", str(made), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        return ctypes.CDLL(str(made))


class Kernel:
    """What RawModule.get_function gives: called with a grid, a block and arguments."""

    def __init__(self, number, name):
        self.run = getattr(library(number), f"run_{name}")
        self.base, _, form = name.rpartition("_")
        self.packed = form == "packed"

    def __call__(self, grid, block, arguments, **unknown):
        assert not unknown
        assert tuple(block) == (kernels.THREADS,)
        assert len(grid) == 2
        assert all(n >= 1 for n in grid)
        assert grid[1] <= 65535
        given = [ctypes.c_uint(grid[0]), ctypes.c_uint(grid[1]), ctypes.c_int(BACKWARDS)]
        parameters = kernels.PARAMETERS[self.base].split(", ")
        assert len(parameters) == len(arguments)
        for parameter, argument in zip(parameters, arguments, strict=True):
            kind = parameter.rpartition(" ")[0]
            if "*" in kind:
                given.append(self._pointer(parameter, argument))
            else:
                size = ctypes.sizeof(CTYPES[kind])
                assert isinstance(argument, np.generic), f"{parameter}: a plain {type(argument).__name__} has no size"
                assert argument.dtype.itemsize == size, f"{parameter}: {argument.dtype}"
                assert (argument.dtype.kind == "f") == (kind == "double"), f"{parameter}: {argument.dtype}"
                given.append(CTYPES[kind](argument.item()))
        self.run(*given)

    def _pointer(self, parameter, argument):
        if isinstance(argument, np.generic):
            assert argument.dtype == np.uint64
            assert argument == 0
            return ctypes.c_void_p(None)
        address = argument.data.ptr
        if self.packed and " P*" in f" {parameter}":
            assert address % kernels.WIDTH == 0, f"{parameter} is not aligned"
        return ctypes.c_void_p(address)


class RawModule:
    """cupy.RawModule for the sources of this project."""

    def __init__(self, *, code, options=()):
        assert code == kernels.source()
        (define,) = options
        self.number = define.removeprefix("-DNUMBER=")

    def get_function(self, name):
        return Kernel(self.number, name)
