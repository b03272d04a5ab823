"""Where weights come from: what made each ancestor is told once, by the hash of its weights.

A checkpoint's provenance says what a run was: data, licences, recipe, commit, step. Its `parent`, `teacher` and
`averaged_with` name other weights by hash; `ancestors` holds their provenance, and that of theirs, in the same form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

__all__ = ["descended", "flat"]

RELATIONS = ("parent", "teacher", "averaged_with")


def descended(provenance: Mapping[str, Any], relation: str, *sources: Checkpoint) -> dict[str, Any]:
    """A provenance that says so of weights that came from `sources`; several for `averaged_with` only."""
    names = [source.weights_sha256() for source in sources]
    told = {name: dict(source.provenance) for name, source in zip(names, sources, strict=True)}
    older = [own.pop("ancestors", {}) for own in told.values()]
    ancestors = dict(provenance.get("ancestors", {}))
    for more in (*older, told):
        ancestors |= more
    return {
        **provenance,
        relation: names if relation == "averaged_with" else names[0],
        "ancestors": ancestors,
    }


def flat(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A provenance in this form, also of earlier checkpoints: they told of an ancestor wherever they named it."""
    ancestors = dict(provenance.get("ancestors", {}))

    def named(source: str | Mapping[str, Any]) -> str:
        if isinstance(source, str):
            return source
        name = str(source["weights_sha256"])
        ancestors[name] = own(source)
        return name

    def own(told: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in told.items() if key not in ("ancestors", "weights_sha256")}
        for relation in RELATIONS:
            if relation in kept:
                sources = kept[relation]
                kept[relation] = [named(s) for s in sources] if isinstance(sources, list) else named(sources)
        return kept

    alone = own(provenance)
    return {**alone, "ancestors": ancestors} if ancestors else alone
