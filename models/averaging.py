"""`ghostnote average`: one checkpoint from several of one line of training, weight by weight.

Models that began at the same weights and differ by a course often lie around a better one than each of them is
(Wortsman et al. 2022, "Model soups").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..runtime.errors import UsageError
from .lineage import descended

if TYPE_CHECKING:
    from torch import Tensor

    from .checkpoint import Checkpoint

__all__ = ["average", "averaged"]


def average(
    checkpoints: Annotated[list[Path], typer.Argument(help="Two or more checkpoints of one shape.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the average goes.")],
) -> None:
    """Average the weights of checkpoints that come from each other; calibrate the result before use."""
    from . import checkpoint as files

    files.save(out, averaged([files.load(path, kind=None) for path in checkpoints]))
    typer.echo(f"wrote {out}, the average of {len(checkpoints)} checkpoints")


def averaged(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The mean of all weights, with the last one's provenance and none of its thresholds and scores.

    `averaged_with` names all of them, one that counts twice also twice; what the last one came from is told there.
    Raises UsageError for fewer than two checkpoints and for different shapes.
    """
    first, last = checkpoints[0], checkpoints[-1]
    if len(checkpoints) < 2:
        raise UsageError("one checkpoint has no average; give two or more")
    if any(checkpoint.config != first.config for checkpoint in checkpoints):
        raise UsageError("the checkpoints have different shapes; only models of one shape can be averaged")
    weights = {
        name: _mean([checkpoint.weights[name] for checkpoint in checkpoints]) if value.is_floating_point() else value
        for name, value in last.weights.items()
    }
    provenance = descended(last.provenance, "averaged_with", *checkpoints)
    return replace(last, weights=weights, provenance=provenance, scores={}, thresholds=[], training={})


def _mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], values[0]) / len(values)
