"""What is observed how."""

from dataclasses import dataclass, field

import astropy.units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.wcs import WCS

from diffsky.simulation._casa_inputs import check_count, check_quantity, parse_direction

__all__ = ["ObservationSetup"]

_WEIGHTINGS = ("natural", "uniform", "briggs")
_UNITS = {
    "frequency": u.Hz,
    "bandwidth": u.Hz,
    "total_time": u.s,
    "integration": u.s,
    "hour_angle": u.hourangle,
    "pwv": u.mm,
    "cell": u.arcsec,
}


def _cosmos():
    return SkyCoord("10h00m28.6s +02d12m21.0s", frame=FK5())


@dataclass(frozen=True, kw_only=True)
class ObservationSetup:
    """What is observed how, and how it is imaged.

    Parameters
    ----------
    array : str or path-like, optional
        An antenna configuration: the name of a file of CASA's ``alma/simmos`` folder, with or
        without ``.cfg``, or the path of such a file. By default "alma.cycle5.3".
    direction : `~astropy.coordinates.SkyCoord` or str, optional
        Pointing and phase centre. A text has units and may start with a frame, as CASA writes
        it: "J2000 10h00m28.6s +02d12m21.0s" or "J2000 150.119deg 2.2deg"; ICRS without one. It
        becomes a SkyCoord. By default the COSMOS field.
    frequency, bandwidth : `~astropy.units.Quantity`, optional
        Centre and total width of the band. By default 230 GHz and 1.875 GHz.
    n_channels : int, optional
        Channels in the band. One (default) gives the same image noise as many, much faster.
    total_time, integration : `~astropy.units.Quantity`, optional
        Time on source, and of one integration. By default 20 min and 10 s.
    hour_angle : `~astropy.units.Quantity`, optional
        Hour angle in the middle of the observation; 0 (default) is transit.
    pwv : `~astropy.units.Quantity`, optional
        Precipitable water vapour; it decides the noise. By default 1.796 mm.
    weighting : {"natural", "uniform", "briggs"}, optional
        Imaging weights.
    robust : float, optional
        Robustness from -2 to 2, used by ``weighting="briggs"`` alone. Default 0.5.
    cell : `~astropy.units.Quantity`, optional
        Side of an image pixel. By default 0.1 arcsec.
    image_size : int, optional
        Pixels along a side of the square image, an even number. Default 512.
    pblimit : float, optional
        Dirty images have no data where the primary beam is below this. Default 0.2.

    Raises
    ------
    ValueError
        If a value is out of range, or a direction cannot be read.
    `~astropy.units.UnitConversionError`, TypeError
        If a quantity has the wrong unit or none.
    """

    array: str = "alma.cycle5.3"
    direction: SkyCoord = field(default_factory=_cosmos)
    frequency: u.Quantity = 230 * u.GHz
    bandwidth: u.Quantity = 1.875 * u.GHz
    n_channels: int = 1
    total_time: u.Quantity = 20 * u.min
    integration: u.Quantity = 10 * u.s
    hour_angle: u.Quantity = 0 * u.hourangle
    pwv: u.Quantity = 1.796 * u.mm
    weighting: str = "natural"
    robust: float = 0.5
    cell: u.Quantity = 0.1 * u.arcsec
    image_size: int = 512
    pblimit: float = 0.2

    def __post_init__(self):
        for name, unit in _UNITS.items():
            check_quantity(name, getattr(self, name), unit)
        if isinstance(self.direction, str):
            object.__setattr__(self, "direction", parse_direction(self.direction))
        if not isinstance(self.direction, SkyCoord) or not self.direction.isscalar:
            raise TypeError(f"direction is {self.direction!r}; expected one SkyCoord")
        if self.total_time < self.integration:
            raise ValueError(
                f"total_time is {self.total_time}; expected at least one integration of "
                f"{self.integration}"
            )
        for name, step in (("n_channels", 1), ("image_size", 2)):
            check_count(name, getattr(self, name), step)
        if self.weighting not in _WEIGHTINGS:
            raise ValueError(f"weighting is {self.weighting!r}; expected one of {_WEIGHTINGS}")
        if not -2 <= self.robust <= 2:
            raise ValueError(f"robust is {self.robust}; expected -2 to 2")
        if not 0 < self.pblimit < 1:
            raise ValueError(f"pblimit is {self.pblimit}; expected a number between 0 and 1")

    @classmethod
    def drozdova2024(cls, direction):
        """Observation of D24 section 2: 240 channels of 7.8 MHz, the rest as by default.

        Together with ``seed="casa-default"`` this is what D24 ran. It takes minutes.

        Parameters
        ----------
        direction : `~astropy.coordinates.SkyCoord`
            The pointing.

        Returns
        -------
        `ObservationSetup`
            Centred on ``direction``; everything else as D24 had it.
        """
        return cls(direction=direction, n_channels=240, bandwidth=240 * 7.8 * u.MHz)

    @property
    def wcs(self):
        """`~astropy.wcs.WCS` : FK5 J2000, the phase centre at pixel ``image_size // 2``."""
        centre = self.direction.transform_to(FK5())
        cell = self.cell.to_value(u.deg)
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = [centre.ra.deg, centre.dec.deg]
        wcs.wcs.crpix = [self.image_size // 2 + 1] * 2
        wcs.wcs.cdelt = [-cell, cell]
        wcs.wcs.radesys = "FK5"
        wcs.wcs.equinox = 2000.0
        wcs.array_shape = (self.image_size, self.image_size)
        wcs.wcs.set()
        return wcs
