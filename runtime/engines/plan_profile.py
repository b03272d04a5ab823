"""What a plan takes: its inputs and outputs held against the manifest, and the sizes that it was built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import EngineError
from ..manifest import Manifest
from .device import Shape, Tensor
from .protocol import HEADS

__all__ = ["PlanProfile", "profile_of"]

_FREE = -1


@dataclass(frozen=True)
class PlanProfile:
    """Smallest and largest number of streams and of tokens in a call."""

    batch: tuple[int, int]
    tokens: tuple[int, int]

    def rows_for(self, batch: int) -> int:
        """How many rows a call with `batch` streams has: few different numbers, so that few graphs are captured.

        Powers of two, and the profile's ends. Raises EngineError for more streams than the plan takes.
        """
        smallest, largest = self.batch
        if not 1 <= batch <= largest:
            raise EngineError(f"{batch} streams in a call: the plan takes {smallest} to {largest} (--batch)")
        return min(largest, max(smallest, 1 << (batch - 1).bit_length()))

    def takes(self, tokens: int) -> bool:
        """Whether so many tokens can be run, in one call or several."""
        return tokens >= 1 and self._fewest_calls(tokens) * self.tokens[0] <= tokens

    def calls_for(self, tokens: int) -> list[int]:
        """Tokens of the calls that `tokens` are run in, as few as possible. Raises EngineError where none fit."""
        smallest, largest = self.tokens
        if not self.takes(tokens):
            raise EngineError(f"{tokens} tokens in a call: the plan takes {smallest} to {largest} (--tokens)")
        # A remainder that is too short for a call of its own takes some tokens from the calls before it.
        sizes, left = [], tokens
        for after in reversed(range(self._fewest_calls(tokens))):
            sizes.append(min(largest, left - after * smallest))
            left -= sizes[-1]
        return sizes

    def _fewest_calls(self, tokens: int) -> int:
        return -(-tokens // self.tokens[1])


def profile_of(tensors: Sequence[Tensor], manifest: Manifest) -> PlanProfile:
    """The plan's sizes, if its inputs and outputs are those of the manifest. Raises EngineError, which names them."""
    states = {name: (_FREE, *shape) for name, shape in manifest.states.items()}
    inputs: dict[str, Shape] = {"audio": (_FREE, _FREE), "delay": (_FREE, 1), **states}
    outputs: dict[str, Shape] = dict.fromkeys(HEADS, (_FREE, _FREE, manifest.n_classes))
    outputs |= {f"{name}_out": shape for name, shape in states.items()}
    found = {tensor.name: tensor for tensor in tensors}
    for kind, expected in (("input", inputs), ("output", outputs)):
        names = {tensor.name for tensor in tensors if tensor.is_input == (kind == "input")}
        if names != expected.keys():
            wrong = ", ".join(sorted(names ^ expected.keys()))
            raise EngineError(f"{kind}s of plan and manifest differ ({wrong})")
        for name, shape in expected.items():
            dtype = "int64" if name == "delay" else manifest.state_type(name.removesuffix("_out"))
            _check_tensor(found[name], dtype, shape, kind)
    return _profile(found, manifest)


def _check_tensor(tensor: Tensor, dtype: str, shape: Shape, kind: str) -> None:
    fits = len(tensor.shape) == len(shape) and all(
        _FREE in (have, want) or have == want for have, want in zip(tensor.shape, shape, strict=True)
    )
    if tensor.dtype != dtype or not fits:
        raise EngineError(
            f"{kind} '{tensor.name}' of the plan is {tensor.dtype} {list(tensor.shape)}, "
            f"the manifest says {dtype} {list(shape)}"
        )


def _profile(found: Mapping[str, Tensor], manifest: Manifest) -> PlanProfile:
    token = manifest.samples_per_token
    audio = found["audio"]
    ranges = [tensor for tensor in found.values() if tensor.is_input]
    batch = max(t.smallest[0] for t in ranges), min(t.largest[0] for t in ranges)
    tokens = -(-audio.smallest[1] // token), audio.largest[1] // token
    if not 1 <= batch[0] <= batch[1] or not 1 <= tokens[0] <= tokens[1]:
        raise EngineError(
            f"the plan takes no call: {batch[0]} to {batch[1]} streams, {tokens[0]} to {tokens[1]} tokens"
        )
    return PlanProfile(batch, tokens)
