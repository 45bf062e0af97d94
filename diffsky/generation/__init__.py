"""Images of radio galaxies on demand, and the survey cutouts that they are learned from."""

from diffsky._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "classifier": ["MorphologyClassifier", "accuracy", "confusion", "recall"],
        "conditioning": ["ClassCondition", "PeakFluxCondition", "condition_from_dict"],
        "cutout_cube": ["read_cutout_cube"],
        "cutout_store": ["CutoutStore"],
        "cutouts": ["Cutouts", "cut_mosaic", "join_cutouts"],
        "estimator": ["RadioGalaxyGenerator"],
        "gallery": ["plot_gallery"],
        "image_files": ["read_images"],
        "first": ["FIRST_CLASSES", "LabelledImages", "read_first"],
        "lotss": ["CATALOG_SERVICE", "MOSAIC_SERVICE", "fetch_lotss", "find_lotss_mosaics"],
        "presets": ["PRESETS", "GeneratorPreset", "get_preset"],
        "scaling": ["scale_images", "unscale_images"],
        "selection": ["CutoutSelection", "select_cutouts", "source_signal"],
        "survey": ["make_cutouts"],
        "survey_catalog": ["SURVEY_COLUMNS", "read_survey_sources", "resolved_by_flux"],
        "training_images": ["TrainingImages"],
    },
)
