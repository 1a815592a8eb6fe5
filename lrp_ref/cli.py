"""``lrp-ref``: the digits explained under four sets of rules (demo), one explanation at a time (explain), the Taylor
expansion behind it held against it (verify), what is certain of it (certify), known answers for other frameworks
(vectors), and other frameworks held to them (conform) or arrays of theirs explained (compare).

Exit codes: 0 good; 1 a check failed; 2 wrong use or bad input; 130 interrupted. An error is one line.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from . import presets
from .errors import LrpError
from .files import written_whole
from .text import near, table

if TYPE_CHECKING:
    from .arrays import Array
    from .composites import Composite
    from .explain import Explanation
    from .graph import Graph
    from .ledger import Ledger
    from .loaders.image import Preprocessing
    from .propagate import Rule
    from .theory.domains import Domain
    from .theory.dtd import NodeReport, Report

COMPOSITES: Mapping[str, Callable[..., Composite]] = {
    "epsilon_plus": presets.epsilon_plus,
    "epsilon_plus_flat": presets.epsilon_plus_flat,
    "epsilon_alpha2_beta1": presets.epsilon_alpha2_beta1,
    "epsilon_alpha2_beta1_flat": presets.epsilon_alpha2_beta1_flat,
    "epsilon_gamma_box": presets.epsilon_gamma_box,
    "excitation_backprop": presets.excitation_backprop,
    "chapter_vgg16": presets.chapter_vgg16,
    "tutorial_vgg16": presets.tutorial_vgg16,
    "tutorial_mlp": presets.tutorial_mlp,
}
"""What ``--composite`` may name."""

MODELS = {"digits-cnn": "digits_cnn", "digits-mlp": "digits_mlp"}
"""What ``--model`` may name: functions of :mod:`lrp_ref.data`."""

PARTS = ("came", "went", "bias", "stabilizer", "unclaimed", "edited", "amplification")
"""The columns of the books."""


class CheckFailed(Exception):
    """Books that do not close, or an identity that does not hold."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LrpError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = _parser().parse_args(argv)
        with warnings.catch_warnings(action="default"):
            warnings.showwarning = lambda message, *_, **__: _complain(f"warning: {message}")
            print(options.run(options), flush=True)
        return 0
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:  # whoever read our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--traceback" in argv:
            sys.excepthook(type(error), error, error.__traceback__)
        foreseen = isinstance(error, (CheckFailed, ValueError, OSError, ImportError))
        _complain(f"{error}" if foreseen else f"{type(error).__name__}: {error}")
        return 1 if isinstance(error, CheckFailed) else 2


