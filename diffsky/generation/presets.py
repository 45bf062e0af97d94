"""Named choices of network, training and sampler for a generator."""

from dataclasses import asdict, dataclass, field, replace

__all__ = ["PRESETS", "GeneratorPreset", "get_preset"]


@dataclass(frozen=True, kw_only=True)
class GeneratorPreset:
    """Everything that a generator's network is trained and sampled with.

    Parameters
    ----------
    network : dict
        Configuration of `diffsky.diffusion.build_network`; ``fit`` adds the length of the context.
    preconditioning : {"edm"}, optional
        What makes a denoiser of the network: see `diffsky.diffusion.build_denoiser`.
    sigma_data : float or None, optional
        Root mean square of the scaled images; None takes that of the training. Default 0.5, V24's.
    scale : dict, optional
        ``gamma`` and ``offset`` of `diffsky.generation.scale_images`; by default V24's.
    training : dict
        Keywords of `diffsky.diffusion.train_denoiser`.
    sampling : dict
        ``sampler``, ``n_steps`` and other keywords of `diffsky.diffusion.make_sigmas`: see there
        and `diffsky.diffusion.get_sampler`.
    """

    network: dict
    preconditioning: str = "edm"
    sigma_data: float | None = 0.5
    scale: dict = field(default_factory=dict)
    training: dict
    sampling: dict = field(default_factory=dict)

    def to_dict(self):
        """Describe the preset in plain JSON.

        Returns
        -------
        description : dict
            The keywords that make the preset again.
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
        preset : `GeneratorPreset`
            What was described; tuples that went through JSON come back as lists.
        """
        return cls(**description)


# V24 figures 6 and 7, tables 3 and 4, section 4.3; the published configuration has 2e5 steps.
_VICANEK = GeneratorPreset(
    network={"type": "vicanek", "in_channels": 1, "dropout": 0.1},
    training={
        "steps": 200000,
        "batch_size": 256,
        "learning_rate": 2e-5,
        "sigma_mean": -2.5,
        "sigma_std": 1.8,
        "ema_decay": 0.9999,
    },
    sampling={
        "sampler": "heun",
        "n_steps": 25,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "rho": 7.0,
    },
)
# In brackets in V24 table 4; no moving average.
_VICANEK_FIRST = {"steps": 40000, "batch_size": 128, "ema_decay": 0.0}

PRESETS = {
    "compact": GeneratorPreset(
        network={
            "type": "unet",
            "in_channels": 1,
            "channels": (32, 64, 128, 192),
            "blocks": 1,
            # The source is in the middle, which a translation function cannot know.
            "position": True,
            # At 10 x 10 and 5 x 5, where the shape of a source is decided.
            "attention": (2, 3),
        },
        # Most pixels are background: 0 for the network, and a root of what is faint beside a peak.
        scale={"gamma": 2.0, "offset": 0.0},
        sigma_data=None,
        training={
            "steps": 20000,
            "batch_size": 64,
            "learning_rate": 5e-4,
            "sigma_mean": -0.6,
            "sigma_std": 1.4,
        },
        # The noise that is added on the way mends what went wrong before: sources hold together.
        sampling={
            "sampler": "sde-dpmpp-2m",
            "n_steps": 32,
            "sigma_min": 0.005,
            "sigma_max": 40.0,
            "rho": 7.0,
        },
    ),
    "vicanek2024": _VICANEK,
    "vicanek2024-first": replace(_VICANEK, training={**_VICANEK.training, **_VICANEK_FIRST}),
}


def get_preset(preset):
    """Find a preset by its name.

    Parameters
    ----------
    preset : str or `GeneratorPreset`
        One of the keys of ``PRESETS``: ``"compact"``, ``"vicanek2024"`` (V24's LOFAR model) or
        ``"vicanek2024-first"`` (their FIRST model). A `GeneratorPreset` is returned as it is.

    Returns
    -------
    preset : `GeneratorPreset`
        The preset of that name.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    if isinstance(preset, GeneratorPreset):
        return preset
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[preset]
