"""Scoring: onset scores, their report and what belongs to it. Needs the extra `eval`."""

from .scores import (
    GROUPS,
    LabelError,
    Labels,
    class_names,
    classes_of,
    read_labels,
    reduce_label,
    score,
    track_counts,
)

__all__ = [
    "GROUPS",
    "LabelError",
    "Labels",
    "class_names",
    "classes_of",
    "read_labels",
    "reduce_label",
    "score",
    "track_counts",
]
