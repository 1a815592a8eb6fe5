"""The kernels without a device: compiled by NVRTC for cards of several kinds, and run on the host behind a stand-in."""

import ctypes
import importlib.util
import sys
from pathlib import Path

import kernel_emulation
import numpy as np
import pytest
import standin_cupy
from gpu_kernels import *  # noqa: F403

import lrp_ref as lrp
from lrp_ref.data import digits, digits_cnn
from lrp_ref.fast import device, kernels


def frugal(name):
    """A function of the stand-in's that refuses what CuPy would make a copy for."""

    def called(*args, out=None, **keywords):
        arrays = [a._host for a in args if hasattr(a, "_host")]
        for a in args:
            if out is not None and a is not out and hasattr(a, "_host"):
                assert not np.may_share_memory(a._host, out._host), "an argument shares memory with out, but is not out"
        if name in ("dot", "matmul"):
            assert out is None or out._host.flags.c_contiguous, "out is not in C order"
            assert len({a.dtype for a in arrays}) == 1
        if name == "dot":
            assert all(a.flags.c_contiguous or a.T.flags.c_contiguous for a in arrays), "neither in C nor in F order"
        found = standin_cupy._found("cupy", name)
        return found(*args, **keywords) if out is None else found(*args, out=out, **keywords)

    return called


@pytest.fixture
def cupy(monkeypatch):
    own = {f"cupy.{name}": frugal(name) for name in ("dot", "matmul", "add", "multiply", "maximum", "minimum")}
    monkeypatch.setattr(device, "_kernel", device._kernel.__wrapped__)  # what it keeps is a real CuPy's
    with standin_cupy.installed({"cupy.RawModule": kernel_emulation.RawModule, **own}):
        yield sys.modules["cupy"]


# --- NVRTC


def nvrtc():
    """The compiler's library from the wheel nvidia-cuda-nvrtc (CUDA 13) or nvidia-cuda-nvrtc-cu12."""
    try:
        found = importlib.util.find_spec("nvidia")
    except ImportError:
        found = None
    folders = list(found.submodule_search_locations) if found else []
    libraries = sorted(path for folder in folders for path in Path(folder).glob("*/lib*/libnvrtc*.so*"))
    builtins, libraries = (
        [path for path in libraries if "alt" not in path.name and ("builtins" in path.name) == wanted]
        for wanted in (True, False)
    )
    if not libraries:
        pytest.skip("needs NVRTC, to compile the kernels for a device: pip install nvidia-cuda-nvrtc")
    for path in builtins:  # not every version finds what lies beside it
        ctypes.CDLL(str(path))
    return ctypes.CDLL(str(libraries[-1]))


def compiled(source, *options):
    """The PTX; raises with the compiler's words."""
    library, program = nvrtc(), ctypes.c_void_p()
    nothing = ctypes.POINTER(ctypes.c_char_p)()
    name = ctypes.c_char_p(b"kernels.cu")
    assert not library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name, 0, nothing, nothing)
    given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = library.nvrtcCompileProgram(program, len(options), given)

    def text(what):
        size = ctypes.c_size_t()
        assert not getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        assert not getattr(library, f"nvrtcGet{what}")(program, buffer)
        return buffer.value.decode()

    if failed:
        raise ValueError(text("ProgramLog"))
    return text("PTX")


@pytest.mark.parametrize("card", ["sm_75", "sm_90"])
@pytest.mark.parametrize("number", ["float", "double"])
def test_every_kernel_is_compiled_for_a_device(number, card):
    ptx = compiled(kernels.source(), f"-DNUMBER={number}", f"--gpu-architecture=compute_{card[3:]}")
    for name in kernels.PARAMETERS:
        for packed in (False, True):
            assert f".entry {kernels.kernel_name(name, packed=packed)}(" in ptx
    assert f".target {card}" in ptx


def test_a_wrong_source_fails_with_the_compilers_words():
    wrong = kernels.source().replace("const Window w = WINDOW;", "const Window w = WIDOW;", 1)
    with pytest.raises(ValueError, match=r'kernels.cu\(\d+\): error: identifier "WIDOW" is undefined'):
        compiled(wrong, "-DNUMBER=float", "--gpu-architecture=compute_90")


# --- what a stand-in can see


@pytest.mark.parametrize("preset", ["epsilon_plus_flat", "epsilon_alpha2_beta1"])
def test_a_pass_waits_for_the_device_once(cupy, preset):
    """For whether the input is finite, before it starts; targets and books are not read."""
    x = cupy.asarray(digits().images[:3].astype("float32"))
    ready = lrp.prepare(digits_cnn().to("cuda"), getattr(lrp.presets, preset)(), x=x)
    standin_cupy.COUNTS.reset()
    e = ready.explain(x, [1, 2, 3], keep="input")
    assert standin_cupy.COUNTS.syncs == {"bool": 1}
    assert isinstance(e.ledger["conv1"].stabilizer, cupy.ndarray)
    assert "conv1" in str(e.ledger)


def test_no_result_depends_on_the_order_of_the_blocks(cupy, monkeypatch):
    x = cupy.asarray(digits().images[:3].astype("float32"))
    net, preset = digits_cnn().to("cuda"), lrp.presets.epsilon_plus()
    one = lrp.explain(net, x, preset).relevance.get()
    monkeypatch.setattr(kernel_emulation, "BACKWARDS", True)
    np.testing.assert_array_equal(lrp.explain(net, x, preset).relevance.get(), one)


def test_without_cupy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match="gpu-cuda12"):
        digits_cnn().to("cuda")
