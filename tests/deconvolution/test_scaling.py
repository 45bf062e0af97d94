"""The scaling of sky and dirty image, and its way back."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffsky.deconvolution.scaling import FluxScale, WorkingScale

scales = st.builds(
    WorkingScale,
    gamma=st.floats(1, 4),
    unit=st.floats(1e-3, 10),
    dirty_unit=st.floats(0.1, 100),
)
asinh_scales = st.builds(
    WorkingScale, unit=st.floats(1e-3, 10), kernel_beams=st.floats(0, 1), stretch=st.just("asinh")
)
pixels = st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=20).map(torch.tensor)


@given(scale=scales, apparent=pixels)
def test_round_trip(scale, apparent):
    assert_close(
        scale.unscale_target(scale.scale_target(apparent)), apparent, rtol=2e-5, atol=1e-30
    )


@given(scale=scales, target=pixels)
def test_other_round_trip(scale, target):
    double = target.double()
    assert_close(scale.scale_target(scale.unscale_target(double)), double, rtol=1e-9, atol=1e-70)


@given(scale=scales)
def test_flux_of_one_unit_is_one(scale):
    assert_close(scale.scale_target(torch.tensor([scale.unit])), torch.ones(1))
    assert_close(scale.unscale_target(torch.ones(1)), torch.tensor([scale.unit]))


def test_closed_values():
    """D24 eq. 1 with gamma = 2: the square root."""
    scale = WorkingScale(unit=0.25)
    assert_close(scale.scale_target(torch.tensor([0.0, 1.0, 4.0])), torch.tensor([0.0, 2.0, 4.0]))
    cubic = WorkingScale(unit=2.0, gamma=3.0)
    assert_close(cubic.unscale_target(torch.tensor([2.0])), torch.tensor([16.0]))


def test_negative_is_nothing():
    scale = WorkingScale()
    assert torch.equal(scale.scale_target(torch.tensor([-1.0, -0.0])), torch.zeros(2))
    assert torch.equal(scale.unscale_target(torch.tensor([-0.3])), torch.zeros(1))


def test_condition():
    dirty, beam = torch.randn(3, 4, 5), torch.rand(3, 4, 5)
    condition = WorkingScale(dirty_unit=5.0).condition(dirty, beam)
    assert condition.shape == (3, 2, 4, 5)
    assert_close(condition[:, 0] * 5, dirty)
    assert torch.equal(condition[:, 1], beam)


def test_kernel_is_a_share_of_the_beam():
    scale = WorkingScale(pixels_per_beam=5.0, kernel_beams=0.3)
    assert scale.kernel_fwhm == pytest.approx(1.5)
    assert WorkingScale().kernel_fwhm == pytest.approx(0.4 * 4.25)


@given(scale=scales | asinh_scales)
def test_dictionary_round_trip(scale):
    assert WorkingScale(**json.loads(json.dumps(scale.to_dict()))) == scale


# The stretch


@given(scale=asinh_scales, apparent=pixels)
def test_asinh_round_trip(scale, apparent):
    double = apparent.double()
    assert_close(scale.unscale_target(scale.scale_target(double)), double, rtol=1e-9, atol=1e-30)
    single = scale.unscale_target(scale.scale_target(apparent))
    assert_close(single, apparent, rtol=2e-5, atol=1e-30)


@given(scale=asinh_scales, apparent=pixels)
def test_asinh_is_monotone_below_its_tangent(scale, apparent):
    """Its slope is 1 / unit at zero, and falls from there."""
    apparent = apparent.double().sort()[0]
    target = scale.scale_target(apparent)
    rise, step = target.diff(), apparent.diff() / scale.unit
    assert (rise >= 0).all()
    assert (rise <= step * (1 + 1e-9) + 1e-12).all()
    small = torch.tensor([1e-4 * scale.unit], dtype=torch.float64)
    assert_close(scale.scale_target(small), small / scale.unit, rtol=1e-8, atol=0)


def test_asinh_of_closed_values():
    """ln(x + sqrt(x^2 + 1)); a point of 3 rms as the notes have it."""
    scale = WorkingScale(stretch="asinh")
    peak = 4 * math.log(2) / math.pi / WorkingScale().kernel_fwhm ** 2
    apparent = torch.tensor([0.25, 3 * peak, 150 * peak])
    expected = torch.tensor([math.log(1 + math.sqrt(2)), 2.01, 5.90])
    assert_close(scale.scale_target(apparent), expected, rtol=0, atol=0.01)
    roots = torch.tensor([1.0, 1.92, 13.5])
    assert_close(WorkingScale().scale_target(apparent), roots, rtol=0, atol=0.06)
    assert torch.equal(scale.scale_target(torch.tensor([-1.0])), torch.zeros(1))
    assert torch.equal(scale.unscale_target(torch.tensor([-0.3])), torch.zeros(1))


def test_old_descriptions_are_roots():
    """Weights stored before there was a choice go on as they were, to the last bit."""
    old = {"pixels_per_beam": 4.25, "kernel_beams": 0.4, "gamma": 2.0, "unit": 0.25}
    scale = WorkingScale(**old, dirty_unit=3.0)
    assert scale == WorkingScale(stretch="root")
    values = torch.rand(100) * 50
    assert torch.equal(scale.scale_target(values), (values / 0.25) ** (1 / 2.0))
    assert torch.equal(scale.unscale_target(values), 0.25 * values**2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stretch": "log"}, "stretch is 'log'; expected one of root, asinh"),
        ({"gamma": 0.0}, "gamma is 0.0; expected a number above 0"),
        ({"unit": -1.0}, "unit is -1.0"),
        ({"kernel_beams": -0.1}, "kernel_beams is -0.1; expected a number of 0 or more"),
    ],
)
def test_working_scale_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WorkingScale(**options)


# The scale of D24

flux_scales = st.builds(FluxScale, gamma=st.floats(1, 30))
planes = st.lists(st.floats(0, 10, width=32), min_size=4, max_size=4).map(torch.tensor)


def test_closed_values_of_d24():
    """One 0.4 arcsec pixel is 16 of 0.1 arcsec, for which c is given."""
    scale = FluxScale()
    brightest = 16 * 2.960064e-5  # Jy per working pixel
    gain, rms = torch.tensor([0.5, 0.5, 0.5, 0.0]), torch.tensor([5e-5, 5e-5, 5e-5, 0.0])
    sky = torch.tensor([brightest, brightest / 4, 0.0, 0.0])
    apparent = torch.where(rms > 0, sky * gain / rms.clamp(min=1e-9), 0.0)
    target = scale.scale_target(apparent, gain, rms)
    assert_close(target, torch.tensor([1.0, 0.0, -1.0, -1.0]), rtol=0, atol=1e-5)
    assert_close(scale.unscale_target(target, gain, rms), apparent, rtol=1e-4, atol=1e-7)
    dirty = torch.tensor([[[10.0, 5.0, 0.0, 0.0]]])  # 10 rms are c_d
    condition = scale.condition(dirty, gain[None, None], rms[None, None])
    assert_close(condition[0, 0, 0], torch.tensor([1.0, 0.0, -1.0, -1.0]))


@given(scale=flux_scales, apparent=planes, gain=st.floats(0.1, 1), rms=st.floats(1e-6, 1e-3))
def test_round_trip_of_d24(scale, apparent, gain, rms):
    gain, rms = (torch.full((4,), value, dtype=torch.float64) for value in (gain, rms))
    target = scale.scale_target(apparent.double(), gain, rms)
    assert_close(scale.unscale_target(target, gain, rms), apparent.double(), rtol=1e-6, atol=1e-9)


@given(scale=flux_scales)
def test_larger_roots_flatten(scale):
    sky = torch.tensor([1e-6, 1e-5, 1e-4])
    flat = FluxScale(gamma=30.0).normalize_sky(sky)
    assert (scale.normalize_sky(sky) <= flat + 1e-6).all()
    assert_close(torch.from_numpy(scale.normalize_sky(sky.numpy())), scale.normalize_sky(sky))


def test_encode_agrees_with_its_parts():
    images = torch.rand(2, 4, 6, 5)
    target, condition = FluxScale().encode(images)
    apparent, dirty, gain, rms = images.unbind(1)
    assert torch.equal(target[:, 0], FluxScale().scale_target(apparent, gain, rms))
    assert torch.equal(condition, FluxScale().condition(dirty, gain, rms))
    target, condition = WorkingScale().encode(images[:, :3])
    assert torch.equal(target[:, 0], WorkingScale().scale_target(apparent))
    assert torch.equal(condition, WorkingScale().condition(dirty, gain))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0.5}, "gamma is 0.5; expected 1 to 30"),
        ({"gamma": 31}, "gamma is 31"),
        ({"unit": 0.0}, "unit is 0.0; expected a number above 0"),
        ({"pixel": -0.4}, "pixel is -0.4"),
    ],
)
def test_flux_scale_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FluxScale(**options)
