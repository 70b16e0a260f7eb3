"""PCA-whitening against scikit-learn and against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from offshelf.backbones.imagenet import PRESET
from offshelf.core.spec import FeatureSpec
from offshelf.engine.whitening import Whitening
from offshelf.errors import (
    DependencyError,
    FingerprintMismatch,
    InvalidParameter,
    UnknownName,
)
from offshelf.heads import whitening
from offshelf.schemas.transforms import Transform
from offshelf.store import layout
from tests.unit.worker.fakes import MemoryStore

SPEC = FeatureSpec("alexnet", "0" * 64, "fc7", "center", PRESET, normalisation="l2")


def features(count: int, inputs: int, seed: int = 0) -> np.ndarray:
    """Correlated features with different variances, off centre."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(inputs, inputs)) * np.geomspace(1, 0.01, inputs)
    return (random.normal(size=(count, inputs)) @ mixing.T + 3).astype(np.float32)


def apply(fitted: whitening.Fitted, X: np.ndarray) -> np.ndarray:
    return (X - fitted.mean) @ fitted.matrix.T


@pytest.mark.parametrize(
    ("count", "inputs", "dimensions"),
    [(200, 12, 12), (200, 12, 5), (9000, 7, 7), (10, 40, 9), (10, 40, 3), (12, 12, 11), (2, 5, 1)],
)
def test_it_is_scikit_learns_whitened_pca(count: int, inputs: int, dimensions: int) -> None:
    X = features(count, inputs)
    fitted = whitening.fit(X, dimensions)
    pca = PCA(dimensions, whiten=True, svd_solver="full").fit(X.astype(np.float64))
    want = pca.transform(X.astype(np.float64))
    got = apply(fitted, X)
    # A direction's sign is free in PCA; ours is fixed by another test.
    signs = np.sign((got * want).sum(axis=0))
    np.testing.assert_allclose(got * signs, want, atol=1e-3)
    assert fitted.explained == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-6)
    assert fitted.samples == count


def test_what_comes_out_is_white() -> None:
    X = features(500, 20)
    white = apply(whitening.fit(X, 20), X)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(white.T), np.eye(20), atol=1e-3)


def test_epsilon_is_added_to_the_variances() -> None:
    X = features(500, 6)
    variances = PCA().fit(X.astype(np.float64)).explained_variance_
    got = np.cov(apply(whitening.fit(X, 6, 0.5), X).T)
    np.testing.assert_allclose(np.diag(got), variances / (variances + 0.5), rtol=1e-4)


@pytest.mark.parametrize(("count", "inputs"), [(300, 10), (8, 30)])
def test_the_same_features_give_the_same_numbers_and_signs(count: int, inputs: int) -> None:
    X = features(count, inputs)
    one, other = whitening.fit(X, 5), whitening.fit(X.copy(), 5)
    assert np.array_equal(one.matrix, other.matrix)
    assert Whitening.of(one.mean, one.matrix, SPEC).digest == (
        Whitening.of(other.mean, other.matrix, SPEC).digest
    )
    largest = np.abs(one.matrix).argmax(axis=1)
    assert (one.matrix[np.arange(5), largest] > 0).all()


@pytest.mark.parametrize(("count", "inputs", "most"), [(10, 40, 9), (100, 6, 6)])
def test_too_many_dimensions_are_refused_with_the_maximum(
    count: int, inputs: int, most: int
) -> None:
    X = features(count, inputs)
    whitening.fit(X, most)
    with pytest.raises(InvalidParameter, match=f"ask for {most} at most"):
        whitening.fit(X, most + 1)


def test_features_that_span_less_than_their_number_are_counted_right() -> None:
    X = features(60, 4)
    with pytest.raises(InvalidParameter, match="span 4, so ask for 4 at most"):
        whitening.fit(np.concatenate([X, 2 * X, X], axis=1), 5)  # 60 of 12
    with pytest.raises(InvalidParameter, match="span 4, so ask for 4 at most"):
        whitening.fit(np.concatenate([X, 2 * X] * 10, axis=1), 5)  # 60 of 80


@pytest.mark.parametrize("X", [np.ones((1, 4)), np.ones((5, 4)), np.zeros((5, 2)), np.ones((3, 9))])
def test_what_cannot_be_whitened_is_refused(X: np.ndarray) -> None:
    with pytest.raises(InvalidParameter, match=r"two features or more|all the same"):
        whitening.fit(X.astype(np.float32), 1)


def card_of(made: Whitening) -> Transform:
    return Transform(
        id=made.digest, owner="default", name="", step=f"whiten:{made.digest}",
        feature_set="features-1", tap="fc7", spec=made.spec.to_dict(),
        fingerprint=made.spec.fingerprint, inputs=4, dimensions=2, epsilon=0.0, samples=20,
        explained=0.9, created_s=1.0, versions={},
    )  # fmt: skip


def stored() -> tuple[MemoryStore, Whitening]:
    fitted = whitening.fit(features(20, 4), 2)
    made = Whitening.of(fitted.mean, fitted.matrix, SPEC)
    store = MemoryStore()
    whitening.save(store, made, card_of(made))
    return store, made


def test_it_is_found_again_by_its_digest() -> None:
    store, made = stored()
    found = whitening.load(store, made.digest)
    assert np.array_equal(found.mean, made.mean)
    assert np.array_equal(found.matrix, made.matrix)
    assert (found.spec, found.digest, found.dimensions) == (SPEC, made.digest, 2)
    assert whitening.load_card(store, "default", made.digest) == card_of(made)
    with pytest.raises(UnknownName, match="never fitted, or deleted"):
        whitening.load(store, "f" * 64)


def test_numbers_that_are_not_those_of_the_digest_are_refused() -> None:
    store, made = stored()
    key = layout.whitening(made.digest)
    data = bytearray(store.objects[key])
    data[-1] ^= 1
    store.objects[key] = bytes(data)
    with pytest.raises(DependencyError, match="damaged"):
        whitening.load(store, made.digest)
    store.objects[key] = b"no safetensors"
    with pytest.raises(DependencyError, match="cannot be read"):
        whitening.load(store, made.digest)


def test_it_is_for_the_features_it_was_fitted_on_and_no_others() -> None:
    _, made = stored()
    chain = f"l2,whiten:{made.digest},l2"
    made.check(replace(SPEC, normalisation=chain), "l2")
    with pytest.raises(FingerprintMismatch, match="normalisation: l2 != none"):
        made.check(SPEC, "none")
    with pytest.raises(FingerprintMismatch, match="view: center != ten_crop"):
        made.check(replace(SPEC, view="ten_crop"), "l2")
    with pytest.raises(FingerprintMismatch, match="tap: fc7 != fc6"):
        made.check(replace(SPEC, tap="fc6"), "l2")


def test_the_same_numbers_for_other_features_are_another_whitening() -> None:
    store, made = stored()
    spec = replace(SPEC, view="center+mirror")
    other = Whitening.of(made.mean, made.matrix, spec)
    assert other.digest != made.digest
    whitening.save(store, other, card_of(other))
    whitening.load(store, other.digest).check(spec, spec.normalisation)
    whitening.load(store, made.digest).check(SPEC, SPEC.normalisation)
    assert whitening.load_card(store, "default", other.digest).fingerprint == spec.fingerprint
    with pytest.raises(FingerprintMismatch, match="view"):
        whitening.load(store, made.digest).check(spec, spec.normalisation)
