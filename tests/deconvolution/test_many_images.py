"""Lists of images, one after the other and on the workers of a dask cluster."""

import copy
import pickle

import numpy as np
import pytest
from astropy import units as u
from numpy.testing import assert_allclose, assert_array_equal

from diffsky import DiffskyWarning, PredictionError
from diffsky.images import write_image

distributed = pytest.importorskip("distributed")
SOURCES = [(40.3, 50.7, 0.1), (70.2, 30.1, 0.05)]
OPTIONS = {"n_samples": 3, "seed": 1, "primary_beam": 1.0}


@pytest.fixture(scope="module")
def client():
    """Two workers that are threads of this process."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def images(dirty, tmp_path):
    """Three images of different shape; the second is a file."""
    made = [dirty(SOURCES, shape=(96, n), seed=n) for n in (96, 112, 104)]
    write_image(made[1], tmp_path / "b.fits")
    return [made[0], tmp_path / "b.fits", made[2]]


def assert_same_results(found, expected):
    assert len(found) == len(expected)
    for (sky, catalog), (sky_here, catalog_here) in zip(found, expected, strict=True):
        assert_allclose(sky.data, sky_here.data, rtol=1e-5, atol=1e-12)
        assert_array_equal(sky.mask, sky_here.mask)
        assert catalog.colnames == catalog_here.colnames
        assert len(catalog) == len(catalog_here)
        assert_allclose(catalog["flux"].value, catalog_here["flux"].value, rtol=1e-5)
        offset = catalog["sky_centroid"].separation(catalog_here["sky_centroid"])
        assert (offset < 1e-6 * u.arcsec).all()
        assert sky.meta["seed"] == sky_here.meta["seed"]


def test_workers_give_the_results_of_a_list_in_its_order(untrained, images, client):
    expected = [untrained.predict(image, **OPTIONS) for image in images]
    before = untrained.denoiser_
    assert_same_results(untrained.predict(images, **OPTIONS), expected)
    assert_same_results(untrained.predict(tuple(images), client=client, **OPTIONS), expected)
    assert untrained.denoiser_ is before


@pytest.mark.slow
def test_processes_see_no_files_of_the_driver(
    untrained, images, dirty, blob, tmp_path, monkeypatch
):
    """Paths are relative to the folder of this process, which no worker is in."""
    maps = {"primary_beam": "pb.fits", "rms": "rms.fits"}
    paths = []
    for k in range(3):
        paths.append(f"image{k}.fits")
        write_image(dirty(SOURCES, seed=k), tmp_path / paths[-1])
    like = dirty(SOURCES)
    for name, unit in {"primary_beam": u.one, "rms": u.Jy / u.beam}.items():
        level = 0.9 if name == "primary_beam" else 1e-2
        plane = type(like)(np.full(like.shape, level), unit=unit, wcs=like.wcs)
        write_image(plane, tmp_path / maps[name])
    psf = np.pad(blob((97, 97), 48, 48, 4.25, 1.0), ((0, 1), (0, 1)))
    np.divide(psf, psf.max(), out=psf)
    write_image(type(like)(psf, unit=u.one, wcs=like.wcs), tmp_path / "psf.fits")
    options = {**OPTIONS, **maps, "psf": "psf.fits"}
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster, distributed.Client(cluster) as client:
        monkeypatch.chdir(tmp_path)
        spread = untrained.predict(paths, client=client, **options)
    assert_same_results(spread, untrained.predict(paths, **options))


def fail_on(deconvolver, shape, monkeypatch):
    """Make the prediction of images of one shape fail, on whatever copy of the estimator."""
    draw = type(deconvolver).sample_observation

    def failing(self, prepared, *args, **options):
        if prepared.image.shape == shape:
            raise MemoryError("no memory left")
        return draw(self, prepared, *args, **options)

    monkeypatch.setattr(type(deconvolver), "sample_observation", failing)


@pytest.mark.parametrize("spread", [False, True])
def test_one_that_fails_leaves_the_others(untrained, images, client, monkeypatch, spread):
    expected = [untrained.predict(image, **OPTIONS) for image in images[::2]]
    fail_on(untrained, (96, 112), monkeypatch)
    options = {**OPTIONS, "client": client} if spread else OPTIONS
    with pytest.raises(PredictionError, match=r"1 of 3 .*\n.*image 1 \(.*b\.fits\): Mem") as caught:
        untrained.predict(images, **options)
    assert caught.value.errors.keys() == {1}
    assert isinstance(caught.value.errors[1], MemoryError)
    assert caught.value.results[1] is None
    assert_same_results(caught.value.results[::2], expected)


def test_the_error_of_a_list_can_be_sent(images):
    error = PredictionError("1 of 2 images failed", [None, 3], {0: ValueError("bad")})
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.results == [None, 3]
    assert str(again.errors[0]) == "bad"


def test_interrupted_list_keeps_its_results(untrained, images, monkeypatch):
    expected = untrained.predict(images[:1], **OPTIONS)
    draw = type(untrained).sample_observation

    def interrupt(self, prepared, *args, **options):
        if prepared.image.shape == (96, 112):
            raise KeyboardInterrupt
        return draw(self, prepared, *args, **options)

    monkeypatch.setattr(type(untrained), "sample_observation", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        untrained.predict(images, **OPTIONS)
    assert_same_results(caught.value.results[:1], expected)
    assert caught.value.results[1:] == [None, None]


@pytest.mark.parametrize("spread", [False, True])
def test_bad_image_is_refused_before_any_is_sampled(
    local_estimator, images, blob, client, tmp_path, spread
):
    deconvolver = local_estimator()
    options = {**OPTIONS, "client": client} if spread else OPTIONS
    (tmp_path / "text.fits").write_text("no image")
    with pytest.raises(FileNotFoundError, match=r"image 3 \(missing\.fits\): there is no file"):
        deconvolver.predict([*images, "missing.fits"], **options)
    with pytest.raises(ValueError, match=r"image 1 \(.*text\.fits\): "):
        deconvolver.predict([images[0], tmp_path / "text.fits"], **options)
    with pytest.raises(ValueError, match="image 1: rms has shape"):
        deconvolver.predict([images[0], images[2]], rms=np.ones((96, 96)), **options)
    with pytest.raises(ValueError, match="image 1: mask has shape"):
        deconvolver.predict([images[0], images[2]], mask=np.zeros((96, 96)), **options)
    psf = blob((96, 96), 48, 48, 4.25, 1.0)
    psf /= psf.max()
    with pytest.raises(ValueError, match="image 1: psf has shape"):
        deconvolver.predict([images[0], images[2]], psf=psf, **options)
    with pytest.raises(ValueError, match="radius"):
        deconvolver.predict(images, radius=0, **options)
    for name, value in {"sampler": "leapfrog", "n_steps": 2.5}.items():
        setattr(deconvolver, name, value)
        with pytest.raises(ValueError, match=f"{name} is {value!r}"):
            deconvolver.predict(images, **options)
        setattr(deconvolver, name, None)
    assert deconvolver.denoiser_.calls == 0


def test_client_needs_a_list(untrained, images, client):
    with pytest.raises(ValueError, match="expected a list"):
        untrained.predict(images[0], client=client, **OPTIONS)


def test_empty_list(untrained, client):
    assert untrained.predict([], **OPTIONS) == []
    assert untrained.predict([], client=client, **OPTIONS) == []


def test_warnings_of_workers_come_here(untrained, images, client):
    untrained.description_["training"] = {"pairs": {"largest_flux": 10.0}}
    with pytest.warns(DiffskyWarning, match="(?i)bright|range|psf") as caught:
        untrained.predict(images, client=client, **OPTIONS)
    assert len(caught) == 3
    assert {one.filename for one in caught} == {__file__}


def test_warnings_name_the_line_of_the_caller(untrained, images):
    options = {"n_samples": 3, "seed": 1}
    calls = [(untrained.predict, images[0]), (untrained.sample, images[0])]
    for call, what in [*calls, (untrained.predict, images[:1])]:
        with pytest.warns(DiffskyWarning, match="no primary beam is known") as caught:
            call(what, **options)
        assert [one.filename for one in caught] == [__file__]


def test_copy_of_an_estimator_finds_its_own_device(untrained, images):
    expected = untrained.predict(images[0], **OPTIONS)
    twin = pickle.loads(pickle.dumps(untrained))
    assert twin._run is None
    assert untrained._run is not None
    for other in (twin, copy.deepcopy(untrained)):
        assert_same_results([other.predict(images[0], **OPTIONS)], [expected])