def _complain(message: str) -> None:
    print("lrp-ref:", " ".join(message.split()), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = _Parser(prog="lrp-ref", description="Layer-wise relevance propagation, by the reference.")
    parser.add_argument("--version", action="version", version=f"lrp-ref {__version__}")
    words = "demo | explain | verify | certify | vectors | conform | compare"
    commands = parser.add_subparsers(title="commands", metavar=words, required=True)

    demo = commands.add_parser("demo", allow_abbrev=False, help="explain ten digits under four sets of rules")
    demo.set_defaults(run=_demo)
    demo.add_argument("--out", type=Path, default=Path("demo-output"), metavar="DIR", help="default: demo-output")

    composites = "composites:\n  " + "\n  ".join(COMPOSITES) + "\n  or one rule for all, as it prints:"
    composites += ' "Epsilon(epsilon=0.1)", "ZPlus()", ...'

    def of_one_input(name: str, about: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            allow_abbrev=False,
            help=about,
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=composites,
        )

    one = of_one_input("explain", "explain one input, and print rules and books")
    one.set_defaults(run=_explain)
    _what_is_explained(one)
    one.add_argument("--out", type=Path, metavar="PNG", help="write the heatmap to this file")
    one.add_argument("--overlay", action="store_true", help="draw it over the input in place of beside it")

    held = of_one_input("verify", "hold one explanation against its deep Taylor decomposition, neuron by neuron")
    held.set_defaults(run=_verify)
    _what_is_explained(held)
    held.add_argument(
        "--reading",
        default="extended",
        metavar="extended|physical",
        help="whether the bias is a coordinate that moves, or only inputs move; default: extended",
    )
    held.add_argument(
        "--domain",
        metavar="R|R+|LOW,HIGH",
        help="where the network's inputs may lie (--domain=-1,1 if it begins with a minus); "
        "default: the box of a z-box, R+ behind a ReLU, else R",
    )
    held.add_argument("--nodes", metavar="A,B", help="ask about these nodes only")
    held.add_argument("--units", type=int, metavar="N", help="only the N neurons of greatest |R| of each node")
    held.add_argument("--no-context", action="store_true", help="do not run the network above from each root")
    held.add_argument("--full", action="store_true", help="run the full recursion, however long it takes")
    held.add_argument("--out", type=Path, metavar="DIR|PNG", help="write a page and its picture here, or the picture")
    sure = of_one_input("certify", "enclose the exactly computed relevance of one input, and print what is certain")
    sure.set_defaults(run=_certify)
    _what_is_explained(sure)
    sure.add_argument("--top", type=int, default=10, metavar="K", help="how many of the greatest to print; default: 10")
    sure.add_argument("--radius", type=float, default=2.0**-60, help="wanted, relative to max|R|; default: 2^-60")
    sure.add_argument("--threads", type=int, help="of the contractions; default: one")
    sure.add_argument("--out", type=Path, metavar="NPZ", help="write the enclosures here, as midpoints and radii")

    known = commands.add_parser("vectors", allow_abbrev=False, help="known answers that any framework can be held to")
    what = known.add_subparsers(title="commands", metavar="export", required=True)
    export = what.add_parser("export", allow_abbrev=False, help="write the conformance vectors into a new folder")
    export.set_defaults(run=_export)
    export.add_argument("folder", type=Path, metavar="DIR", help="a folder that is not there yet")
    for command in (demo, one, held, sure, export, *_of_others(commands, of_one_input)):
        command.add_argument("--traceback", action="store_true", help="show where an error arose")
    return parser


def _of_others(
    commands: Any, of_one_input: Callable[[str, str], argparse.ArgumentParser]
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The commands that are about other frameworks."""
    asked = commands.add_parser(
        "conform", allow_abbrev=False, help="hold another framework to the conformance vectors",
        description="Hold another framework to the conformance vectors, or its golden files to lrp_ref. Exits "
        "with 1 if a case differs, or agrees with a variant alone.",
    )  # fmt: skip
    asked.set_defaults(run=_conform)
    asked.add_argument(
        "who", metavar="zennit|captum|lxt|innvestigate-golden|julia-golden|ADAPTER.py",
        help="a framework that is installed (dependency group peers), golden files, or a file of Python that defines "
        "relevance(case), whose code is run",
    )  # fmt: skip
    asked.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="of the golden files")
    asked.add_argument("--groups", metavar="A,B", help="these groups of the vectors only")
    asked.add_argument("--json", action="store_true", help="print one JSON document in place of text")
    asked.add_argument("--markdown", type=Path, metavar="FILE", help="write the report here too")

    theirs = of_one_input("compare", "say whether another framework's relevance is ours, and if not, why")
    theirs.set_defaults(run=_compare)
    theirs.add_argument(
        "theirs", type=Path, metavar="NPZ",
        help="one array, the relevance of the input; or several by the names of nodes and inputs",
    )  # fmt: skip
    _what_is_explained(theirs)
    return asked, theirs


def _what_is_explained(command: argparse.ArgumentParser) -> None:
    """The options of every command that explains one input."""
    command.add_argument(
        "--model", default="digits-cnn", help=f"{', '.join(MODELS)}, or an .onnx file; default: digits-cnn"
    )
    command.add_argument(
        "--input", required=True, metavar="N|FILE", help="a row of the digits, an input in a .npy file, a PNG or a JPEG"
    )
    command.add_argument("--composite", default="epsilon_gamma_box", help="see below; default: epsilon_gamma_box")
    command.add_argument("--target", default="argmax", metavar="K|argmax", help="the class explained; default: argmax")
    command.add_argument(
        "--low", type=float, help="least value that an input can have, for a z-box; default: a black pixel's"
    )
    command.add_argument("--high", type=float, help="greatest; default: a white pixel's")
    command.add_argument("--labels", type=Path, metavar="FILE", help="the names of the classes, one a line")
    command.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="default: float64")
    command.add_argument(
        "--exact", action="store_true", help="compute in rational numbers, and check that the books close"
    )
    command.add_argument("--json", action="store_true", help="print one JSON document in place of text")
    image = command.add_argument_group("how the pixels of a PNG or JPEG become numbers: (scale * pixel - mean) / std")
    image.add_argument("--preprocessing", type=Path, metavar="FILE", help="JSON with any of what follows")
    image.add_argument("--size", help="resize to HEIGHTxWIDTH")
    image.add_argument("--order", help="rgb, bgr or gray; default: rgb")
    image.add_argument("--scale", help="default: 1/255")
    image.add_argument("--mean", help="a number, or one a channel: 0.485,0.456,0.406; default: 0")
    image.add_argument("--std", help="likewise; default: 1")
    image.add_argument(
        "--layout", help="channels_first or channels_last, as the network reads it; default: channels_first"
    )


def _export(options: argparse.Namespace) -> str:
    import json

    from .oracle.vectors import VERSION, export

    folder = export(options.folder)
    about = json.loads((folder / "manifest.json").read_text())
    groups = ", ".join(f"{name} {group['tests']}" for name, group in about["groups"].items())
    return f"vectors {VERSION}: {about['numberOfTests']} tests ({groups})\nin {os.path.relpath(folder)}: see README.md"


# --- other frameworks ----------------------------------------------------------------------------

GOLDEN = {"innvestigate-golden": "innvestigate", "julia-golden": "julia"}
"""Golden files: functions of :mod:`lrp_ref.oracle.peers.golden`."""


def _conform(options: argparse.Namespace) -> str:
    """After Ctrl-C what is done is printed."""
    import json

    from .oracle.conform import Report, Verdict, verdicts

    relevance, cases, total, about = _held(options)
    done: list[Verdict] = []
    interrupted = False
    try:
        for verdict in verdicts(relevance, cases, total):
            done.append(verdict)
    except KeyboardInterrupt:
        interrupted = True
    report = Report(verdicts=tuple(done), **about)
    if options.markdown:
        _write(options.markdown, report.markdown())
    said = json.dumps(report.to_dict(), allow_nan=False) if options.json else str(report)
    counts = report.counts
    if interrupted or counts["variant"] or counts["differs"]:
        print(said, flush=True)
    if interrupted:
        raise KeyboardInterrupt
    if off := counts["variant"] + counts["differs"]:
        raise CheckFailed(f"{off} of {len(done)} cases are not what the rule of that name gives")
    return said


def _held(options: argparse.Namespace) -> tuple[Any, Any, int, dict[str, str]]:
    """The adapter, the cases and how many, and what the report is told."""
    from .oracle import peers
    from .oracle.peers import golden
    from .oracle.vectors import read

    who, groups = options.who, options.groups.split(",") if options.groups else None
    if (who in GOLDEN) != bool(options.folder):
        raise LrpError(f"{who}: name the folder of the golden files" if who in GOLDEN else f"{who}: needs no folder")
    if who in GOLDEN:
        if groups:
            raise LrpError(f"--groups are of the vectors, and {who} is not held to them")
        cases, relevance, left = golden.held(getattr(golden, GOLDEN[who])(options.folder))
        if not cases:
            raise LrpError(f"{options.folder}: no golden files of {GOLDEN[who]} in it")
        for name, why in left.items():
            _complain(f"left out: {name}: {why}")
        return relevance, cases, len(cases), {"name": who, "version": "", "against": "lrp_ref"}
    if who in peers.PEERS:
        relevance, version = peers.adapter(who), peers.version_of(who)
    elif who.endswith(".py"):
        relevance, version = _adapter_of(Path(who)), ""
    else:
        raise LrpError(f"no framework {who!r}{near(who, [*peers.PEERS, *GOLDEN])}; or a file ADAPTER.py")
    count = read.count(groups)
    return relevance, read.cases(groups), count, {"name": Path(who).stem, "version": version}


def _adapter_of(path: Path) -> Any:
    """The function `relevance` of a file of Python."""
    from importlib.util import module_from_spec, spec_from_file_location

    if not path.is_file():
        raise LrpError(f"{path}: there is no such file")
    _complain(f"running the code of {path}")
    spec = spec_from_file_location("lrp_ref_adapter", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(relevance := getattr(module, "relevance", None)):
        raise LrpError(f"{path} defines no function relevance(case)")
    return relevance


def _compare(options: argparse.Namespace) -> str:
    """The network before it is canonized, of which the diagnosis can then say that it was not."""
    import json

    from .oracle import diagnose

    if options.exact:
        raise LrpError("--exact: their relevance is in floats, and is compared in floats")
    one = _explained(options)
    graph = _model(options.model)
    theirs = _theirs(options.theirs, graph, one.explanation)
    found = diagnose(graph, one.x, one.composite, one.about["target"], theirs)
    about = {**one.about, **found.to_dict(), "versions": _versions()}
    said = json.dumps(_finite(about), allow_nan=False) if options.json else "\n".join([*one.lines, "", str(found)])
    if found.verdict == "agree":
        return said
    print(said, flush=True)
    raise CheckFailed(f"{options.theirs} is not the relevance by {options.composite}")


def _theirs(path: Path, graph: Graph, explanation: Explanation) -> dict[str, Array]:
    """The arrays of a file by name, a lone one under that of the input; a batch axis of 1 may be left out."""
    import numpy as np

    try:
        loaded = np.load(path)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError) as error:
        raise LrpError(f"{path}: no file of arrays that can be read: {error}") from None
    names = {*graph.inputs, *(node.name for node in graph.nodes), *graph.aliases}
    if len(arrays) == 1 and not names & arrays.keys():
        arrays = {graph.inputs[0]: next(iter(arrays.values()))}
    known = explanation.relevances
    return {name: R[None] if name in known and R.shape == known[name].shape[1:] else R for name, R in arrays.items()}


# --- one explanation ------------------------------------------------------------------------------


class _One(NamedTuple):
    """One explanation, and what is said about it."""

    explanation: Explanation
    seconds: float
    about: dict[str, Any]
    lines: list[str]
    title: str
    picture: Array
    pixels: Preprocessing | None
    x: Array
    composite: Composite | Rule


def _explained(options: argparse.Namespace) -> _One:
    """The explanation that the options ask for; with --exact its books are checked."""
    from time import perf_counter

    from .arrays import exact, floats
    from .explain import explain

    graph, target, pixels = _model(options.model), _target(options.target), _preprocessing(options)
    composite = _composite(options, pixels)
    x, name, picture = _input(options.input, options.model, pixels)
    x = x.astype(options.dtype)

    started = perf_counter()
    explanation = explain(graph, exact(x) if options.exact else x, composite, target)
    seconds = perf_counter() - started
    if options.exact and (fault := unbalanced(explanation)):
        raise CheckFailed(f"the books do not balance: {fault}")

    logits = floats(explanation.output)[0]
    if logits.ndim != 1:
        raise LrpError(f"the output has shape {logits.shape}, not one logit a class")
    names = _labels(options.labels, len(logits))
    best = int(logits.argmax())
    explained = best if target is None else target % len(logits)
    found = {"class": best, "logits": logits.tolist(), **({"label": names[best]} if options.labels else {})}
    about = {"model": options.model, "input": name, "prediction": found, "target": explained}
    about["composite"] = options.composite
    lines = [
        f"{options.model}, {name}: class {names[best]}",
        _logits(logits, names),
        f"explained: logit {names[explained]} by {options.composite}",
    ]
    title = f"{name}: logit {names[explained]}, {options.composite}"
    return _One(explanation, seconds, about, lines, title, picture, pixels, x, composite)


def _explain(options: argparse.Namespace) -> str:
    from .show import save_heatmap

    if options.overlay and not options.out:
        raise LrpError("--overlay draws the picture that --out names: give both")
    explanation, seconds, about, lines, title, picture, pixels, *_ = _explained(options)
    if options.out:
        R = _as_picture(explanation.relevance, pixels)
        save_heatmap(options.out, R, image=picture, overlay=options.overlay, title=title)
        about["picture"] = str(options.out)
    if options.json:
        return _document(explanation, about, seconds if options.exact else None)
    lines += [f"\n{explanation.rules}", f"\n{explanation.ledger}", f"\n{_total(explanation.ledger)}"]
    if options.exact:
        lines.append(
            f"exact: {seconds:.2f} s in rationals ({_carrier(explanation)}); "
            f"the books balance with == at every node, at every fan-in and end to end"
        )
    if options.out:
        lines.append(f"picture: {options.out}")
    return "\n".join(lines)


def unbalanced(explanation: Explanation) -> str | None:
    """The first place where the books do not close with ``==``, and by how much; None if they close."""
    from .arrays import fractions, sample_sums

    ledger = explanation.ledger
    rests = {f'node "{entry.node}", came - went - absorbed': entry.balance() for entry in ledger}
    rests |= {f'node "{name}", came - sent by its readers': rest for name, rest in ledger.fan_in().items()}
    rests |= {
        f'input "{name}", sum of the map - arrived': sample_sums(explanation.at(name)) - arrived
        for name, arrived in ledger.arrived.items()
    }
    rests["start - arrived - absorbed"] = ledger.balance()
    for place, rest in rests.items():
        for off in fractions(rest):
            if off != 0:
                return f"{place} is {float(off):.3g}, not 0"
    return None


def _named(name: str, names: Sequence[str], what: str) -> str:
    if name not in names:
        raise LrpError(f"no {what} {name!r}{near(name, names)}")
    return name


def _model(name: str) -> Graph:
    from . import data
    from .io import from_onnx

    if Path(name).suffix.lower() == ".onnx":
        return from_onnx(name)
    graph: Graph = getattr(data, MODELS[_named(name, list(MODELS), "model")])()
    return graph


def _preprocessing(options: argparse.Namespace) -> Preprocessing | None:
    """How pixels become numbers, if the input is an image file: from --preprocessing, and the options over it."""
    from dataclasses import replace

    from .loaders.image import SUFFIXES, Preprocessing

    names = ("size", "order", "scale", "mean", "std", "layout")
    given = {name: text for name in names if (text := getattr(options, name)) is not None}
    if Path(options.input).suffix.lower() not in SUFFIXES:
        if given or options.preprocessing:
            raise LrpError(f"--{next(iter(given), 'preprocessing')} is for images, and {options.input} is none")
        return None
    try:
        if "size" in given:
            given["size"] = tuple(int(n) for n in given["size"].split("x"))
        for name in {"scale", "mean", "std"} & given.keys():
            numbers = tuple(float(n) for n in given[name].split(","))
            given[name] = numbers[0] if len(numbers) == 1 else numbers
    except ValueError:
        raise LrpError(f"--size is like 227x227; --scale, --mean and --std are numbers: got {given}") from None
    pixels = Preprocessing.read(options.preprocessing) if options.preprocessing else Preprocessing()
    return replace(pixels, **given)


def _labels(path: Path | None, count: int) -> Sequence[str]:
    """A name for each class: its number, and its label if there is a file of them."""
    if path is None:
        return [str(k) for k in range(count)]
    from .loaders.image import labels

    names = labels(path)
    if len(names) < count:
        raise LrpError(f"{path}: {len(names)} labels for {count} classes")
    return [f"{k} ({name})" for k, name in zip(range(count), names, strict=False)]


def _logits(logits: Array, names: Sequence[str], most: int = 10) -> str:
    """All logits, or the greatest."""
    order = range(len(logits)) if len(logits) <= most else logits.argsort()[::-1][:most]
    head = "logits" if len(logits) <= most else f"greatest of {len(logits)} logits"
    return f"{head}: " + "  ".join(f"{names[k]}: {logits[k]:.4g}" for k in order)


def _as_picture(R: Array, pixels: Preprocessing | None) -> Array:
    """Relevance with its channels first."""
    return R.transpose(0, 3, 1, 2) if pixels is not None and pixels.layout == "channels_last" else R


def _composite(options: argparse.Namespace, pixels: Preprocessing | None) -> Composite | Rule:
    from inspect import signature

    from . import rules
    from .store import parse

    text = options.composite
    bounds = {name: value for name in ("low", "high") if (value := getattr(options, name)) is not None}
    rule, call, _ = text.partition("(")
    if not call and "low" in signature(COMPOSITES[_named(text, list(COMPOSITES), "composite")]).parameters:
        low, high = (0, 1) if pixels is None else pixels.bounds()
        return COMPOSITES[text](**{"low": low, "high": high, **bounds})
    if bounds:
        raise LrpError(f"--low and --high are for the presets with a z-box; {text} takes no bounds from them")
    if not call:
        return COMPOSITES[text]()
    _named(rule.strip(), rules.__all__, "rule")
    try:
        return parse(text)
    except (ValueError, TypeError, SyntaxError) as error:
        raise LrpError(f"--composite {text}: {error}") from error


def _target(text: str) -> int | None:
    if text == "argmax":
        return None
    try:
        return int(text)
    except ValueError:
        raise LrpError(f"--target {text}: give a class such as 3, or argmax") from None


def _input(text: str, model: str, pixels: Preprocessing | None) -> tuple[Array, str, Array]:
    """One input as the model reads it, in float64 and with a batch axis; its name, and how it looks."""
    import numpy as np

    from .data import digits

    if pixels is not None:
        x = pixels.image(text)
        return x, Path(text).name, pixels.picture(x).transpose(2, 0, 1)
    if text.lstrip("-").isdecimal():
        shipped, row = digits(), int(text)
        if not 0 <= row < len(shipped.labels):
            raise LrpError(f"--input {text}: the digits have rows 0 to {len(shipped.labels) - 1}")
        x = shipped.images[[row]].astype(np.float64)
        return x, f"row {row} (label {shipped.labels[row]})", x
    try:
        array: Array = np.lib.format.open_memmap(text, mode="r")  # never unpickles, and never reads beyond the file
    except ValueError as error:
        raise LrpError(f"{text}: {error}") from error
    if array.dtype.kind not in "fiu":
        raise LrpError(f"{text}: {array.dtype}; need numbers")
    if model in MODELS:
        shapes = [(8, 8), (1, 8, 8), (1, 1, 8, 8), *([(64,)] if model == "digits-mlp" else [])]
        if array.shape not in shapes:
            raise LrpError(
                f"{text}: {array.dtype} of shape {array.shape}; need numbers of shape {' or '.join(map(str, shapes))}"
            )
        array = array.reshape(1, 1, 8, 8)
    if len(array) != 1:
        raise LrpError(f"{text}: a batch of {len(array)}; this explains one input, of shape (1, ...)")
    x = np.array(array, dtype=np.float64)
    return x, Path(text).name, x


def _carrier(explanation: Explanation) -> str:
    output: Array = explanation.output
    return "python-flint" if hasattr(output.flat[0], "p") else "fractions.Fraction"


def _total(ledger: Ledger, sample: int = 0) -> str:
    """The books of one sample in one line."""
    from .arrays import floats

    def number(value: Array) -> str:
        return f"{floats(value)[sample]:.6g}"

    sums = {part: number(sum(getattr(entry, part) for entry in ledger)) for part in ("bias", "stabilizer", "unclaimed")}
    absorbed = ", ".join(f"{part} {value}" for part, value in sums.items())
    start, arrived = sum(ledger.start.values()), sum(ledger.arrived.values())
    return (
        f"total: {number(start)} put in = {number(arrived)} arrived at the input "
        f"+ {number(ledger.absorbed)} absorbed ({absorbed}); left over: {number(ledger.balance())}"
    )


def _document(explanation: Explanation, about: Mapping[str, Any], seconds: float | None) -> str:
    """Everything as JSON; exact numbers once more as "numerator/denominator" in hexadecimal."""
    import json

    import numpy as np

    from .arrays import floats

    def books(number: Callable[[Array], Any]) -> dict[str, Any]:
        ledger, relevance = explanation.ledger, cast("Array", explanation.relevance)
        ends: dict[str, Array] = {"start": sum(ledger.start.values()), "arrived": sum(ledger.arrived.values())}
        ends |= {"absorbed": ledger.absorbed, "balance": ledger.balance()}
        return {
            "relevance": number(relevance[0]),
            **{name: number(value[0]) for name, value in ends.items()},
            "ledger": [
                {
                    "node": entry.node,
                    **{part: number(getattr(entry, part)[0]) for part in PARTS},
                    "balance": number(entry.balance()[0]),
                    "sent": {source: number(amount[0]) for source, amount in entry.sent.items()},
                    "poles": int(entry.poles[0]),
                    "empty": int(entry.empty[0]),
                }
                for entry in ledger
            ],
        }

    document = {
        **about,
        "rules": {name: repr(rule) for name, rule in explanation.rules.items()},
        **books(lambda value: floats(np.asarray(value)).tolist()),
        "versions": _versions(),
    }
    if seconds is not None:
        document["exact"] = {"seconds": seconds, "carrier": _carrier(explanation), **books(_hexadecimal)}
    return json.dumps(document, allow_nan=False)


def _versions() -> dict[str, str]:
    import platform

    import numpy as np

    from . import __version__

    return {"lrp_ref": __version__, "numpy": np.__version__, "python": platform.python_version()}


def _hexadecimal(value: Any) -> Any:
    """A rational, or nested lists of them, as text: hexadecimal, as Python limits decimals to 4300 digits."""
    import numpy as np

    from .arrays import fractions

    flat = fractions(np.asarray(value, dtype=object)).reshape(-1)
    texts = np.array([f"{number.numerator:x}/{number.denominator:x}" for number in flat], dtype=object)
    return texts.reshape(np.shape(value)).tolist()


# --- its deep Taylor decomposition ----------------------------------------------------------------


def _verify(options: argparse.Namespace) -> str:
    import json
    from time import perf_counter
    from typing import get_args

    from .theory import dtd
    from .theory.roots import Reading

    reading = cast("Reading", _named(options.reading, get_args(Reading), "reading"))
    domain = _domain(options.domain)
    if options.units is not None and options.units < 1:
        raise LrpError(f"--units {options.units}: give 1 or more")
    explanation, seconds, about, lines, *_ = _explained(options)
    started = perf_counter()
    report = dtd.verify(
        explanation,
        reading,
        domain,
        nodes=options.nodes.split(",") if options.nodes else None,
        units=options.units,
        context=not options.no_context,
        full=options.full or None,
    )
    seconds += perf_counter() - started

    exact = f"exact: {seconds:.2f} s in rationals ({_carrier(explanation)})" if options.exact else ""
    files = _pages(options.out, report, lines) if options.out else {}
    if options.json:
        document = {**about, **files, **report.to_dict(), "versions": _versions()}
        if options.exact:
            document["exact"] = {"seconds": seconds, "carrier": _carrier(explanation)}
        said = json.dumps(_finite(document), allow_nan=False)
    else:
        parts = [*lines, f"\n{report}", exact, *(f"{what}: {path}" for what, path in files.items())]
        said = "\n".join(filter(None, parts))
    if broken := report.broken():
        print(said, flush=True)
        raise CheckFailed(f"the {reading} reading does not hold: {'; '.join(broken)}")
    return said


def _certify(options: argparse.Namespace) -> str:
    """The network certified is the one that was run, in the dtype asked for."""
    import json
    import math
    from time import perf_counter

    import numpy as np

    from .composites import Composite, as_composite
    from .oracle import certify

    if options.top < 1:
        raise LrpError(f"--top {options.top}: give 1 or more")
    one = _explained(options)
    started = perf_counter()
    found = certify(
        cast("Graph", one.explanation.graph), one.x, Composite(as_composite(one.composite).cases), one.about["target"],
        radius=options.radius, threads=options.threads, engine="rationals" if options.exact else None,
    )  # fmt: skip
    seconds = perf_counter() - started
    signs, radii, scale = found.sign(), found.radius(), found.scale()
    widest = float(radii.max(initial=0.0)) / scale if scale else 0.0
    indices, certain = found.top(options.top)
    total = found.total()
    counts = {
        "positive": int((signs > 0).sum()), "negative": int((signs < 0).sum()), "zero": int((signs == 0).sum()),
        "undetermined": int(np.isnan(signs).sum()),
    }  # fmt: skip
    greatest = [{"index": i[1:], "midpoint": found.at()[i].midpoint, "radius": found.at()[i].radius} for i in indices]
    about = {
        **one.about, "engine": found.engine, "bits": found.precision, "radius": widest,
        "total": {"midpoint": total.midpoint, "radius": total.radius}, "signs": counts,
        "greatest": greatest, "certain_places": certain,
        "error": None if options.exact else found.error(one.explanation.relevance),
    }  # fmt: skip
    if options.out:
        with written_whole(options.out) as file:
            np.savez(file, midpoint=found.midpoint(), radius=radii)
        about["enclosures"] = str(options.out)
    if options.json:
        return json.dumps(_finite({**about, "seconds": seconds, "versions": _versions()}), allow_nan=False)
    how_close = f"every radius at most 2^{math.log2(widest):.0f} max|R|" if widest else "every radius 0"
    lines = [*one.lines, f"\nenclosed in {seconds:.2f} s by {found.engine}, {found.precision} bits: {how_close}"]
    lines.append(f"total: {total.midpoint:.17g} +- {total.radius:.2g}")
    lines.append("signs: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    lines.append(f"the greatest, the first {certain} in certain order:")
    rows = [(f"{i}", f"{g['index']}", f"{g['midpoint']:.17g}", f"{g['radius']:.2g}") for i, g in enumerate(greatest, 1)]
    lines.append(table(("place", "entry", "relevance", "+-"), rows))
    if about["error"] is not None:
        lines.append(f"the {options.dtype} run is at most {about['error']:.2g} max|R| from the exact relevance")
    if options.out:
        lines.append(f"enclosures: {options.out}")
    return "\n".join(lines)


def _domain(text: str | None) -> Domain | None:
    from math import isfinite

    from .theory import dtd

    named: dict[str, Domain] = {"R": dtd.Real(), "R+": dtd.Positive()}
    if text is None or text in named:
        return None if text is None else named[text]
    if "," not in text:
        raise LrpError(f"no domain {text!r}{near(text, list(named))}; a box is LOW,HIGH, such as 0,1")
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise LrpError(f"--domain {text}: give R, R+ or a box LOW,HIGH, such as 0,1") from None
    if not (isfinite(low) and isfinite(high) and low <= high):
        raise LrpError(f"--domain {text}: LOW,HIGH are finite numbers, LOW at most HIGH")
    return dtd.Box(low, high)


def _finite(value: Any) -> Any:
    """The same with None for each number that JSON has no word for."""
    from math import isfinite

    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _pages(out: Path, report: Report, lines: Sequence[str]) -> dict[str, str]:
    """Write the picture, and into a folder a page around it; where they are."""
    from .show import taylor
    from .show.page import save
    from .show.taylor import claim

    if out.suffix and not out.is_dir():
        return {"picture": str(save(taylor(report), out))}
    picture, page = out / "taylor.png", out / "taylor.md"
    save(taylor(report), picture)
    with_roots = [node for node in report.nodes if node.neurons is not None]
    head = ("node", "layer", "rule", "neurons", "domain", "root in it", "active half-space", "t", "context drift")
    parts = [
        f"# Deep Taylor decomposition, {report.reading} reading",
        "  \n".join(lines),
        claim(report),
        "A root alone shows nothing, since every way to split R_k has one. What says something is whether the root "
        "lies in the domain, and whether the context c_k = R_k / z_k, which the model holds fixed, is the same there.",
        f"![Shares of roots, steps t and context drift, a row for each node]({picture.name})",
        _markdown(head, [_columns(node) for node in with_roots]),
        "t and context drift: median (least to greatest).",
        "## The report",
        f"```\n{report}\n```",
    ]
    _write(page, "\n\n".join(parts) + "\n")
    return {"picture": str(picture), "page": str(page)}


def _columns(node: NodeReport) -> tuple[str, ...]:
    """A node with roots in the page's table."""
    import numpy as np

    from .arrays import floats

    def spread(column: Array) -> str:
        numbers = floats(column)
        return f"{np.median(numbers):.3g} ({numbers.min():.3g} to {numbers.max():.3g})"

    neurons = node.neurons
    assert neurons is not None
    asked = len(neurons) + len(node.rootless)
    name, rule = (text.replace("|", "\\|") for text in (node.name, repr(node.rule)))
    drift = "not measured" if neurons.drift is None else spread(neurons.drift)
    return (
        *(name, node.kind, rule, str(asked), str(node.domain)),
        *(f"{node.root_in_domain:.1%}", f"{int(neurons.active.sum()) / asked:.1%}", spread(neurons.t), drift),
    )


# --- the demo -------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> str:
    import numpy as np

    from .arrays import floats
    from .data import digits
    from .explain import explain
    from .rules import Epsilon, GeneralizedGamma, Zero
    from .show import channel_sum, entropy, grid, negative_share
    from .stabilize import Relative

    rule_sets: dict[str, Composite | Rule] = {
        "uniform LRP-0": Zero(),
        "uniform epsilon, 0.25 rms": Epsilon(epsilon=0.25, stabilizer=Relative(over="sample")),
        "uniform gamma, 0.25 generalized": GeneralizedGamma(gamma=0.25),
        "composite, epsilon_gamma_box": presets.epsilon_gamma_box(low=0, high=1),
    }
    graph, shipped = _model("digits-cnn"), digits()
    labels, images = shipped.labels, floats(shipped.images)
    hits = graph.forward(images[shipped.test])[graph.outputs[0]].argmax(axis=1) == labels[shipped.test]
    right = shipped.test[hits]
    rows = [int(right[labels[right] == digit][0]) for digit in range(10)]

    explanations = [explain(graph, images[rows], rules) for rules in rule_sets.values()]
    maps: Array = np.stack([channel_sum(explanation.relevance) for explanation in explanations])
    share, bits = (np.stack([measure(R) for R in maps]) for measure in (negative_share, entropy))

    picture, summary = options.out / "digits.png", options.out / "summary.md"
    cells = [[f"{share[k, i]:.0%} negative, {bits[k, i]:.2f} bits" for k in range(len(maps))] for i in range(len(rows))]
    grid(
        picture,
        maps.swapaxes(0, 1),
        columns=list(rule_sets),
        rows=[f"digit {digit}\nrow {row}" for digit, row in enumerate(rows)],
        images=images[rows],
        captions=cells,
    )
    accuracy = f"{hits.sum()} of {hits.size} test rows are classified correctly ({hits.mean():.2%}), measured just now"
    explained = "the logit of the class, for the first test row of each digit that is classified correctly"
    means = [(name, f"{share[k].mean():.1%}", f"{bits[k].mean():.2f}") for k, name in enumerate(rule_sets)]
    logits = floats(explanations[0].output).max(axis=1)
    lines = [
        "# Ten digits under four sets of rules",
        f"digits-cnn: {accuracy}. Explained: {explained}. The maps are in [{picture.name}]({picture.name}).",
        "Uniform: one rule at every node that is no wire, so at batch norms, sums and average pools too. "
        "0.25 rms: epsilon is a quarter of the root mean square of z, sample by sample.",
        "Negative: the share of negative relevance, sum of |R| where R < 0 over sum of |R|. "
        "Bits: the entropy of |R| / sum of |R|; a map of H bits is as spread as one of 2^H equal pixels, 6 at most.",
        _markdown(("mean over the ten maps", "negative", "bits"), means),
        "Each map:",
        _markdown(
            ("row", "digit", "logit", *rule_sets),
            [(str(row), str(i), f"{logits[i]:.3f}", *cells[i]) for i, row in enumerate(rows)],
        ),
        f"## The books of one explanation: row {rows[3]}, a 3, by epsilon_gamma_box",
        f"```\n{explanations[-1].rules}\n```",
        f"```\n{explanations[-1].ledger.table(3)}\n```",
        f"{_total(explanations[-1].ledger, 3)}.",
    ]
    _write(summary, "\n\n".join(lines) + "\n")
    return "\n".join(
        [
            f"digits-cnn: {accuracy}",
            f"explained: {explained}",
            f"\n{table(('mean over the ten maps', 'negative', 'entropy in bits'), means)}",
            f"\nmaps: {os.path.relpath(picture)}",
            f"numbers and books: {os.path.relpath(summary)}",
        ]
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _write(path: Path, text: str) -> None:
    """Into a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(text.encode())
