"""What CLEAN refuses, before CASA is started."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from baseline_images import BEAM, RMS, SETUP, wcs_of
from hypothesis import given
from hypothesis import strategies as st
from small_casa import needs_casa

from diffsky.evaluation import clean, clean_image
from diffsky.evaluation._clean import centred


@needs_casa
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_sigma": 0}, "n_sigma is 0; expected a positive"),
        ({"gain": 1.5}, "a gain at most 1"),
        ({"max_iterations": 0.5}, "max_iterations is 0.5; expected an int"),
        ({"deconvolver": "clark"}, "deconvolver is 'clark'; expected one of"),
        ({"deconvolver": "multiscale", "scales": [-1]}, r"scales is \[-1\]; expected numbers"),
        ({"rms": [1, 2] * RMS}, "rms is .*; expected one positive number"),
        ({"rms": 0}, "rms is 0; expected one positive number"),
        ({"rms": 1 * u.K}, "not convertible"),
        ({"masking": "vla"}, "masking is 'vla'; expected one of .*alma-12m"),
        ({"masking": {"noise": 4}}, "masking has noise; expected some of"),
    ],
)
def test_parameters_of_clean(observed, options, message):
    for call in (clean, lambda o, **kw: clean_image(o.dirty, o.psf, **kw)):
        with pytest.raises(ValueError, match=message):
            call(observed, **options)


@needs_casa
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vis", "other.ms"),
        ("datacolumn", "corrected"),
        ("stokes", "IQUV"),
        ("weighting", "uniform"),
        ("robust", -2),
        ("uvtaper", ["1arcsec"]),
        ("pblimit", -0.1),
        ("restoration", False),
        ("restoringbeam", "2arcsec"),
        ("niter", 0),
        ("gain", 0.2),
        ("nsigma", 5),
        ("threshold", "1mJy"),
        ("deconvolver", "mtmfs"),
        ("scales", [0, 50]),
        ("noisethreshold", 3),
    ],
)
def test_options_that_change_what_is_returned(observed, name, value):
    """Each of them would contradict an argument, the beam or the primary beam."""
    message = f"options set {name}, which the observation or an argument decides"
    for call in (clean, lambda o, **kw: clean_image(o.dirty, o.psf, **kw)):
        with pytest.raises(ValueError, match=message):
            call(observed, options={name: value, "cyclefactor": 2.0})


@needs_casa
def test_observations_that_cannot_be_cleaned(observed, tmp_path):
    with pytest.raises(TypeError, match=r"of type CCDData; expected an Observation .*clean_image"):
        clean(observed.dirty)
    with pytest.raises(ValueError, match=r"no measurement set; .*keep_measurement_set=True"):
        clean(replace(observed, measurement_set=None))
    with pytest.raises(ValueError, match="no measurement set at .*gone.ms"):
        clean(replace(observed, measurement_set=tmp_path / "gone.ms"))


@needs_casa
def test_images_that_cannot_be_cleaned(observed):
    dirty, psf = observed.dirty, observed.psf
    blank = CCDData(np.full(dirty.shape, np.nan), unit=dirty.unit, wcs=dirty.wcs, meta=dirty.meta)
    bare = CCDData(np.nan_to_num(dirty.data), unit=dirty.unit, wcs=dirty.wcs)
    other = CCDData(psf.data, unit=psf.unit, wcs=replace(SETUP, cell=0.2 * u.arcsec).wcs)
    shifted = np.roll(psf.data, 20, axis=0)
    outside = np.where(dirty.mask, 1.0, 0.0)
    mirror = wcs_of(40, flip=-1, size=192)
    mirrored = CCDData(np.ones((192, 192)), unit="Jy/beam", wcs=mirror, meta={"beam": BEAM})
    for arguments, message in [
        ({"dirty": blank}, "none of its 36864 pixels is finite"),
        ({"dirty": bare}, "beam"),
        ({"dirty": mirrored}, "dirty is mirrored"),
        ({"psf": other}, "psf has pixels of 0.2 arcsec, the image of 0.15 arcsec"),
        ({"psf": psf.data[:100, :100]}, r"psf has shape \(100, 100\), expected at least"),
        ({"psf": shifted}, r"psf peaks at pixel \(116, 96\)"),
        ({"primary_beam": outside}, "nowhere above 0 where dirty has data"),
        ({"primary_beam": np.ones((3, 3))}, r"primary_beam has shape \(3, 3\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            clean_image(**({"dirty": dirty, "psf": psf.data} | arguments))


@given(st.tuples(st.integers(5, 40), st.integers(5, 40)), st.integers(0, 3), st.integers(0, 3))
def test_psf_is_centred_with_its_peak_in_the_middle(shape, more, less):
    size = shape[0] + more, max(shape[1] - less, 3)
    psf = np.zeros(size)
    psf[size[0] // 2, size[1] // 2] = 1
    psf[size[0] // 2 - 1, size[1] // 2 + 1] = 0.5
    placed = centred(psf, shape)
    assert placed.shape == shape
    assert placed[shape[0] // 2, shape[1] // 2] == 1
    assert placed[shape[0] // 2 - 1, shape[1] // 2 + 1] == 0.5
    assert placed.sum() == 1.5
