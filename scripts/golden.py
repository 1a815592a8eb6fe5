"""Compare lrp_ref with the golden files of other frameworks, wherever you have them.

    python scripts/golden.py innvestigate DIR   # tests/references/layer of github.com/albermax/innvestigate
    python scripts/golden.py julia DIR          # test/references of github.com/Julia-XAI/RelevancePropagation.jl

Prints how far lrp_ref, in float64, is from each relevance, relative to the greatest, and for comparison how far its own
float32 is from its float64: theirs was computed in float32. Exits with 1 if one is further off than 1e-5 and than 16
times that. Needs h5py (dependency group "golden"), and the folder tests beside this one.
"""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lrp_ref as lrp
from lrp_ref.oracle.peers import golden as files
from lrp_ref.text import table

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from case_rules import Known, Network, NoSuchValue, of_golden  # noqa: E402

KINDS = {"innvestigate": files.innvestigate, "julia": functools.partial(files.julia, ties=files.FLUX_TIES)}


def off(ours: Any, theirs: Any) -> float:
    """The greatest difference, relative to their greatest value."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(abs(ours - theirs).max() / (abs(theirs).max() or 1.0))


def compare(network: Network, variants: Sequence[Any]) -> tuple[str, float, float]:
    """Our rule, how far we are off, and how far our float32 is off our float64."""
    ((place, theirs),) = network.expected.values()
    if network.gradient is not None:
        ours, ours32 = (
            network.gradient(network.graph, network.x.astype(dtype), network.target) for dtype in ("float64", "float32")
        )
        return network.gradient.__name__, off(ours, theirs), off(ours32, ours)
    e = network.explain(variants)
    single = network.explain(variants, x=network.x.astype("float32"))
    rule = next((repr(rule) for rule in e.rules.values() if not isinstance(rule, lrp.Pass)), "Pass()")
    return rule, off(e.at(place), theirs), off(single.at(place), e.at(place))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    variants = Known.read(TESTS / "known_differences.toml").variants
    rows, left, wrong = [], [], 0
    try:
        files.hdf5()
        references = list(KINDS[options.kind](options.folder))
    except (ImportError, lrp.LrpError) as error:
        sys.exit(str(error))
    for name, make in references:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "ZBox: .* input values lie beyond")
                rule, deviation, rounding = compare(of_golden(make()), variants)
        except NoSuchValue as error:
            left.append(f"left out: {name}: {error}")
            continue
        agrees = deviation <= max(1e-5, 16 * rounding)
        wrong += not agrees
        rows.append((name, rule, f"{deviation:.1e}", f"{rounding:.1e}", "agrees" if agrees else "DIFFERS"))
    if not rows:
        sys.exit(f"{options.folder}: no golden files of {options.kind} in it")
    print(table(("reference", "here", "off by", "float32", ""), rows))
    print(*left, f"{len(rows)} compared, {wrong} differ, {len(left)} left out", sep="\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
