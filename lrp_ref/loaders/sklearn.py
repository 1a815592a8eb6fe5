"""Fitted scikit-learn estimators as graphs, read from their attributes: scikit-learn itself is not imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array
from ..canonize import canonize as canonized
from ..errors import LoadError, UnsupportedOp
from ..graph import Graph, Node
from ..layers import Clip, Dense, Identity, Layer, ReLU, Scale, Sigmoid, Tanh

Layers = dict[str, Layer]
"""The layers of one estimator in their order; "" is the name of the estimator's own step."""


# --- the entrance ---------------------------------------------------------------------------------


def from_sklearn(estimator: Any, *, canonize: bool = True) -> Graph:
    """A fitted estimator, or pipeline of them, as a graph from (batch, features) to (batch, outputs).

    The output is what the estimator decides by: the decision function of a classifier, before softmax or logistic
    function (a binary classifier has one column), the prediction of a regressor, the transformed features otherwise.

    Parameters
    ----------
    estimator : fitted estimator or Pipeline
        `MLPClassifier`, `MLPRegressor`, the linear models, and the scalers of `READERS`
    canonize : fold scalers into the weights behind them, drop identities; see :func:`lrp_ref.canonize`

    Returns
    -------
    Graph
        nodes named after the steps of the pipeline, or the estimator's class in lower case

    Raises
    ------
    LoadError
        for what is no fitted estimator of scikit-learn.
    UnsupportedOp
        for an estimator, or an option of one, that has no layers here.
    """
    nodes: list[Node] = []
    notes: list[str] = []
    source = "input"
    for step, part in steps(estimator):
        for name, layer in READERS[type(part).__name__](part).items():
            nodes.append(Node(f"{step}.{name}" if name else step, layer, source))
            source = nodes[-1].name
        notes += [f"{step}: {line}" for line in remarks(part)]
    if not nodes:
        raise LoadError(f"{type(estimator).__name__} has no steps: there is nothing to explain")
    graph = Graph(nodes, outputs=source, notes=notes)
    return canonized(graph) if canonize else graph


def steps(estimator: Any, name: str = "") -> list[tuple[str, Any]]:
    """The named estimators in the order in which they apply, pipelines within pipelines opened."""
    if estimator is None or (isinstance(estimator, str) and estimator == "passthrough"):
        return []
    kind = type(estimator)
    if not kind.__module__.startswith("sklearn."):
        raise LoadError(
            f"{kind.__module__}.{kind.__qualname__} is no estimator of scikit-learn: "
            f"give the fitted estimator that it wraps, or write the graph by hand (lrp_ref.chain)"
        )
    if kind.__name__ == "Pipeline":
        parts = [steps(part, f"{name}.{step}" if name else step) for step, part in estimator.steps]
        return [found for part in parts for found in part]
    if kind.__name__ not in READERS:
        raise UnsupportedOp(
            f"no layers for {kind.__name__}{f' (step {name!r})' if name else ''}: readable are Pipeline, "
            f"{', '.join(sorted(READERS))}; apply it to the data first, or write the graph by hand (lrp_ref.chain)"
        )
    return [(name or kind.__name__.lower(), estimator)]


def remarks(estimator: Any) -> list[str]:
    """What the reader of a graph should know: where the output is taken, and what the step assumes."""
    name = type(estimator).__name__
    if name == "SimpleImputer":
        return ["the identity on complete data; an input with missing values is refused"]
    if name in CLASSIFIERS:
        return ["the output is the decision function, before any softmax or logistic function"]
    applied = estimator.out_activation_ if name.startswith("MLP") else "identity"
    return [] if applied == "identity" else [f"the output is taken before the final {applied}"]


# --- the estimators -------------------------------------------------------------------------------


def fitted(estimator: Any, attribute: str) -> Any:
    """An attribute that fit() sets."""
    try:
        return getattr(estimator, attribute)
    except AttributeError:
        raise LoadError(
            f"{type(estimator).__name__} is not fitted (it has no {attribute}): call its fit(X, y) first"
        ) from None


