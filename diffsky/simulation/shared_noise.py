"""The noise that CASA's default seed gives every observation of an array (D24 section 2)."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np

from diffsky.diffusion.weights import replace_file
from diffsky.instrument.antennas import read_array
from diffsky.instrument.gridding import image_visibilities, imaging_weights
from diffsky.instrument.noise import visibility_noise
from diffsky.instrument.tracks import uv_tracks

__all__ = ["SharedNoise"]

_SCRIPT = Path(__file__).with_name("_casa_noise.py")
_TIMEOUT = 3600 * u.s
_SAME = ("array", "total_time", "integration", "hour_angle")


@dataclass(frozen=True, eq=False)
class SharedNoise:
    """Noise of visibilities as CASA draws it from its default seed, for any direction.

    simalma, which D24 ran, has no seed: row by row and channel by channel, visibilities get the
    same random numbers in every direction. Here they are, and `image` makes of them what the image
    of a direction has. For anything but a comparison with D24 the noise of every observation is
    to be drawn anew: see `diffsky.instrument.Instrument`.

    Parameters
    ----------
    values : `numpy.ndarray`
        Shape (groups, rows), complex: noise of each row of the measurement set and each group of
        channels, both polarisations merged, over the noise of the whole band in one polarisation.
    frequencies : `numpy.ndarray`
        Shape (groups,): mean frequency of a group over that of the band.
    about : dict
        ``array``, and ``total_time``, ``integration`` (s) and ``hour_angle`` (h) of the rows.
    """

    values: np.ndarray
    frequencies: np.ndarray
    about: dict

    def __post_init__(self):
        shape = self.values.shape
        if len(shape) != 2 or self.frequencies.shape != shape[:1]:
            raise ValueError(
                f"values have shape {shape} and frequencies {self.frequencies.shape}; expected "
                "(groups, rows) and (groups,)"
            )
        if not np.isfinite(self.values).all() or not (self.frequencies > 0).all():
            raise ValueError("values or frequencies are not finite numbers; expected such")
        if sorted(self.about) != sorted(_SAME):
            raise ValueError(f"about has {sorted(self.about)}; expected {sorted(_SAME)}")

    @classmethod
    def from_casa(cls, setup, *, n_groups=8, timeout=_TIMEOUT, log_file=None):
        """Take the noise of one observation that CASA simulates.

        Parameters
        ----------
        setup : `ObservationSetup`
            Of ALMA or the ACA; for the noise of D24 `ObservationSetup.drozdova2024`, in any
            direction. That takes three minutes.
        n_groups : int, optional
            Groups that the channels are merged to. Default 8: an image of them differs from one of
            all 240 channels of D24 by 1e-4 of its power.
        timeout : `~astropy.units.Quantity` or float, optional
            CASA is killed after this time. By default an hour.
        log_file : path-like, optional
            What CASA says is appended to this file.

        Returns
        -------
        noise : `SharedNoise`
            For every direction.

        Raises
        ------
        ImportError, ValueError, CasaError, CasaTimeoutError
            As `simulate_observation`; ValueError too if the channels cannot be grouped so.
        """
        arrays = observe_noise(setup, n_groups, timeout=timeout, log_file=log_file)
        level, tracks = _level(setup)
        if len(tracks.rows) < arrays["values"].shape[1]:
            raise ValueError(
                f"a share of {tracks.flagged:.3f} of the visibilities is flagged; expected a "
                "direction in which none is"
            )
        frequencies = arrays["frequencies"] / setup.frequency.to_value(u.Hz)
        return cls((arrays["values"] / level).astype(np.complex64), frequencies, _about(setup))

    def image(self, setup, *, padding=4):
        """Noise image of an observation.

        Parameters
        ----------
        setup : `ObservationSetup`
            Any direction and water vapour, imaged in any way, with the array and the times that
            the noise was taken with.
        padding : int, optional
            uv grid over field. Where the primary beam is above 0.2 the default, 4, gives CASA's
            image with a correlation of 0.993, 8 with 0.998.

        Returns
        -------
        image : `numpy.ndarray`
            Shape (image_size, image_size), in Jy/beam.

        Raises
        ------
        ValueError
            If the array or the times are others, or the pixels are too large.
        """
        own = _about(setup)
        for name in _SAME:
            if own[name] != self.about[name]:
                raise ValueError(
                    f"{name} of the set-up is {own[name]}; expected {self.about[name]}, that of "
                    "the noise"
                )
        level, tracks = _level(setup)
        pixel, size = setup.cell.to_value(u.arcsec), setup.image_size
        weights = imaging_weights(
            tracks.uv,
            tracks.weights,
            weighting=setup.weighting,
            robust=setup.robust,
            pixel_scale=pixel,
            image_size=size,
        )
        image = image_visibilities(
            np.concatenate([tracks.uv * frequency for frequency in self.frequencies]),
            (self.values[:, tracks.rows] * level).ravel(),
            weights=np.tile(weights, len(self.frequencies)),
            pixel_scale=pixel,
            image_size=padding * size,
        )
        edge = (padding - 1) * size // 2
        return image[edge : edge + size, edge : edge + size]

    def write(self, path):
        """Write the noise to a file, 7 MB for that of D24 in eight groups.

        Parameters
        ----------
        path : path-like
            A name in ``.npz``; a file that is there is replaced.
        """
        content = io.BytesIO()
        about = np.array(json.dumps(self.about))
        np.savez(content, values=self.values, frequencies=self.frequencies, about=about)
        replace_file(Path(path), content.getbuffer())

    @classmethod
    def read(cls, path):
        """Read the noise from a file.

        Parameters
        ----------
        path : path-like
            What `write` wrote.

        Returns
        -------
        noise : `SharedNoise`
            As it was written.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(str(stored["about"]))
                return cls(stored["values"], stored["frequencies"], about)
        except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no noise of SharedNoise.write: {error}") from error


