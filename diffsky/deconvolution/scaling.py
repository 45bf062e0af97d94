"""A problem without units: what the network sees, and the way back.

The working grid has a fixed number of pixels per beam; images on it are in units of the noise
rms; the sky is apparent, convolved with one fixed kernel, and root scaled (D24 eq. 1).
"""

from dataclasses import asdict, dataclass

import torch

__all__ = ["WorkingScale"]


@dataclass(frozen=True, kw_only=True)
class WorkingScale:
    """Constants of the working grid and of the scaling.

    Parameters
    ----------
    pixels_per_beam : float, optional
        Pixels per geometric mean FWHM of the beam.
    kernel_beams : float, optional
        FWHM in beams of the Gaussian that every sky is convolved with.
    gamma : float, optional
        Root of D24 eq. 1.
    unit : float, optional
        The apparent flux per pixel, in rms, that is scaled to 1 (c of D24 eq. 1).
    dirty_unit : float, optional
        The dirty image is shown to the network in units of this many rms.
    """

    pixels_per_beam: float = 4.25
    kernel_beams: float = 0.4
    gamma: float = 2.0
    unit: float = 0.25
    dirty_unit: float = 3.0

    @property
    def kernel_fwhm(self):
        """float : FWHM of the target kernel in pixels of the working grid."""
        return self.kernel_beams * self.pixels_per_beam

    def scale_target(self, apparent):
        """Apparent sky to target, D24 eq. 1: (apparent / unit)**(1 / gamma).

        Parameters
        ----------
        apparent : `torch.Tensor`
            Apparent sky per working pixel in units of the rms, 0 or more.

        Returns
        -------
        target : `torch.Tensor`
            Same shape.
        """
        return (apparent.clamp(min=0) / self.unit) ** (1 / self.gamma)

    def unscale_target(self, target):
        """Target to apparent sky, D24 eq. 5: unit * target**gamma.

        Parameters
        ----------
        target : `torch.Tensor`
            Any shape, as `scale_target` or a sampler gives it.

        Returns
        -------
        apparent : `torch.Tensor`
            Same shape, per working pixel in units of the rms; negative targets give 0.
        """
        return self.unit * target.clamp(min=0) ** self.gamma

    def condition(self, dirty, primary_beam):
        """Condition channels of the network.

        Parameters
        ----------
        dirty : `torch.Tensor`
            Shape (n, ny, nx): dirty image over rms, 0 where there is no data.
        primary_beam : `torch.Tensor`
            Shape (n, ny, nx), 0 where there is no data.

        Returns
        -------
        condition : `torch.Tensor`
            Shape (n, 2, ny, nx).
        """
        return torch.stack([dirty / self.dirty_unit, primary_beam], dim=1)

    def to_dict(self):
        """Describe the scale in plain numbers, for JSON.

        Returns
        -------
        description : dict
            The keywords that make the scale again.
        """
        return asdict(self)
