"""Lineage: every ancestor told once, in checkpoints of today and of before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_checkpoint

from ghostnote.models.averaging import averaged
from ghostnote.models.checkpoint import load, save
from ghostnote.models.lineage import RELATIONS, descended, flat


def told_in_full(name: str, **relations: object) -> dict[str, object]:
    """An ancestor as earlier versions kept it."""
    return {"weights_sha256": name, "step": len(name), **relations}


def test_nested_provenances_become_flat() -> None:
    grandparent = told_in_full("aa")
    parent = told_in_full("b", parent=grandparent)
    teacher = told_in_full("ccc", averaged_with=[parent, grandparent])
    assert flat({"seed": 0, "parent": parent, "teacher": teacher}) == {
        "seed": 0,
        "parent": "b",
        "teacher": "ccc",
        "ancestors": {
            "aa": {"step": 2},
            "b": {"step": 1, "parent": "aa"},
            "ccc": {"step": 3, "averaged_with": ["b", "aa"]},
        },
    }


names = st.text("abc", min_size=1, max_size=3)
told = st.recursive(
    st.builds(told_in_full, names),
    lambda deeper: (
        st.builds(told_in_full, names, parent=deeper)
        | st.builds(told_in_full, names, teacher=deeper, averaged_with=st.lists(deeper, max_size=2))
    ),
    max_leaves=8,
)


@given(told)
def test_flat_is_flat_and_stays_so(provenance: dict[str, object]) -> None:
    once = flat(provenance)
    assert flat(once) == once
    for own in (once, *once.get("ancestors", {}).values()):
        named = [own[relation] for relation in RELATIONS if relation in own]
        names = [name for value in named for name in (value if isinstance(value, list) else [value])]
        assert all(name in once["ancestors"] for name in names)


def test_a_long_line_grows_by_what_is_new_only() -> None:
    one = tiny_checkpoint(1)
    sizes = []
    for seed in range(2, 8):
        two = replace(tiny_checkpoint(seed), provenance=descended({"seed": seed}, "parent", one))
        one = averaged([one, two])
        sizes.append(len(json.dumps(one.provenance)))
    assert sizes[-1] - sizes[-2] <= sizes[1] - sizes[0] + 8


def test_an_earlier_checkpoint_is_read_as_one_of_today(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save(path, tiny_checkpoint())
    document = torch.load(path, weights_only=True)
    torch.save({**document, "provenance": {"parent": told_in_full("aa")}}, path)
    assert load(path).provenance == {"parent": "aa", "ancestors": {"aa": {"step": 2}}}
