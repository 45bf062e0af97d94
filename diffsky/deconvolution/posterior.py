"""Samples of the apparent sky of one observation: the network, and what is around it."""

import numpy as np
import torch

from diffsky.deconvolution.image_checks import warn_about_image
from diffsky.deconvolution.major_cycles import draw_skies
from diffsky.deconvolution.observation import prepare_observation
from diffsky.deconvolution.psf_checks import TRAINED_CONTENT, is_foreign, warn_if_other_beam
from diffsky.deconvolution.reweighting import reweight
from diffsky.deconvolution.sampling import draw_samples

__all__ = ["PosteriorSampler"]

_INSIDE = 0.88  # of the largest PSF content of the training: what reweighting aims at


class PosteriorSampler:
    """What an estimator with ``denoiser_``, ``preset_`` and ``description_`` samples with."""

    def sample_apparent(self, prepared, *, n_samples, seed, progress=None):
        """Draw samples of the apparent sky on the working grid.

        Parameters
        ----------
        prepared : `diffsky.deconvolution.observation.PreparedObservation`
            The observation, as ``prepare_observation`` of that module makes it with
            ``preset_.scale.grid`` and the stride of the network. Its ``dirty_working`` may also
            have the shape (n_samples, height, width), with a dirty image for each sample.
        n_samples : int
            Number of samples, 1 or more.
        seed : int
            Sample k of a seed is always the same, 0 or larger.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.

        Returns
        -------
        apparent : `numpy.ndarray`
            Shape (n_samples, height, width) of the working grid: flux per working pixel in units
            of the rms, from which `diffsky.deconvolution.make_sky` and
            `diffsky.deconvolution.make_catalog` start.
        """
        backend = self._ready()
        scale = self.preset_.scale
        images = (prepared.dirty_working, prepared.primary_beam_working, prepared.rms_working)
        dirty, gain, rms = (torch.from_numpy(image) for image in images)
        dirty = dirty.reshape(-1, *gain.shape)
        condition = scale.condition(dirty, gain.expand_as(dirty), rms.expand_as(dirty))
        targets = draw_samples(
            self.denoiser_,
            condition,
            n_samples=n_samples,
            seed=seed,
            sampling=self.sampling_plan(),
            backend=backend,
            progress=progress,
        )
        apparent = scale.unscale_target(targets, gain, rms).numpy()
        return apparent * (prepared.primary_beam_working > 0)

    def _prepare(self, dirty, **observation):
        fitted = self._fitted()
        return prepare_observation(
            dirty,
            **fitted.preset_.scale.grid,
            stride=fitted.denoiser_.network.stride,
            **observation,
        )

    def sample_observation(
        self, prepared, *, psf=None, measured=False, n_samples, seed, progress=None
    ):
        """Draw samples of the apparent sky, with all that ``predict`` does where the PSF is known.

        Parameters
        ----------
        prepared : `diffsky.deconvolution.observation.PreparedObservation`
            The observation, as for `sample_apparent`.
        psf : `numpy.ndarray` or None, optional
            PSF on the pixels of the image, its peak of 1 at (my // 2, mx // 2). With it an image
            of unusual weighting is reweighted, and bright sources are subtracted in major cycles.
        measured : bool, optional
            Whether the noise was measured, and is to be measured again after these.
        n_samples : int
            Number of samples, 1 or more.
        seed : int
            Sample k of a seed is always the same, 0 or larger.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.

        Returns
        -------
        apparent : `numpy.ndarray`
            As from `sample_apparent`.
        prepared : `diffsky.deconvolution.observation.PreparedObservation`
            The observation with the noise that was used.

        Warns
        -----
        DiffskyWarning
            If the image is too bright to be sampled without its PSF, or bright sources are left.
        """
        options = {"n_samples": n_samples, "seed": seed, "progress": progress}
        if psf is not None:
            prepared, psf = self._reweighted(prepared, psf, measured)
        return draw_skies(
            prepared,
            psf,
            lambda seen: self.sample_apparent(seen, **options),
            scale=self.preset_.scale,
            n_samples=n_samples,
            seed=seed,
            trained_snr=self._trained_snr(),
            measure_rms=measured,
        )

    def _reweighted(self, prepared, psf, measured):
        """The observation and its PSF, with other weights where the PSF is a foreign one."""
        if self.preset_.scale.pixels_per_beam is None:
            return prepared, psf
        trained = self._trained("psf_content", TRAINED_CONTENT)
        if not is_foreign(psf, trained, like=prepared.image):
            return prepared, psf
        content = _INSIDE * trained[1]
        image, psf, noise = reweight(prepared.image, prepared.valid, psf, content=content)
        rms = None if measured else prepared.rms * noise
        return self._prepare(image, primary_beam=prepared.primary_beam, rms=rms), psf

    def _warn_about(self, prepared, observation):
        """Warn of what these weights have never seen in an image."""
        warn_about_image(prepared, measured=observation.get("rms") is None)
        beams = self._trained("beam", None)
        if beams is not None and self.preset_.scale.pixels_per_beam is None:
            warn_if_other_beam(prepared.image.meta["beam"], beams)

    def _trained_snr(self):
        return self._trained("largest_flux", np.inf)

    def _trained(self, name, default):
        """What the weights say about the pairs of their training."""
        return self.description_["training"].get("pairs", {}).get(name, default)

    def _subtracts_bright(self, psf):
        return psf is not None and self.preset_.scale.pixels_per_beam is not None
