"""A loss in which bright images do not drown faint ones."""

from dataclasses import dataclass

from diffsky.deconvolution.scaling import WorkingScale
from diffsky.diffusion.training import denoising_errors

__all__ = ["BalancedLoss"]


@dataclass(frozen=True)
class BalancedLoss:
    """Denoising loss, each image divided by how bright its dirty image is.

    The squared errors of a root of the flux grow like the flux, so that few bright skies decide
    what a network learns. Here an image counts by one over the root mean square of its dirty image
    over the noise rms, which is about 1 for noise and faint sources. What it depends on is in the
    condition, so that the denoiser of least loss for a condition stays the mean of the posterior.

    Parameters
    ----------
    scale : `WorkingScale`
        Scale of the pairs.

    Raises
    ------
    ValueError
        If the scale does not measure dirty images in units of the rms.
    """

    scale: WorkingScale

    def __post_init__(self):
        if not isinstance(self.scale, WorkingScale):
            raise ValueError(
                f"balance is True for pairs of {type(self.scale).__name__}; expected WorkingScale, "
                "whose dirty images are in units of the rms"
            )

    def __call__(self, denoiser, target, condition, sigma, noise):
        """Compute the loss, with the arguments of `diffsky.diffusion.denoising_loss`.

        Parameters
        ----------
        denoiser : `diffsky.diffusion.Denoiser`
            The denoiser.
        target, condition, sigma, noise : `torch.Tensor`
            As for `diffsky.diffusion.denoising_loss`.

        Returns
        -------
        loss : `torch.Tensor`
            Mean over images.
        """
        errors = denoising_errors(denoiser, target, condition, sigma, noise)
        return (errors / self.scale.dirty_power(condition).clamp(min=1).sqrt()).mean()
