"""The generative core: it knows no astronomy."""

from diffsky._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "networks": ["UNet", "build_network"],
        "preconditioning": ["Denoiser"],
        "samplers": [
            "SAMPLERS",
            "get_sampler",
            "sample_dpmpp_2m",
            "sample_euler",
            "sample_heun",
        ],
        "schedules": ["edm_sigmas"],
        "training": ["denoising_loss", "draw_sigmas", "train_denoiser"],
        "weights": ["bundled_weights", "load_weights", "resolve_weights", "save_weights"],
    },
)
