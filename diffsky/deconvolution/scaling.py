"""What the network sees, and the way back: two scales with one interface.

`WorkingScale` makes a problem without units: its grid has a fixed number of pixels per beam; images
on it are in units of the noise rms; the sky is apparent, convolved with one fixed kernel, and root
(D24 eq. 1) or asinh scaled. `FluxScale` is what D24 section 3.1 does: a fixed grid in arcsec,
images in Jy, the true sky, and the dirty image alone as condition.
"""

from dataclasses import asdict, dataclass

import torch

__all__ = ["SCALES", "FluxScale", "WorkingScale"]

_STRETCHES = ("root", "asinh")


@dataclass(frozen=True, kw_only=True)
class WorkingScale:
    """Constants of the working grid and of the scaling.

    Parameters
    ----------
    pixels_per_beam : float, optional
        Pixels per geometric mean FWHM of the beam.
    kernel_beams : float, optional
        FWHM in beams of the Gaussian that every sky is convolved with. With 0 there is none, and
        no source may be narrower than 1.5 working pixels.
    gamma : float, optional
        Root of D24 eq. 1, above 0; the stretch ``"asinh"`` does not use it.
    unit : float, optional
        Apparent flux per pixel in rms, above 0: c of D24 eq. 1, which the root scales to 1, and
        the flux where the asinh turns from linear to logarithmic.
    dirty_unit : float, optional
        The dirty image is shown to the network in units of this many rms.
    stretch : {"root", "asinh"}, optional
        Root of D24 eq. 1, or inverse hyperbolic sine.

    Raises
    ------
    ValueError
        If there is no such stretch, or a number is out of range.

    Notes
    -----
    The root is steepest at zero, where it spreads the faintest flux over a wide range of targets.
    The asinh has the slope 1 / ``unit`` there, and compresses bright sources more. With one
    ``unit`` for both, the targets of sources just above the noise agree: the peak of a point of 3
    rms is 3.7 units with the default kernel, which is 1.9 by the square root and 2.0 by the asinh;
    one of 150 rms is 14 and 5.9.
    """

    pixels_per_beam: float = 4.25
    kernel_beams: float = 0.4
    gamma: float = 2.0
    unit: float = 0.25
    dirty_unit: float = 3.0
    stretch: str = "root"

    def __post_init__(self):
        if self.stretch not in _STRETCHES:
            raise ValueError(
                f"stretch is {self.stretch!r}; expected one of {', '.join(_STRETCHES)}"
            )
        if not self.kernel_beams >= 0:
            raise ValueError(f"kernel_beams is {self.kernel_beams}; expected a number of 0 or more")
        for name in ("pixels_per_beam", "gamma", "unit", "dirty_unit"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")

    @property
    def grid(self):
        """dict : what ``prepare_observation`` needs to make the working grid."""
        return {"pixels_per_beam": self.pixels_per_beam}

    @property
    def planes(self):
        """int : images that `encode` takes: apparent sky, dirty image and primary beam."""
        return 3

    @property
    def average_root(self):
        """float : means and medians of samples are taken in flux, root 1."""
        return 1.0

    @property
    def kernel_fwhm(self):
        """float : FWHM of the target kernel in pixels of the working grid."""
        return self.kernel_beams * self.pixels_per_beam

    def encode(self, images):
        """Turn the images of training pairs into what the network learns from.

        Parameters
        ----------
        images : `torch.Tensor`
            Shape (n, 3, ny, nx): apparent sky and dirty image over rms, and primary beam.

        Returns
        -------
        target : `torch.Tensor`
            Shape (n, 1, ny, nx).
        condition : `torch.Tensor`
            Shape (n, 2, ny, nx).
        """
        return self.scale_target(images[:, :1]), self.condition(images[:, 1], images[:, 2])

    def scale_target(self, apparent, primary_beam=None, rms=None):
        """Apparent sky to target: (apparent / unit)**(1 / gamma), D24 eq. 1, or asinh of the ratio.

        Parameters
        ----------
        apparent : `torch.Tensor`
            Apparent sky per working pixel in units of the rms; below 0 counts as 0.
        primary_beam, rms : optional
            Part of the interface; this scale does not need them.

        Returns
        -------
        target : `torch.Tensor`
            Same shape.
        """
        share = apparent.clamp(min=0) / self.unit
        return share ** (1 / self.gamma) if self.stretch == "root" else share.asinh()

    def unscale_target(self, target, primary_beam=None, rms=None):
        """Target to apparent sky: unit * target**gamma, D24 eq. 5, or unit * sinh(target).

        Parameters
        ----------
        target : `torch.Tensor`
            Any shape, as `scale_target` or a sampler gives it.
        primary_beam, rms : optional
            Part of the interface; this scale does not need them.

        Returns
        -------
        apparent : `torch.Tensor`
            Same shape, per working pixel in units of the rms; negative targets give 0.
        """
        target = target.clamp(min=0)
        return self.unit * (target**self.gamma if self.stretch == "root" else target.sinh())

    def condition(self, dirty, primary_beam, rms=None):
        """Condition channels of the network.

        Parameters
        ----------
        dirty : `torch.Tensor`
            Shape (n, ny, nx): dirty image over rms, 0 where there is no data.
        primary_beam : `torch.Tensor`
            Shape (n, ny, nx), 0 where there is no data.
        rms : optional
            Part of the interface; this scale does not need it.

        Returns
        -------
        condition : `torch.Tensor`
            Shape (n, 2, ny, nx).
        """
        return torch.stack([dirty / self.dirty_unit, primary_beam], dim=1)

    def dirty_power(self, condition):
        """Mean square of dirty images over the rms, from their condition channels.

        Parameters
        ----------
        condition : `torch.Tensor`
            Shape (n, 2, ny, nx), as `condition` gives it.

        Returns
        -------
        power : `torch.Tensor`
            Shape (n,): 1 for noise alone that fills the image.
        """
        return ((self.dirty_unit * condition[:, 0]) ** 2).mean(dim=(1, 2))

    def to_dict(self):
        """Describe the scale in plain numbers, for JSON.

        Returns
        -------
        description : dict
            The keywords that make the scale again.
        """
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FluxScale:
    """The grid and the scaling of D24 section 3.1, in Jy and arcsec.

    It has the interface of `WorkingScale`, which hands it apparent skies and dirty images in units
    of the rms, so it takes the primary beam and the rms to turn them into Jy. The network sees
    differences of depth that `WorkingScale` hides from it.

    Parameters
    ----------
    pixel : float, optional
        Pixel of the working grid in arcsec. Default 0.4.
    size : int, optional
        Pixels along its side, a multiple of the network's stride. Default 128.
    gamma : float, optional
        Root of D24 eq. 1; the paper explores 1 to 30. Default 2.
    unit : float, optional
        Flux in Jy per ``unit_pixel`` that is scaled to 1 (c of D24 eq. 1), the largest of the
        training set. Default 2.960064e-5.
    unit_pixel : float, optional
        Pixel in arcsec that ``unit`` belongs to. Default 0.1.
    dirty_unit : float, optional
        Jy/beam that are scaled to 1 in the dirty image (c_d of D24 eq. 3). Default 5e-4.

    Raises
    ------
    ValueError
        If ``gamma`` is not 1 to 30, or another number is not above 0.
    """

    pixel: float = 0.4
    size: int = 128
    gamma: float = 2.0
    unit: float = 2.960064e-5
    unit_pixel: float = 0.1
    dirty_unit: float = 5e-4

    def __post_init__(self):
        if not 1 <= self.gamma <= 30:
            raise ValueError(f"gamma is {self.gamma}; expected 1 to 30")
        for name, value in asdict(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; expected a number above 0")

    @property
    def grid(self):
        """dict : what ``prepare_observation`` needs to make the working grid."""
        return {"pixel": self.pixel, "size": self.size}

    @property
    def pixels_per_beam(self):
        """None : the grid does not follow the beam."""
        return None

    @property
    def planes(self):
        """int : images that `encode` takes: apparent sky, dirty image, primary beam and rms."""
        return 4

    @property
    def average_root(self):
        """float : D24 eq. 9 and 10 average normalised images, the roots of the flux."""
        return self.gamma

    @property
    def kernel_beams(self):
        """float : FWHM of the target kernel in beams: there is none."""
        return 0.0

    @property
    def kernel_fwhm(self):
        """float : FWHM of the target kernel in pixels of the working grid: there is none."""
        return 0.0

    def encode(self, images):
        """Turn the images of training pairs into what the network learns from.

        Parameters
        ----------
        images : `torch.Tensor`
            Shape (n, 4, ny, nx): apparent sky and dirty image over rms, primary beam, and rms in
            Jy/beam.

        Returns
        -------
        target : `torch.Tensor`
            Shape (n, 1, ny, nx).
        condition : `torch.Tensor`
            Shape (n, 1, ny, nx).
        """
        apparent, dirty, primary_beam, rms = images.unbind(1)
        target = self.scale_target(apparent, primary_beam, rms)
        return target[:, None], self.condition(dirty, primary_beam, rms)

    def normalize_sky(self, sky):
        """True sky to the normalised sky, D24 eq. 1: (s / c)**(1 / gamma).

        Reconstruction metrics (D24 eq. 11 to 13) and the uncertainty image (eq. 17) are about such
        images.

        Parameters
        ----------
        sky : `torch.Tensor` or `numpy.ndarray`
            Jy per working pixel; below 0 counts as 0.

        Returns
        -------
        normalized : as ``sky``
            Same shape; 0 to 1 within the range of the training set.
        """
        share = sky * ((self.unit_pixel / self.pixel) ** 2 / self.unit)
        return share.clip(min=0) ** (1 / self.gamma)

    def scale_target(self, apparent, primary_beam, rms):
        """Apparent sky to target, D24 eq. 1 and 2.

        Parameters
        ----------
        apparent : `torch.Tensor`
            Apparent sky per working pixel in units of the rms, 0 or more.
        primary_beam : `torch.Tensor`
            0 where there is no data; there the target is that of an empty sky, -1.
        rms : `torch.Tensor`
            Noise rms in Jy/beam.

        Returns
        -------
        target : `torch.Tensor`
            -1 to 1 within the range of the training set.
        """
        seen = primary_beam > 0
        sky = torch.where(seen, apparent * rms / torch.where(seen, primary_beam, 1.0), 0.0)
        return (self.normalize_sky(sky) - 0.5) / 0.5

    def unscale_target(self, target, primary_beam, rms):
        """Target to apparent sky, D24 eq. 4 and 5.

        Parameters
        ----------
        target : `torch.Tensor`
            As `scale_target` or a sampler gives it; below -1 gives 0.
        primary_beam : `torch.Tensor`
            0 where there is no data.
        rms : `torch.Tensor`
            Noise rms in Jy/beam, 0 where there is no data.

        Returns
        -------
        apparent : `torch.Tensor`
            Per working pixel in units of the rms.
        """
        normalized = (0.5 * target + 0.5).clamp(min=0)
        sky = self.unit * (self.pixel / self.unit_pixel) ** 2 * normalized**self.gamma
        return torch.where(rms > 0, sky * primary_beam / torch.where(rms > 0, rms, 1.0), 0.0)

    def condition(self, dirty, primary_beam, rms):
        """Condition channel of the network, D24 eq. 3.

        Parameters
        ----------
        dirty : `torch.Tensor`
            Shape (n, ny, nx): dirty image over rms, 0 where there is no data.
        primary_beam : `torch.Tensor`
            Part of the interface; D24 show the network the dirty image alone.
        rms : `torch.Tensor`
            Shape (n, ny, nx), Jy/beam.

        Returns
        -------
        condition : `torch.Tensor`
            Shape (n, 1, ny, nx).
        """
        return ((dirty * rms / self.dirty_unit - 0.5) / 0.5)[:, None]

    def to_dict(self):
        """Describe the scale in plain numbers, for JSON.

        Returns
        -------
        description : dict
            The keywords that make the scale again.
        """
        return asdict(self)


SCALES = {"working": WorkingScale, "flux": FluxScale}
