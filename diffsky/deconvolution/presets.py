"""Named choices of network, scale, training and sampler."""

from dataclasses import asdict, dataclass, field

from diffsky.deconvolution.scaling import SCALES, FluxScale, WorkingScale

__all__ = ["PRESETS", "Preset", "drozdova2024", "get_preset"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that a network is trained and sampled with.

    Parameters
    ----------
    network : dict
        Configuration of `diffsky.diffusion.build_network`.
    scale : `diffsky.deconvolution.WorkingScale` or `diffsky.deconvolution.FluxScale`
        Working grid, channels, target kernel and scaling, which weights cannot be used without.
    preconditioning : {"edm", "ddpm"}, optional
        What makes a denoiser of the network: see `diffsky.diffusion.build_denoiser`.
    sigma_data : float or None, optional
        Standard deviation of the targets, for the preconditioning ``"edm"``.
    training : dict
        Keywords of `diffsky.diffusion.train_denoiser`.
    sampling : dict
        ``sampler``, ``n_steps`` and other keywords of `diffsky.diffusion.make_sigmas`: see there
        and `diffsky.diffusion.get_sampler`.
    """

    network: dict
    scale: WorkingScale | FluxScale
    preconditioning: str = "edm"
    sigma_data: float | None = None
    training: dict
    sampling: dict = field(default_factory=dict)

    def to_dict(self):
        """Describe the preset in plain JSON.

        Returns
        -------
        description : dict
            The keywords that make the preset again, nested.
        """
        kind = next(name for name, scale in SCALES.items() if type(self.scale) is scale)
        return {**asdict(self), "scale": {"type": kind, **self.scale.to_dict()}}

    @classmethod
    def from_dict(cls, description):
        """Make a preset from its description.

        Parameters
        ----------
        description : dict
            As `to_dict` gives it; a scale without a type is a `WorkingScale`.

        Returns
        -------
        preset : `Preset`
            What was described; tuples that went through JSON come back as lists.
        """
        scale = dict(description["scale"])
        kind = scale.pop("type", "working")
        if kind not in SCALES:
            raise ValueError(f"scale is {kind!r}; expected one of {', '.join(SCALES)}")
        return cls(**{**description, "scale": SCALES[kind](**scale)})


def drozdova2024(*, gamma=2.0, channels=128):
    """Preset of D24: the Palette U-Net, DDPM, and the scaling of section 3.1.

    Learning rate, batch and epochs are the paper's (237 epochs of 5082 images), learning rate
    schedule, optimizer and moving average those of `diffsky.diffusion.train_denoiser`.

    Parameters
    ----------
    gamma : float, optional
        Root of D24 eq. 1, 1 to 30. Default 2, the paper's best.
    channels : int, optional
        Channels of the network at the finest resolution, a multiple of 32. Default 128, the
        paper's; 32 takes a sixteenth of the work.

    Returns
    -------
    preset : `Preset`
        For ``DiffusionDeconvolver(preset=...)``; ``"drozdova2024"`` names it with the defaults.
    """
    return Preset(
        network={
            "type": "palette",
            "in_channels": 2,
            "channels": channels,
            "multipliers": (1, 1, 2, 3, 4),
            "blocks": 2,
            "attention": (3, 4),
        },
        scale=FluxScale(gamma=gamma),
        preconditioning="ddpm",
        training={
            "steps": 50184,
            "batch_size": 24,
            "learning_rate": 1e-4,
            "noise_levels": "ddpm",
        },
        sampling={"sampler": "ddpm", "n_steps": 250, "schedule": "ddpm"},
    )


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
            "n_steps": 5,
            "sigma_min": 0.05,
            "sigma_max": 20.0,
            "rho": 4.0,
        },
    ),
    "drozdova2024": drozdova2024(),
}


def get_preset(preset):
    """Find a preset by its name.

    Parameters
    ----------
    preset : str or `Preset`
        One of the keys of ``PRESETS``: ``"small"`` or ``"drozdova2024"``. A `Preset` is returned
        as it is.

    Returns
    -------
    preset : `Preset`
        The preset of that name.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[preset]
