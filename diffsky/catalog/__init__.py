"""Source catalogues: detection, aggregation over samples, matching, files, matched filter."""

from .aggregation import (
    aggregate_detections,
)
from .detection import (
    detect_sources,
    drozdova2024_detect,
    drozdova2024_threshold,
    empty_detections,
)
from .io import (
    catalog_to_regions,
    read_catalog,
    write_catalog,
)
from .matched_filter import (
    inside_regions,
    matched_filter,
    matched_filter_pixels,
)
from .matching import (
    Matches,
    Scores,
    detection_scores,
    match_catalogs,
    match_nearest,
    match_pixels,
    score_catalogs,
)
from .recalibration import (
    IsotonicRecalibration,
    Recalibration,
)
from .table import (
    SourceFlag,
    check_catalog,
    empty_catalog,
    near_bright_source,
    source_table,
)

__all__ = [
    "IsotonicRecalibration",
    "Matches",
    "Recalibration",
    "Scores",
    "SourceFlag",
    "aggregate_detections",
    "catalog_to_regions",
    "check_catalog",
    "detect_sources",
    "detection_scores",
    "drozdova2024_detect",
    "drozdova2024_threshold",
    "empty_catalog",
    "empty_detections",
    "inside_regions",
    "match_catalogs",
    "match_nearest",
    "match_pixels",
    "matched_filter",
    "matched_filter_pixels",
    "near_bright_source",
    "read_catalog",
    "score_catalogs",
    "source_table",
    "write_catalog",
]
