"""Named choices of network, scale, training and sampler."""

from dataclasses import asdict, dataclass, field

from diffsky.deconvolution.scaling import WorkingScale

__all__ = ["PRESETS", "Preset", "get_preset"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that a network is trained and sampled with.

    Parameters
    ----------
    network : dict
        Configuration of `diffsky.diffusion.build_network`.
    scale : `diffsky.deconvolution.scaling.WorkingScale`
        Working grid, target kernel and scaling, which weights cannot be used without.
    sigma_data : float
        Standard deviation of the targets, for the preconditioning.
    training : dict
        Keywords of `diffsky.diffusion.train_denoiser`.
    sampling : dict
        ``sampler``, ``n_steps``, ``sigma_min``, ``sigma_max``, ``rho``: see
        `diffsky.diffusion.get_sampler` and `diffsky.diffusion.edm_sigmas`.
    """

    network: dict
    scale: WorkingScale
    sigma_data: float
    training: dict
    sampling: dict = field(default_factory=dict)

    def to_dict(self):
        """Describe the preset in plain JSON.

        Returns
        -------
        description : dict
            The keywords that make the preset again, nested.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, description):
        """Make a preset from its description.

        Parameters
        ----------
        description : dict
            As `to_dict` gives it.

        Returns
        -------
        preset : `Preset`
            What was described; tuples that went through JSON come back as lists.
        """
        return cls(**{**description, "scale": WorkingScale(**description["scale"])})


PRESETS = {
    "small": Preset(
        network={"type": "unet", "in_channels": 3, "channels": (64, 128, 192), "blocks": 1},
        scale=WorkingScale(),
        sigma_data=0.2,
        training={
            "steps": 9000,
            "batch_size": 32,
            "learning_rate": 8e-4,
            "sigma_mean": 0.5,
            "sigma_std": 1.4,
        },
        sampling={
            "sampler": "dpmpp-2m",
            "n_steps": 8,
            "sigma_min": 0.05,
            "sigma_max": 20.0,
            "rho": 4.0,
        },
    )
}


def get_preset(name):
    """Find a preset by its name.

    Parameters
    ----------
    name : str
        One of the keys of ``PRESETS``: ``"small"``.

    Returns
    -------
    preset : `Preset`
        The preset of that name.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
