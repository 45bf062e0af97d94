"""Images of ALMA, LOFAR and the VLA."""

import os
from pathlib import Path

import pytest
from astropy import units as u
from astropy.io import fits
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.images import load_image, load_map, load_psf

NY, NX = 30, 40


# Real images


@pytest.fixture
def real():
    folder = os.environ.get("DIFFSKY_DATA")
    if not folder:
        pytest.skip("DIFFSKY_DATA, the folder with real images, is not set")
    return Path(folder)


def test_real_alma(real):
    files = str(real / "alma_pisco" / "Pisco.cii.455kms.{}.fits")
    dirty = load_image(files.format("dirty"))
    assert dirty.shape == (257, 257)
    assert not dirty.mask.any()
    assert dirty.meta["telescope"] == "ALMA"
    assert_allclose(dirty.meta["frequency"].to_value("GHz"), 222.51, atol=0.01)
    assert_allclose(dirty.meta["beam"].major.to_value("arcsec"), 0.282, atol=1e-3)
    assert_allclose(dirty.meta["pixel_scale"].to_value("arcsec"), 0.04, rtol=1e-6)
    assert_array_equal(dirty.data, fits.getdata(files.format("dirty"))[0, 0])
    pb = load_map(files.format("pb"), like=dirty, name="primary_beam")
    assert_array_equal(pb, fits.getdata(files.format("pb"))[0, 0])
    psf = load_psf(files.format("psf"), like=dirty)
    assert psf.shape == (257, 257)
    assert_allclose(psf[128, 128], 1)
    assert load_image(files.format("image")).meta["beam"] == dirty.meta["beam"]
    beam = dirty.meta["beam"]  # tclean's residual says neither unit nor beam
    residual = load_image(files.format("residual"), unit="Jy/beam", beam=beam)
    assert residual.meta["frequency"] == dirty.meta["frequency"]
    with pytest.raises(u.UnitConversionError, match="Jy / pix"):
        load_image(files.format("model"))
    with pytest.raises(ValueError, match="no unit"):
        load_image(files.format("pb"))


def test_real_lotss(real):
    path = real / "lotss" / "P205+55-mosaic.fits"
    mosaic = load_image(path)
    assert mosaic.shape == (400, 400)
    assert mosaic.meta["telescope"] == "LOFAR"
    assert_allclose(mosaic.meta["beam"].major.to_value("arcsec"), 6)
    assert_allclose(mosaic.data, fits.getdata(path), rtol=1e-6)


def test_real_first(real):
    files = sorted((real / "mirabest").glob("100_*.fits"))
    assert files
    for path in files:
        image = load_image(path, beam=5.4 * u.arcsec)
        assert image.shape == (300, 300)
        assert_allclose(image.meta["pixel_scale"].to_value("arcsec"), 1.8)
    with pytest.raises(ValueError, match="no beam"):
        load_image(files[0])
    with pytest.raises(ValueError, match=r"one celestial plane.*\(1000, 108, 108\)"):
        load_image(real / "mirabest" / "cutouts.fits")
    with pytest.raises(ValueError, match="one HDU with an image"):
        load_image(real / "lotss" / "catalog.srl.fits")
