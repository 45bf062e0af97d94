"""Classes as vectors, and peaks as standardised numbers."""

import json

import astropy.units as u
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsky.generation import ClassCondition, PeakFluxCondition, condition_from_dict

JY = u.Jy / u.beam
CLASSES = ("FRI", "FRII", "Bent")


@pytest.fixture(scope="module")
def peaks():
    return np.random.default_rng(1).lognormal(-5, 1.2, 4000) * JY


@pytest.fixture(scope="module")
def condition(peaks):
    return PeakFluxCondition.fit(peaks)


def test_one_hot():
    condition = ClassCondition(CLASSES)
    assert condition.length == 3
    assert condition.encode(["Bent", "FRI"]).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert condition.encode("FRII").tolist() == [[0, 1, 0]]


def test_unknown_label():
    with pytest.raises(ValueError, match="label is FR3, X; expected one of FRI, FRII, Bent"):
        ClassCondition(CLASSES).encode(["FRI", "X", "FR3"])


@pytest.mark.parametrize("classes", [[], ["one"], ["one", "one"]])
def test_bad_classes(classes):
    with pytest.raises(ValueError, match="expected two names or more, each once"):
        ClassCondition(classes)


def test_classes_are_drawn_alike():
    rng = np.random.default_rng(0)
    drawn = [ClassCondition(CLASSES).draw(rng) for _ in range(3000)]
    assert all(900 < drawn.count(name) < 1100 for name in CLASSES)


def test_log_normal_peaks_become_standard_normal(condition, peaks):
    """Box-Cox finds the logarithm, lambda = 0, within its error."""
    assert abs(condition.exponent) < 0.03
    values = condition.encode(peaks)[:, 0]
    assert values.mean().item() == pytest.approx(0, abs=1e-4)
    assert values.std().item() == pytest.approx(1, abs=1e-3)
    assert (values.abs() < 1).float().mean().item() == pytest.approx(0.683, abs=0.03)


@given(st.floats(0, 1))
def test_round_trip(share):
    condition = PeakFluxCondition(-0.23, -1.0, 2.0, [1, 1], (1e-4, 2.0))
    low, high = np.log(condition.limits)
    peak = np.exp(low + share * (high - low)) * JY
    found = condition.decode(condition.encode(peak))[0]
    assert found.to_value(JY) == pytest.approx(peak.to_value(JY), rel=1e-4)


def test_units_are_converted(condition):
    assert torch.equal(condition.encode(5 * u.mJy / u.beam), condition.encode(0.005 * JY))


def test_peaks_are_drawn_like_those_of_the_training(condition, peaks):
    rng = np.random.default_rng(2)
    drawn = u.Quantity([condition.draw(rng) for _ in range(4000)])
    assert (drawn >= 0.999999 * peaks.min()).all()
    assert (drawn <= 1.000001 * peaks.max()).all()
    shares = [0.1, 0.5, 0.9]
    known, found = (np.quantile(np.log(q.to_value(JY)), shares) for q in (peaks, drawn))
    np.testing.assert_allclose(found, known, atol=0.1)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_peak_beyond_the_training(condition, factor):
    low, high = condition.limits
    beyond = (factor * (low if factor < 1 else high)) * JY
    with pytest.raises(ValueError, match=r"peak_flux is .* Jy/beam; expected .* to .* Jy/beam"):
        condition.encode(beyond)
    assert condition.encode(beyond, extrapolate=True).isfinite().all()


@pytest.mark.parametrize("peak", [0, -1e-3, np.nan, np.inf])
def test_peak_that_is_none(condition, peak):
    with pytest.raises(ValueError, match="peak_flux is"):
        condition.encode(peak * JY, extrapolate=True)


@pytest.mark.parametrize("peak", [0.01, 0.01 * u.Jy])
def test_peak_without_its_unit(condition, peak):
    with pytest.raises(ValueError, match="expected .*Jy/beam"):
        condition.encode(peak)


@pytest.mark.parametrize("peaks", [[1.0], [1.0, 1.0], [1.0, 0.0], [1.0, np.nan]])
def test_peaks_that_cannot_be_fitted(peaks):
    with pytest.raises(ValueError, match="must be finite, above 0 and not the same"):
        PeakFluxCondition.fit(peaks * JY)


@pytest.mark.parametrize("kind", ["class", "peak_flux"])
def test_stored(condition, kind):
    made = {"class": ClassCondition(CLASSES), "peak_flux": condition}[kind]
    again = condition_from_dict(json.loads(json.dumps(made.to_dict())))
    assert again.to_dict() == made.to_dict()


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, "condition is None; expected one of class, peak_flux"),
        ({"type": "class"}, "condition 'class' has other values"),
        ({"type": "class", "classes": ["a"]}, "expected two names"),
    ],
)
def test_damaged(description, message):
    with pytest.raises(ValueError, match=message):
        condition_from_dict(description)
