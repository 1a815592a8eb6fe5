"""Estimators of scikit-learn as graphs, against scikit-learn's own numbers."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref.loaders.sklearn import READERS, from_sklearn

sklearn = pytest.importorskip("sklearn", reason="needs sklearn")
from sklearn import decomposition, discriminant_analysis, impute, linear_model, neural_network, preprocessing  # noqa: E402
from sklearn import pipeline as pipelines  # noqa: E402
from sklearn import svm as machines  # noqa: E402

MODULES = (decomposition, discriminant_analysis, impute, linear_model, neural_network, preprocessing, machines)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)) * [1, 2, 0.5, 3, 1] + [0, 1, -1, 0, 5]
TARGETS = {
    "numbers": X @ [1, -1, 2, 0.5, 0] + RNG.normal(size=90),
    "several numbers": X @ RNG.normal(size=(5, 3)),
    "two classes": (X[:, 0] - X[:, 2] > 1).astype(int),
    "three classes": np.digitize(X[:, 3], [-1, 1]),
}
FITS = {  # name of an estimator: what it can be fitted to
    **dict.fromkeys(["LinearRegression", "Ridge", "Lasso", "ElasticNet", "RidgeCV"], ("numbers", "several numbers")),
    **dict.fromkeys(["LassoCV", "ElasticNetCV", "SGDRegressor", "LinearSVR", "HuberRegressor"], ("numbers",)),
    "BayesianRidge": ("numbers",),
    **dict.fromkeys(["LogisticRegression", "LogisticRegressionCV", "SGDClassifier"], ("two classes", "three classes")),
    **dict.fromkeys(["LinearSVC", "Perceptron", "LinearDiscriminantAnalysis"], ("two classes", "three classes")),
    **dict.fromkeys(["RidgeClassifier", "RidgeClassifierCV"], ("two classes", "three classes")),
}
OPTIONS = {"LogisticRegressionCV": {"Cs": 2, "cv": 2}, "LassoCV": {"cv": 2}, "ElasticNetCV": {"cv": 2}}
SCALERS = [
    preprocessing.StandardScaler(),
    preprocessing.StandardScaler(with_mean=False),
    preprocessing.StandardScaler(with_std=False),
    preprocessing.StandardScaler(with_mean=False, with_std=False),
    preprocessing.MinMaxScaler((-1, 2)),
    preprocessing.MinMaxScaler(clip=True),
    preprocessing.MaxAbsScaler(),
    preprocessing.RobustScaler(),
    preprocessing.RobustScaler(with_centering=False),
    preprocessing.RobustScaler(with_scaling=False),
    decomposition.PCA(3),
    decomposition.PCA(4, whiten=True),
    impute.SimpleImputer(),
]


def estimator(name, **options):
    (kind,) = {getattr(module, name) for module in MODULES if hasattr(module, name)}
    return kind(**options)


def fit(model, target):
    with warnings.catch_warnings(action="ignore"):  # no fit here needs to converge
        return model.fit(X, TARGETS[target])


def output(graph, x=X):
    return graph.forward(x)[graph.outputs[0]]


def close(ours, theirs):
    theirs = theirs.reshape(len(theirs), -1)
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= 1e-12 * abs(theirs).max()


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("name", "target"), [(name, target) for name in FITS for target in FITS[name]])
def test_linear_models_give_their_decision_function_or_prediction(name, target):
    model = fit(estimator(name, **OPTIONS.get(name, {})), target)
    theirs = model.decision_function(X) if "classes" in target else model.predict(X)
    for graph in (from_sklearn(model, canonize=False), from_sklearn(model)):
        close(output(graph), theirs)
        assert [node.name for node in graph.nodes] == [name.lower()]
        assert any("decision function" in note for note in graph.notes) == ("classes" in target)


@pytest.mark.parametrize("name", ["LinearRegression", "LogisticRegression", "LinearSVC"])
def test_without_intercept_and_sparse(name):
    model = fit(estimator(name, fit_intercept=False), "two classes")
    expected = model.predict(X) if name == "LinearRegression" else model.decision_function(X)
    close(output(from_sklearn(model)), expected)
    if hasattr(model, "sparsify"):
        close(output(from_sklearn(model.sparsify())), expected)


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "logistic"])
@pytest.mark.parametrize("target", list(TARGETS))
def test_multilayer_perceptrons_before_their_last_activation(activation, target):
    name = "MLPClassifier" if "classes" in target else "MLPRegressor"
    model = fit(estimator(name, hidden_layer_sizes=(7, 4), activation=activation, max_iter=20, random_state=0), target)
    graph = from_sklearn(model, canonize=False)
    z = output(graph)
    close(output(from_sklearn(model)), z)
    if target == "three classes":
        close(softmax(z), model.predict_proba(X))
    elif target == "two classes":
        close(1 / (1 + np.exp(-z)), model.predict_proba(X)[:, 1])
    else:
        close(z, model.predict(X))
    names = [node.name for node in graph.nodes]
    assert names == [
        f"{name.lower()}.{step}" for step in ("dense1", f"{activation}1", "dense2", f"{activation}2", "dense3")
    ]
    assert [note.partition(": ")[2] for note in graph.notes] == {
        "two classes": ["the output is taken before the final logistic"],
        "three classes": ["the output is taken before the final softmax"],
    }.get(target, [])


@pytest.mark.parametrize("scaler", SCALERS, ids=str)
def test_transformers_and_pipelines_with_them(scaler):
    alone = sklearn.base.clone(scaler).fit(X[:60])
    model = fit(pipelines.make_pipeline(sklearn.base.clone(scaler), linear_model.Ridge()), "numbers")
    for canonize in (False, True):
        close(output(from_sklearn(alone, canonize=canonize)), alone.transform(X))
        close(output(from_sklearn(model, canonize=canonize)), model.predict(X))


def test_pipelines_within_pipelines_and_steps_left_out():
    inner = pipelines.Pipeline(
        [("scale", preprocessing.StandardScaler()), ("none", "passthrough"), ("pca", decomposition.PCA(4))]
    )
    model = fit(
        pipelines.Pipeline([("first", preprocessing.RobustScaler()), ("inner", inner), ("svr", machines.LinearSVR())]),
        "numbers",
    )
    graph = from_sklearn(model, canonize=False)
    assert [node.name for node in graph.nodes] == ["first", "inner.scale", "inner.pca", "svr"]
    close(output(graph), model.predict(X))
    same = pipelines.make_pipeline(
        preprocessing.StandardScaler(), pipelines.make_pipeline(preprocessing.StandardScaler())
    ).fit(X)
    assert [node.name for node in from_sklearn(same, canonize=False).nodes] == [
        "standardscaler",
        "pipeline.standardscaler",
    ]


def test_the_dtype_of_the_fit_is_kept_and_later_fits_do_not_reach_the_graph():
    model = neural_network.MLPRegressor(hidden_layer_sizes=(3,), max_iter=5, random_state=0)
    with warnings.catch_warnings(action="ignore"):
        model.fit(X.astype("float32"), TARGETS["numbers"].astype("float32"))
        graph = from_sklearn(model)
        assert graph.nodes[0].layer.weight.dtype == "float32"
        before = output(graph)
        model.coefs_[0][:] = 0
    assert (output(graph) == before).all()


def test_relevance_goes_through():
    model = fit(
        pipelines.make_pipeline(
            preprocessing.StandardScaler(), neural_network.MLPClassifier(hidden_layer_sizes=(6,), max_iter=20)
        ),
        "three classes",
    )
    e = lrp.explain(
        from_sklearn(model), X, lrp.Composite([(lrp.kind(lrp.layers.Dense), lrp.Epsilon(epsilon=1e-6))]), target=1
    )
    assert e.relevance.shape == X.shape


def test_every_reader_is_tested():
    tested = {*FITS, *(type(scaler).__name__ for scaler in SCALERS), "MLPClassifier", "MLPRegressor"}
    assert tested == set(READERS)


def test_refusals_say_what_and_what_now():
    for name in READERS:
        with pytest.raises(lrp.LoadError, match=rf"{name} is not fitted \(it has no \w+_\): call its fit"):
            from_sklearn(estimator(name))
    with pytest.raises(lrp.UnsupportedOp, match=r"no layers for SVC: readable are Pipeline, BayesianRidge"):
        from_sklearn(machines.SVC())
    mixed = pipelines.make_pipeline(preprocessing.StandardScaler(), preprocessing.PolynomialFeatures()).fit(X)
    with pytest.raises(lrp.UnsupportedOp, match=r"PolynomialFeatures \(step 'polynomialfeatures'\)"):
        from_sklearn(mixed)
    with pytest.raises(lrp.LoadError, match=r"builtins\.dict is no estimator of scikit-learn"):
        from_sklearn({})

    class Own(linear_model.Ridge):
        """A subclass may predict otherwise."""

    with pytest.raises(lrp.LoadError, match="Own is no estimator of scikit-learn"):
        from_sklearn(Own().fit(X, TARGETS["numbers"]))
    with pytest.raises(lrp.LoadError, match="has no steps"):
        from_sklearn(pipelines.Pipeline([("nothing", "passthrough")]))
    with pytest.raises(lrp.UnsupportedOp, match="add_indicator"):
        from_sklearn(impute.SimpleImputer(add_indicator=True).fit(X))


def test_scikit_learn_is_not_imported():
    code = "import sys, lrp_ref.loaders.sklearn; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
