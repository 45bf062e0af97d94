"""Tables and images of one's own as skies: positions, fluxes, and what is refused."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable, Table
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from radio_beam import Beam

from diffsky.exceptions import DiffskyWarning
from diffsky.images import beam_area_pixels
from diffsky.simulation import (
    PRIORS,
    ObservationSetup,
    render_sources,
    sky_from_image,
    source_columns,
    sources_from_table,
)
from diffsky.simulation.sources import SHAPES, SourceList

CENTRE = SkyCoord(150.1 * u.deg, 2.2 * u.deg)
JY_PIX = u.Jy / u.pix


def make_wcs(n=128, cell=0.1, angle=0.0, mirror=1, shift=0.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---SIN", "DEC--SIN"], ["deg", "deg"]
    wcs.wcs.crval = [CENTRE.ra.deg, CENTRE.dec.deg]
    wcs.wcs.crpix = [n // 2 + 1 + shift, n // 2 + 1]
    wcs.wcs.cdelt = [-mirror * cell / 3600, cell / 3600]
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    wcs.array_shape = (n, n)
    wcs.wcs.set()
    return wcs


def make_table(n=3, **columns):
    places = CENTRE.directional_offset_by(np.arange(n) * u.rad, np.arange(n) * u.arcsec)
    flux = np.arange(1.0, n + 1) * u.mJy
    return QTable({"flux": flux, "sky_centroid": places, **columns})


# Tables


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_what_a_table_of_ours_says(seed):
    """A sky that goes through its table comes back, shapes included."""
    prior = PRIORS["general"]
    there = prior.draw(np.random.default_rng(seed), within=10).scaled(flux=1e-5, size=0.5)
    wcs = make_wcs()
    again = sources_from_table(there.to_table(wcs), wcs)
    assert len(again) == len(there)
    for name in ("x", "y", "flux", "major", "minor", "shape"):
        assert_allclose(getattr(again, name), getattr(there, name), rtol=1e-9, atol=1e-6)
    turned = np.exp(2j * again.pa) - np.exp(2j * there.pa)
    assert np.abs(turned[there.major > 0]).max(initial=0) < 1e-4


@pytest.mark.parametrize(("angle", "mirror"), [(0, 1), (30, 1), (-70, -1)])
def test_positions_and_angles_on_any_wcs(angle, mirror):
    """The major axis points from the source to where the sky says, on turned pixels too."""
    pa = np.array([20.0, 110.0]) * u.deg
    table = make_table(2, major=[2, 2] * u.arcsec, minor=[1, 1] * u.arcsec, pa=pa)
    wcs = make_wcs(angle=angle, mirror=mirror)
    sources = sources_from_table(table, wcs)
    for row, (place, angle) in enumerate(zip(table["sky_centroid"], pa, strict=True)):
        image = render_sources(sources[[row]], [0], 1, (128, 128), pixel=0.1)[0].double().numpy()
        tip, side = (
            place.directional_offset_by(a, 1 * u.arcsec) for a in (angle, angle + 90 * u.deg)
        )
        (x1, y1), (x2, y2) = (np.rint(wcs.world_to_pixel(c)).astype(int) for c in (tip, side))
        assert image[y1, x1] == pytest.approx(image.max() / 2, rel=0.15)
        assert image[y2, x2] == pytest.approx(image.max() / 16, rel=0.4)


def test_without_shapes_sources_are_points():
    columns = source_columns(make_table())
    assert not columns["major"].any()
    assert columns["shape"].tolist() == [0, 0, 0]
    assert_allclose(columns["flux"], [1e-3, 2e-3, 3e-3])


def test_shapes_by_name_and_round_ones():
    names = ["ring", "point", "disk"]
    columns = source_columns(make_table(major=[1, 0, 2] * u.arcsec, shape=names))
    assert [SHAPES[k] for k in columns["shape"]] == names
    assert_allclose(columns["minor"], [1, 0, 2])
    assert not columns["pa"].any()


def test_plain_table_with_units():
    table = Table(make_table())
    assert_allclose(source_columns(table)["flux"], [1e-3, 2e-3, 3e-3])


def test_sources_at_the_border_are_left_out():
    """A point stays where its kernel does not cross the border, a wide source goes."""
    east = CENTRE.directional_offset_by(90 * u.deg, [0, 5.9, 5.9, 30] * u.arcsec)
    flux, major = np.ones(4) * u.Jy, [0, 0, 2, 0] * u.arcsec
    table = QTable({"flux": flux, "sky_centroid": east, "major": major})
    with pytest.warns(DiffskyWarning, match="2 of 4 sources do not lie whole.*: rows 2, 3$"):
        sources = sources_from_table(table, make_wcs())
    assert len(sources) == 2
    with pytest.warns(DiffskyWarning, match="3 of 4 .* rows 1, 2, 3"):
        sources_from_table(table, make_wcs(), kernel_fwhm=0.4 * u.arcsec)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (make_table(3)["flux",], "the table has no sky_centroid but flux"),
        (make_table()["sky_centroid",], "has no flux"),
        (make_table(flux=[1.0, 2, 3]), "flux has no unit; expected Jy"),
        (make_table(flux=[1, 2, 3] * u.m), "flux is in m; expected Jy"),
        (make_table(flux=[1, np.nan, -3] * u.Jy), "flux is not finite in row 1 of the table"),
        (make_table(flux=[-1, 2, -3] * u.Jy), "flux is negative in rows 0, 2 of the table"),
        (
            make_table(9, major=np.full(9, -1) * u.arcsec),
            "major is negative in rows 0, 1, 2, 3, 4 and 4 more",
        ),
        (make_table(major=[1, 1, 1.0]), "major has no unit; expected arcsec"),
        (make_table(major=[1, 1, 1] * u.arcsec, minor=[1, 1, 2] * u.arcsec), "minor .* row 2"),
        (make_table(major=[1, 1, 1] * u.arcsec, minor=[0, 1, 1] * u.arcsec), "minor is 0 .* row 0"),
        (make_table(pa=[0, np.inf, 0] * u.deg), "pa is not finite in row 1"),
        (make_table(shape=["point", "jet", "point"]), "shape is none of point.* in row 1"),
        (make_table(shape=["point", "disk", "point"]), "shape is 'point' .* in row 1"),
    ],
)
def test_table_refused(table, message):
    with pytest.raises(ValueError, match=message):
        sources_from_table(table, make_wcs())


def test_masked_flux_refused():
    table = Table(make_table())
    table["flux"] = MaskedColumn([1.0, 2, 3], unit="Jy", mask=[False, True, False])
    with pytest.raises(ValueError, match="flux is masked in row 1"):
        source_columns(table)


def test_positions_without_a_frame_refused():
    table = make_table()
    table["sky_centroid"] = [1, 2, 3] * u.deg
    with pytest.raises(TypeError, match="sky_centroid is of type Quantity; expected SkyCoord"):
        source_columns(table)
    with pytest.raises(TypeError, match="of type list; expected an astropy table"):
        source_columns([1])


def test_field_without_a_shape_refused():
    wcs = make_wcs()
    wcs.array_shape = None
    with pytest.raises(ValueError, match="no array_shape"):
        sources_from_table(make_table(), wcs)


# Images


def make_sky(wcs, unit=JY_PIX, **options):
    """Three Gaussians in the middle of an image."""
    columns = (np.array(c, dtype=float) for c in ([0, 1, -1.5], [0, 1, 0.5], [1, 2, 3.0]))
    wide = np.array([0.6, 0.8, 0.5])
    sources = SourceList(*columns, wide, wide, np.zeros(3))
    n, pixel = wcs.array_shape[0], abs(wcs.wcs.cdelt[0]) * 3600
    data = render_sources(sources, [0, 0, 0], 1, (n, n), pixel=pixel)[0].double().numpy()
    return CCDData(data, unit=unit, wcs=wcs, **options)


@settings(max_examples=6)
@given(cell=st.floats(0.08, 0.3), angle=st.floats(-180, 180), shift=st.floats(-2, 2), n=st.just(96))
def test_flux_and_places_on_another_grid(cell, angle, shift, n):
    """The sum to 1e-6, the centroid to a hundredth of an arcsec, for any pixel and rotation."""
    sky = make_sky(make_wcs(96, 0.1))
    size = int(np.ceil(12 / cell))
    wcs = make_wcs(size, cell, angle, shift=shift)
    moved = sky_from_image(sky, wcs)
    assert moved.shape == (size, size)
    assert moved.unit == JY_PIX
    assert moved.data.sum() == pytest.approx(sky.data.sum(), rel=1e-6)
    assert moved.data.min() >= 0
    places = []
    for image in (sky, moved):
        y, x = np.indices(image.shape)
        x, y = ((image.data * axis).sum() / image.data.sum() for axis in (x, y))
        places.append(image.wcs.pixel_to_world(x, y))
    assert places[0].separation(places[1]) < 0.01 * u.arcsec


def test_same_grid_is_left_as_it_is():
    sky = make_sky(make_wcs(64))
    assert np.array_equal(sky_from_image(sky, make_wcs(64)).data, sky.data)


def test_sky_suits_casa():
    """On the WCS of a set-up it is what a simulation takes."""
    from diffsky.simulation._casa_inputs import sky_inputs

    setup = ObservationSetup(direction=CENTRE, image_size=64, cell=0.2 * u.arcsec)
    sky = sky_from_image(make_sky(make_wcs(96)), setup.wcs)
    assert sky_inputs(sky, setup)["sky"].sum() == pytest.approx(6, rel=1e-3)


def test_units():
    """Jy/beam by the area of the beam, Jy/sr by that of a pixel; prefixes."""
    wcs, beam = make_wcs(64), Beam(0.8 * u.arcsec, 0.5 * u.arcsec, 20 * u.deg)
    sky = make_sky(wcs)
    area = beam_area_pixels(beam, 0.1 * u.arcsec)
    per_beam = CCDData(sky.data * area * 1e3, unit=u.mJy / u.beam, wcs=wcs, meta={"beam": beam})
    solid = (0.1 * u.arcsec).to_value(u.rad) ** 2
    per_sr = CCDData(sky.data / solid, unit=u.Jy / u.sr, wcs=wcs)
    for image in (per_beam, per_sr, CCDData(sky.data * 1e6, unit=u.uJy / u.pix, wcs=wcs)):
        assert_allclose(sky_from_image(image, wcs).data, sky.data, rtol=1e-5)
    assert sky_from_image(per_beam, wcs).meta["beam"] == beam
    del per_beam.meta["beam"]
    assert_allclose(sky_from_image(per_beam, wcs, beam=beam).data, sky.data, rtol=1e-5)


def test_fits_file(tmp_path):
    sky, path = make_sky(make_wcs(64)), tmp_path / "sky.fits"
    header = sky.wcs.to_header()
    header["BUNIT"] = "Jy/pixel"
    fits.writeto(path, sky.data[None, None], header)
    assert_allclose(sky_from_image(path, make_wcs(64)).data, sky.data)
    header.remove("BUNIT")
    fits.writeto(path, sky.data, header, overwrite=True)
    with pytest.raises(ValueError, match="sky has no unit"):
        sky_from_image(path, make_wcs(64))
    assert_allclose(sky_from_image(path, make_wcs(64), unit="Jy/pix").data, sky.data)


def test_lost_flux_is_told():
    with pytest.warns(DiffskyWarning, match=r"\d+\.\d% of the flux of the sky lies outside"):
        sky_from_image(make_sky(make_wcs(96)), make_wcs(20))


def test_coarse_pixels_at_the_border_of_the_image():
    """Pixels that the image covers in part get that part alone."""
    flat = CCDData(np.ones((21, 21)), unit=JY_PIX, wcs=make_wcs(21))
    assert sky_from_image(flat, make_wcs(31, 0.13, 30)).data.sum() == pytest.approx(441, rel=1e-6)


def spoilt(value):
    sky = make_sky(make_wcs(64))
    sky.data[5, 7] = value
    return sky


@pytest.mark.parametrize(
    ("sky", "message"),
    [
        (spoilt(np.nan), r"1 pixels that are masked or not finite, the first of them \(5, 7\)"),
        (spoilt(-1e-9), r"1 pixels that are negative, the first of them \(5, 7\)"),
        (make_sky(make_wcs(64), mask=np.eye(64) > 0), "64 pixels that are masked"),
        (make_sky(make_wcs(64), unit=u.m), "sky is in m; expected Jy/pix, Jy/beam or Jy/sr"),
        (make_sky(make_wcs(64), unit=u.Jy / u.beam), "beam"),
        (CCDData(np.ones((8, 8)), unit=JY_PIX), "sky has no celestial WCS"),
        (CCDData(np.ones((2, 8, 8)), unit=JY_PIX, wcs=make_wcs(8)), "plane"),
    ],
)
def test_image_refused(sky, message):
    with pytest.raises(ValueError, match=message):
        sky_from_image(sky, make_wcs(64))
