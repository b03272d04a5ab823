"""MIDI files under tempo maps: the hits' times survive, tracks and notes are those asked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise

import click_model
import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tempo_maps import tempo_maps

from ghostnote.runtime.events import Hit
from ghostnote.runtime.output.midi import MidiFormat
from ghostnote.runtime.output.quantise import parse_grid
from ghostnote.runtime.output.tempo import TICKS_PER_QUARTER, Anchor, Meter, TempoMap
from ghostnote.runtime.vocabulary import CODES, NOTE_OF

MANIFEST = click_model.make_manifest()

hit_lists = st.lists(
    st.builds(Hit, st.floats(0, 300), st.sampled_from(CODES), st.floats(0, 1), st.just(1.0)), max_size=30
).map(lambda hits: sorted(hits, key=lambda hit: hit.time_s))


def read(form: MidiFormat, hits: list[Hit]) -> mido.MidiFile:
    data = form.begin() + b"".join(form.add(hit) for hit in hits) + form.end()
    return mido.MidiFile(file=io.BytesIO(data))


def onsets(file: mido.MidiFile) -> list[tuple[float, int, float]]:
    """(seconds, note, seconds per tick there) as mido plays the file."""
    now, quarter_us, found = 0.0, 500_000, []
    for message in file:
        now += message.time
        if message.type == "set_tempo":
            quarter_us = message.tempo
        if message.type == "note_on":
            assert message.channel == 9
            found.append((now, message.note, quarter_us / 1e6 / file.ticks_per_beat))
    return found


@given(tempo_maps, hit_lists, st.booleans())
@settings(max_examples=150)
def test_times_survive_any_tempo_map(tempo: TempoMap, hits: list[Hit], track_per_drum: bool) -> None:
    """Law: read back by mido, every hit lies within a tick of its time, whatever the map; at a tick is one of each."""
    found = onsets(read(MidiFormat(NOTE_OF, tempo, track_per_drum=track_per_drum), hits))
    apart = {(tempo.tick(hit.time_s), hit.code): hit for hit in hits}.values()
    expected = [(hit.time_s, NOTE_OF[hit.code]) for hit in apart]
    assert len(found) == len(expected)
    by_note: Callable[..., object] = lambda entry: (entry[1], entry[0])  # noqa: E731
    for (time_s, note, tick_s), (wanted_s, wanted) in zip(
        sorted(found, key=by_note), sorted(expected, key=by_note), strict=True
    ):
        assert note == wanted
        assert abs(time_s - wanted_s) <= tick_s + 1e-6


@given(tempo_maps, hit_lists)
def test_no_note_sounds_twice_and_all_end(tempo: TempoMap, hits: list[Hit]) -> None:
    sounding = set()
    for message in read(MidiFormat(NOTE_OF, tempo), hits):
        if message.type == "note_on":
            assert message.note not in sounding
            sounding.add(message.note)
        elif message.type == "note_off":
            sounding.remove(message.note)
    assert not sounding


@given(tempo_maps, hit_lists)
def test_notes_lie_on_the_grid_when_asked(tempo: TempoMap, hits: list[Hit]) -> None:
    """Each on a line counted from the last change of meter; one per drum and line, the loudest."""
    grid = parse_grid("1/16")
    track = read(MidiFormat(NOTE_OF, tempo, grid), hits).tracks[0]
    tick, found = 0, []
    starts = [start for start, _ in tempo.meter_starts]
    for message in track:
        tick += message.time
        if message.type == "note_on":
            start = max(start for start in starts if start <= tick)
            assert (tick - start) % grid.ticks == 0
            found.append((tick, message.note))
    assert len(set(found)) == len(found)
    assert {note for _, note in found} == {NOTE_OF[hit.code] for hit in hits}


def test_of_two_hits_on_a_line_the_loudest_stays() -> None:
    hits = [Hit(0.49, "SD", 0.2, 1), Hit(0.5, "BD", 0.5, 1), Hit(0.52, "SD", 0.9, 1), Hit(0.53, "SD", 0.4, 1)]
    file = read(MidiFormat(NOTE_OF, TempoMap.constant(120), parse_grid("1/16")), hits)
    notes = [(message.note, message.velocity) for message in file.tracks[0] if message.type == "note_on"]
    assert sorted(notes) == [(36, 64), (38, 114)]


@pytest.mark.parametrize("track_per_drum", [False, True])
@pytest.mark.parametrize("grid", [None, "1/4"])
def test_classes_of_one_note_are_one_stroke_the_louder_one(track_per_drum: bool, grid: str | None) -> None:
    hits = [Hit(0.5, "CHH", 0.2, 1), Hit(0.5, "CRC", 0.9, 1), Hit(0.5, "SD", 0.4, 1), Hit(1.0, "CRC", 0.3, 1)]
    form = MidiFormat(
        NOTE_OF | {"CHH": 42, "CRC": 42, "SD": 42},
        TempoMap.constant(120),
        parse_grid(grid) if grid else None,
        track_per_drum=track_per_drum,
    )
    for track in read(form, hits).tracks:
        told = [m for m in track if m.type in ("note_on", "note_off")]
        assert all(off.time > 0 for on, off in pairwise(told) if on.type == "note_on")
        if not track_per_drum and told:
            assert [m.velocity for m in told if m.type == "note_on"] == [114, 38]


def test_the_map_is_in_the_file() -> None:
    tempo = TempoMap.through([Anchor(0, 120, Meter(3, 4)), Anchor(3, 90), Anchor(1000, 50)])
    file = read(MidiFormat(NOTE_OF, tempo), [Hit(4.0, "BD", 1, 1)])
    metas = [m for m in file.tracks[0] if m.type in ("set_tempo", "time_signature")]
    assert [m.type for m in metas] == [
        "time_signature",
        "set_tempo",
        "set_tempo",
    ]  # what follows the last note is left out
    assert (metas[0].numerator, metas[0].denominator) == (3, 4)
    assert [m.tempo for m in metas[1:]] == [500_000, 666_667]
    assert metas[2].time == 6 * TICKS_PER_QUARTER


def test_a_track_per_drum() -> None:
    hits = [Hit(0.1, "SD", 1, 1), Hit(0.1, "BD", 1, 1), Hit(0.5, "SD", 1, 1)]
    tempo = TempoMap.through([Anchor(0, 120), Anchor(0.25, 100)])
    file = read(MidiFormat(NOTE_OF, tempo, track_per_drum=True), hits)
    assert (file.type, [track.name for track in file.tracks]) == (1, ["ghostnote", "bass drum", "snare drum"])
    assert [sum(m.type == "note_on" for m in track) for track in file.tracks] == [0, 1, 2]
    assert [sum(m.type == "set_tempo" for m in track) for track in file.tracks] == [2, 0, 0]
    assert [time_s for time_s, _, _ in onsets(file)] == pytest.approx([0.1, 0.1, 0.5], abs=5e-4)


def test_a_track_per_drum_without_hits() -> None:
    file = read(MidiFormat(NOTE_OF, track_per_drum=True), [])
    assert (file.type, len(file.tracks), file.length) == (1, 1, 0)
