"""Parameters of CLEAN, checked and by CASA's names."""

import astropy.units as u
import numpy as np

__all__ = ["AUTOMASKING", "clean_parameters"]

# Continuum images, by the 75th percentile of the baselines: below 300 m, above 400 m, 7 m array.
AUTOMASKING = {
    "alma-12m": {
        "sidelobethreshold": 2.0,
        "noisethreshold": 4.25,
        "lownoisethreshold": 1.5,
        "negativethreshold": 0.0,
        "minbeamfrac": 0.3,
    },
    "alma-12m-long": {
        "sidelobethreshold": 2.5,
        "noisethreshold": 5.0,
        "lownoisethreshold": 1.5,
        "negativethreshold": 0.0,
        "minbeamfrac": 0.3,
    },
    "alma-7m": {
        "sidelobethreshold": 1.25,
        "noisethreshold": 5.0,
        "lownoisethreshold": 2.0,
        "negativethreshold": 0.0,
        "minbeamfrac": 0.1,
    },
}

_JY_BEAM = u.Jy / u.beam
_DECONVOLVERS = ("hogbom", "multiscale")
_MASKING = {"smoothfactor", "cutthreshold", "growiterations"}.union(*AUTOMASKING.values())
# Decided by the observation, the images that are made, or an argument: not to be set again.
_TAKEN = {"vis", "datacolumn", "imagename", "imsize", "cell", "phasecenter", "stokes", "specmode"}
_TAKEN |= {"gridder", "pblimit", "weighting", "robust", "noise", "npixels", "uvtaper", "niter"}
_TAKEN |= {"restoration", "restoringbeam", "gain", "nsigma", "threshold", "deconvolver", "scales"}
_TAKEN |= {"interactive", *_MASKING}


def clean_parameters(
    like, *, n_sigma, rms, deconvolver, scales, max_iterations, gain, masking, options
):
    """Parameters of tclean and deconvolve by their names there.

    Parameters
    ----------
    like : `~astropy.nddata.CCDData`
        The dirty image, as `diffsky.images.load_image` returns it.
    n_sigma, rms, deconvolver, scales, max_iterations, gain, masking, options
        See `diffsky.evaluation.clean`.

    Returns
    -------
    dict
        Plain values.

    Raises
    ------
    ValueError
        If a value is out of range.
    """
    for name, value in (("n_sigma", n_sigma), ("gain", gain)):
        if not 0 < value < np.inf or (name == "gain" and value > 1):
            raise ValueError(f"{name} is {value!r}; expected a positive number, a gain at most 1")
    if int(max_iterations) != max_iterations or max_iterations < 1:
        raise ValueError(f"max_iterations is {max_iterations!r}; expected an int of at least 1")
    if deconvolver not in _DECONVOLVERS:
        raise ValueError(f"deconvolver is {deconvolver!r}; expected one of {_DECONVOLVERS}")
    taken = sorted(set(options or ()) & _TAKEN)
    if taken:
        names = ", ".join(taken)
        raise ValueError(f"options set {names}, which the observation or an argument decides")
    parameters = {
        "niter": int(max_iterations),
        "gain": float(gain),
        "deconvolver": deconvolver,
        "usemask": "auto-multithresh",
        **_masking(masking),
    }
    if deconvolver == "multiscale":
        parameters["scales"] = _scales_in_pixels(scales, like)
    if rms is None:
        parameters["nsigma"] = float(n_sigma)
    else:
        noise = u.Quantity(rms, _JY_BEAM).value
        if noise.shape != () or not 0 < noise < np.inf:
            raise ValueError(f"rms is {rms}; expected one positive number in Jy/beam")
        parameters["threshold"] = f"{float(n_sigma * noise)!r}Jy"
    return parameters | dict(options or {})


def _masking(masking):
    if isinstance(masking, str):
        if masking not in AUTOMASKING:
            raise ValueError(
                f"masking is {masking!r}; expected one of {tuple(AUTOMASKING)} or a dict"
            )
        return AUTOMASKING[masking]
    unknown = sorted(set(masking) - _MASKING)
    if unknown:
        raise ValueError(f"masking has {', '.join(unknown)}; expected some of {sorted(_MASKING)}")
    return dict(masking)


def _scales_in_pixels(scales, like):
    if len(scales) == 0 or not all(0 <= scale < np.inf for scale in scales):
        raise ValueError(f"scales is {scales!r}; expected numbers >= 0, in beams")
    beam, pixel = like.meta["beam"], like.meta["pixel_scale"]
    fwhm = float((np.sqrt(beam.major * beam.minor) / pixel).to_value(u.one))
    return sorted({round(scale * fwhm) for scale in scales})