def observe_noise(setup, n_groups, *, imaged=False, timeout=_TIMEOUT, log_file=None):
    """Let CASA observe nothing, with the noise of its default seed.

    Parameters
    ----------
    setup : `ObservationSetup`
        What is observed how.
    n_groups : int
        Groups of channels.
    imaged : bool, optional
        Whether CASA makes the image, too.
    timeout, log_file : optional
        As for `SharedNoise.from_casa`.

    Returns
    -------
    arrays : dict
        ``values``, shape (groups, rows) in Jy, ``frequencies`` in Hz, and perhaps ``dirty``.

    Raises
    ------
    ImportError, ValueError, CasaError, CasaTimeoutError
        As `SharedNoise.from_casa`.
    """
    from diffsky.simulation._casa_inputs import casa_seed, check_count, observation_job
    from diffsky.simulation._casa_process import require_casa, run_job

    require_casa()
    check_count("n_groups", n_groups, 1)
    if setup.n_channels % n_groups:
        raise ValueError(
            f"n_groups is {n_groups}; expected a divisor of the {setup.n_channels} channels"
        )
    job = observation_job(setup, seed=casa_seed("casa-default"), simulator="simobserve")
    job |= {"task": "observe_noise", "script": str(_SCRIPT)}
    job |= {"n_groups": n_groups, "imaged": imaged, "empty_sky": True}
    return run_job(job, timeout=timeout, log_file=log_file)[0]


def _level(setup):
    """Noise of the whole band of each visibility that is not flagged, and the uv points."""
    array = read_array(setup.array)
    names = ("direction", "frequency", "total_time", "integration", "hour_angle")
    tracks = uv_tracks(array, **{name: getattr(setup, name) for name in names})
    level = visibility_noise(
        setup.frequency.to_value(u.Hz),
        pwv=setup.pwv.to_value(u.mm),
        elevation=tracks.elevation,
        areas=tracks.areas,
        bandwidth=setup.bandwidth.to_value(u.Hz),
        integration=setup.integration.to_value(u.s),
        telescope=array.telescope,
    )
    return level, tracks


def _about(setup):
    return {
        "array": str(setup.array),
        "total_time": setup.total_time.to_value(u.s),
        "integration": setup.integration.to_value(u.s),
        "hour_angle": setup.hour_angle.to_value(u.hourangle),
    }
