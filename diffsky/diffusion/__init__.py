"""The generative core: it knows no astronomy."""

from diffsky._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "consistency": ["ConsistencyLoss", "consistency_loss"],
        "ddpm": ["alpha_bars", "ddpm_sigmas", "draw_ddpm_sigmas"],
        "drawing": ["draw_batches"],
        "guidance": ["guide"],
        "networks": ["UNet", "build_network"],
        "palette": ["PaletteUNet"],
        "preconditioning": ["Denoiser", "EpsilonDenoiser", "build_denoiser"],
        "samplers": [
            "SAMPLERS",
            "get_sampler",
            "network_calls",
            "sample_consistency",
            "sample_ddim",
            "sample_ddpm",
            "sample_dpmpp_2m",
            "sample_dpmpp_3m",
            "sample_euler",
            "sample_heun",
            "sample_sde_dpmpp_2m",
        ],
        "schedules": ["edm_sigmas", "make_sigmas"],
        "training": ["denoising_errors", "denoising_loss", "draw_sigmas", "train_denoiser"],
        "vicanek": ["VicanekUNet"],
        "weights": ["bundled_weights", "load_weights", "resolve_weights", "save_weights"],
    },
)