def linear(estimator: Any) -> Layers:
    """x @ coef_.T + intercept_."""
    coefficients = fitted(estimator, "coef_")
    weight = np.atleast_2d(coefficients.toarray() if hasattr(coefficients, "toarray") else coefficients).T
    bias = np.broadcast_to(np.asarray(fitted(estimator, "intercept_"), weight.dtype), weight.shape[1:])
    return {"": Dense(weight=weight.copy(), bias=bias.copy())}


ACTIVATIONS: dict[str, Callable[[], Layer]] = {"relu": ReLU, "tanh": Tanh, "logistic": Sigmoid, "identity": Identity}


def multilayer(estimator: Any) -> Layers:
    """Dense layers and activations, without the activation of the output."""
    layers: Layers = {}
    weights, biases = fitted(estimator, "coefs_"), fitted(estimator, "intercepts_")
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        layers[f"dense{i}"] = Dense(weight=weight.copy(), bias=bias.copy())
        if i < len(weights):
            layers[f"{estimator.activation}{i}"] = ACTIVATIONS[estimator.activation]()
    return layers


def standardized(estimator: Any) -> Layers:
    """(x - mean_) / scale_."""
    scale = fitted(estimator, "scale_")
    return scaled(scale, estimator.mean_ if estimator.with_mean else None)


def robust(estimator: Any) -> Layers:
    """(x - center_) / scale_."""
    return scaled(fitted(estimator, "scale_"), estimator.center_)


def scaled(divisor: Array | None, center: Array | None) -> Layers:
    """(x - center) / divisor; None: not applied."""
    weight = np.asarray(1.0) if divisor is None else 1 / divisor
    return {"": Scale(weight=weight, bias=None if center is None else -center * weight)}


def min_max(estimator: Any) -> Layers:
    """x * scale_ + min_, clipped to the range where asked."""
    layers: Layers = {"": Scale(weight=fitted(estimator, "scale_").copy(), bias=estimator.min_.copy())}
    low, high = estimator.feature_range
    return layers | clipped(estimator, low, high)


def max_abs(estimator: Any) -> Layers:
    """x / scale_, clipped to [-1, 1] where asked."""
    return scaled(fitted(estimator, "scale_"), None) | clipped(estimator, -1, 1)


def clipped(estimator: Any, low: float, high: float) -> Layers:
    """Clip(low, high) for a scaler made with clip=True."""
    return {"clip": Clip(low=float(low), high=float(high))} if getattr(estimator, "clip", False) else {}


def components(estimator: Any) -> Layers:
    """(x - mean_) @ components_.T, each column over its standard deviation with whiten=True."""
    weight = fitted(estimator, "components_").T
    if estimator.whiten:
        deviation = np.sqrt(estimator.explained_variance_)
        weight = weight / np.maximum(deviation, np.finfo(deviation.dtype).eps)
    return {"": Dense(weight=weight.copy(), bias=-estimator.mean_ @ weight)}


def imputed(estimator: Any) -> Layers:
    """The identity: complete data are not changed."""
    missing = [fill for fill in fitted(estimator, "statistics_") if fill is None or fill != fill]
    if estimator.add_indicator or missing:
        raise UnsupportedOp(
            "SimpleImputer with add_indicator, or with a feature that had no value in fit, changes the columns: "
            "impute the data first, and give the steps behind it"
        )
    return {"": Identity()}


CLASSIFIERS = (
    *("LogisticRegression", "LogisticRegressionCV", "SGDClassifier", "LinearSVC", "Perceptron"),
    *("RidgeClassifier", "RidgeClassifierCV", "LinearDiscriminantAnalysis"),
)
REGRESSORS = (
    *("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV"),
    *("SGDRegressor", "LinearSVR", "HuberRegressor", "BayesianRidge"),
)
READERS: dict[str, Callable[[Any], Layers]] = {
    **dict.fromkeys(CLASSIFIERS + REGRESSORS, linear),
    "MLPClassifier": multilayer,
    "MLPRegressor": multilayer,
    "StandardScaler": standardized,
    "MinMaxScaler": min_max,
    "MaxAbsScaler": max_abs,
    "RobustScaler": robust,
    "PCA": components,
    "SimpleImputer": imputed,
}
"""Class of estimator: its layers."""
