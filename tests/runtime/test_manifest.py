"""The manifest: round trip, arithmetic, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click_model
import pytest

from ghostnote.runtime import Manifest, ManifestError, UsageError

MANIFEST = click_model.make_manifest()


def edited(**changes: Any) -> str:
    """The manifest's JSON with top-level keys replaced; None removes a key."""
    document = json.loads(MANIFEST.to_json()) | changes
    return json.dumps({key: value for key, value in document.items() if value is not None})


def test_round_trip() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert Manifest.from_dict(MANIFEST.to_dict()) == MANIFEST
    assert MANIFEST.to_dict() == json.loads(MANIFEST.to_json())


def test_document_has_the_keys_of_the_contract() -> None:
    document = json.loads(MANIFEST.to_json())
    general = {
        "schema_version",
        "name",
        "precision",
        "weights_sha256",
        "licence",
        "training",
        "scores",
        "verified",
        "notes",
    }
    clock = {"sample_rate", "samples_per_token", "frames_per_token", "delays_ms", "default_delay"}
    assert set(document) == general | clock | {"classes", "decoder", "states"}
    assert document["schema_version"] == 1
    assert document["classes"][0] == {"code": "BD", "note": 36}
    assert set(document["decoder"]) == {
        "lookahead_frames",
        "refractory_frames",
        "parents",
        "thresholds",
        "also_threshold",
    }


def test_unknown_keys_are_ignored() -> None:
    assert Manifest.from_json(edited(invented_later=1)) == MANIFEST


def test_states_are_float32_unless_the_manifest_says_otherwise() -> None:
    assert {MANIFEST.state_type(name) for name in MANIFEST.states} == {"float32"}
    halved = replace(MANIFEST, state_types={"state_cache": "float16"})
    assert Manifest.from_json(halved.to_json()) == halved
    assert (halved.state_type("state_cache"), halved.state_type("state_audio")) == ("float16", "float32")


@pytest.mark.parametrize("types", [{"state_cache": "float64"}, {"state_other": "float16"}, {"state_cache": 16}, ["x"]])
def test_state_types_that_make_no_sense(types: object) -> None:
    with pytest.raises(ManifestError, match="state_types"):
        Manifest.from_json(edited(state_types=types))


def test_clock() -> None:
    assert (MANIFEST.samples_per_frame, MANIFEST.frame_s, MANIFEST.token_s) == (441, 0.01, 0.02)
    assert [MANIFEST.total_latency_ms(i) for i in range(6)] == [40, 60, 80, 100, 150, 250]


@pytest.mark.parametrize(("latency_ms", "index"), [(40, 0), (59.9, 0), (60, 1), (100, 3), (149, 3), (10_000, 5)])
def test_largest_delay_within_a_latency(latency_ms: float, index: int) -> None:
    assert MANIFEST.delay_for_latency(latency_ms) == index


def test_latency_below_all_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match="40, 60, 80, 100, 150, 250"):
        MANIFEST.delay_for_latency(39.9)


def decoder(**changes: Any) -> dict[str, Any]:
    """The manifest's decoder with some keys changed; None leaves a key out."""
    merged = json.loads(MANIFEST.to_json())["decoder"] | changes
    return {"decoder": {key: value for key, value in merged.items() if value is not None}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "newer version; upgrade"),
        ({"schema_version": "1"}, "schema_version"),
        ({"schema_version": None}, "schema_version"),
        ({"sample_rate": None}, "'sample_rate' is missing"),
        ({"sample_rate": 44100.0}, "'sample_rate' must be a value of type int"),
        ({"frames_per_token": 5}, "divisor"),
        ({"frames_per_token": 0}, "divisor"),
        ({"delays_ms": [30, 10]}, "rising"),
        ({"delays_ms": []}, "rising"),
        ({"default_delay": 6}, "default_delay"),
        ({"default_delay": True}, "default_delay"),
        ({"classes": []}, "at least one class"),
        ({"classes": [{"code": "BD", "note": 36}] * 18}, "different codes"),
        ({"classes": [{"code": "BD,", "note": 36}]}, "letters and digits"),
        ({"classes": [{"code": "BD", "note": 128}]}, "0..127"),
        ({"classes": ["BD"]}, "objects"),
        ({"states": {"audio": [1]}}, "names like"),
        ({"states": {"state_a": [1], "state_ab": [1]}}, "none begins another"),
        ({"states": {"state_a": []}}, "shapes"),
        ({"states": {"state_a": 3}}, "shape"),
        ({"decoder": {"refractory_frames": 3, "thresholds": []}}, "'decoder.parents' is missing"),
        (decoder(lookahead_frames=None), "'decoder.lookahead_frames' is missing"),
        (decoder(lookahead_frames=2), "lookahead"),
        (decoder(refractory_frames=0), "refractory"),
        (decoder(thresholds=[[0.5] * 17] * 6), "6 rows of 18"),
        (decoder(thresholds=[[1.5] * 18] * 6), "probabilities"),
        (decoder(thresholds=[0.5]), "list of lists"),
        (decoder(parents=["BD"]), "list of lists"),
        (decoder(parents=[["BD", "SD"]]), "every class once"),
        (decoder(parents=[[code] for code in MANIFEST.codes] + [["BD"]]), "every class once"),
        (decoder(also_threshold=2.0), "also_threshold"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        Manifest.from_json(edited(**changes))
    assert caught.value.exit_code == 7
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_not_a_document(text: str) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_json(text)


def test_edits_are_validated_too() -> None:
    with pytest.raises(ManifestError, match="default_delay"):
        replace(MANIFEST, default_delay=17)
