"""Drum notation: every hit once and at its place, bars filled, and what other programs need to read it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import click_model
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostnote.runtime import Hit, UsageError, write_hits
from ghostnote.runtime.output.notation import MusicXmlFormat
from ghostnote.runtime.output.quantise import Placement, parse_grid
from ghostnote.runtime.output.rhythm import write_rhythm
from ghostnote.runtime.output.tempo import Anchor, Bar, Meter, TempoMap
from ghostnote.runtime.output.tempo_files import read_tempo
from ghostnote.runtime.output.writers import FormatOptions
from ghostnote.runtime.vocabulary import CODES, NOTE_OF

MANIFEST = click_model.make_manifest()
FITTING = [
    *((Meter(n, 4), name) for n in (2, 3, 4, 5) for name in ("1/4", "1/8", "1/12", "1/16", "1/24", "1/32", "1/48")),
    *((Meter(n, 8), name) for n in (5, 6, 7, 12) for name in ("1/8", "1/16", "1/24", "1/32")),
    (Meter(2, 2), "1/16"),
]
ONE_QUARTER = Meter(1, 4)
hit_lists = st.lists(
    st.builds(Hit, st.floats(0, 12), st.sampled_from(CODES), st.floats(0, 1), st.just(1.0)), max_size=40
).map(lambda hits: sorted(hits, key=lambda hit: hit.time_s))


def score(hits: list[Hit], tempo: TempoMap, grid: str) -> ElementTree.Element:
    form = MusicXmlFormat(NOTE_OF, tempo, parse_grid(grid))
    return ElementTree.fromstring(form.begin() + b"".join(form.add(hit) for hit in hits) + form.end())


def notes_of(root: ElementTree.Element) -> list[tuple[int, str, ElementTree.Element]]:
    """(tick, class, element) of all notes; checks that every voice fills its measure, as the schema's readers count."""
    found, measure_tick = [], 0
    for measure in root.findall("part/measure"):
        now = last = 0
        lengths = set()
        for element in measure:
            if element.tag == "backup":
                lengths.add(now)
                now -= int(element.findtext("duration", ""))
                assert now == 0
            if element.tag != "note":
                continue
            if element.find("chord") is None:
                last, now = now, now + int(element.findtext("duration", ""))
            instrument = element.find("instrument")
            assert (instrument is None) == (element.find("rest") is not None) == (element.find("unpitched") is None)
            if instrument is not None:
                found.append((measure_tick + last, instrument.attrib["id"].removeprefix("P1-"), element))
        assert lengths <= {now}
        measure_tick += now
    return found


@given(hit_lists, st.sampled_from(FITTING), st.sampled_from((61.0, 120.0, 203.5)))
@settings(max_examples=150)
def test_every_quantised_hit_appears_exactly_once(hits: list[Hit], case: tuple[Meter, str], bpm: float) -> None:
    tempo = TempoMap.constant(bpm, case[0])
    placement = Placement(tempo, parse_grid(case[1]))
    expected = [pair for hit in hits for pair in placement.push(hit)] + placement.rest()
    found = notes_of(score(hits, tempo, case[1]))
    assert sorted((tick, code) for tick, code, _ in found) == sorted((tick, hit.code) for tick, hit in expected)
    loudness = {(tick, code): float(element.attrib["dynamics"]) for tick, code, element in found}
    for tick, hit in expected:
        assert loudness[tick, hit.code] == pytest.approx(hit.velocity * 127 / 90 * 100, abs=0.01)


@given(st.sampled_from(FITTING), st.data())
def test_what_is_written_lasts_what_it_says(case: tuple[Meter, str], data: st.DataObject) -> None:
    """Type, dots and tuplet of every event make up its length; notes stand at the onsets; the bar is full."""
    meter, grid = case[0], parse_grid(case[1])
    onsets = sorted(data.draw(st.sets(st.sampled_from(range(0, meter.bar_ticks, grid.ticks)))))
    events = write_rhythm(Bar(0, meter.bar_ticks, meter), onsets)
    base = {"whole": 1, "half": 2, "quarter": 4, "eighth": 8, "16th": 16, "32nd": 32, "64th": 64, "128th": 128}
    now = 0
    for event in events:
        assert event.tick == now
        actual, normal = event.tuplet
        written = Fraction(3840, base[event.type]) * (Fraction(3, 2) if event.dots else 1) * Fraction(normal, actual)
        assert written == event.ticks
        now += event.ticks
    assert now == meter.bar_ticks
    assert [event.tick for event in events if not event.is_rest] == onsets


def test_rhythms() -> None:
    def written(onsets: list[int], meter: Meter = ONE_QUARTER) -> str:
        short = {"quarter": "4", "eighth": "8", "16th": "16", "32nd": "32"}
        events = write_rhythm(Bar(0, meter.bar_ticks, meter), onsets)
        return " ".join(
            ("r" if event.is_rest else "")
            + short[event.type]
            + "." * event.dots
            + (f"({event.tuplet[0]})" if event.tuplet[0] > 1 else "")
            for event in events
        )

    assert written([0, 240, 480, 720]) == "16 16 16 16"
    assert written([0, 240]) == "16 8."
    assert written([720]) == "r8. 16"
    assert written([0, 320, 640]) == "8(3) 8(3) 8(3)"
    assert written([320]) == "r8(3) 4(3)"
    assert written([0, 160, 480]) == "16(6) 8(6) 8.(6)"
    assert written([0, 120]) == "32 8. r32"
    assert written([], Meter(6, 8)) == "r4. r4."
    assert written([0, 960], Meter(6, 8)) == "4 8 r4."


def test_beams_join_the_notes_of_a_beat() -> None:
    events = write_rhythm(Bar(0, 1920, Meter(2, 4)), [0, 240, 480, 960, 1200])
    assert [event.beams for event in events] == [
        ("begin", "begin"),
        ("continue", "end"),
        ("end",),
        ("begin", "forward hook"),
        ("end",),
    ]


def groove() -> list[Hit]:
    """Two bars of rock at 120: eighths, an open hi-hat at the end, a ghost note and accents on the snare."""
    hats = [Hit(0.25 * k, "OHH" if k == 15 else "CHH", 0.6, 0.9) for k in range(16)]
    snares = [Hit(0.5 + k, "SD", 0.8, 0.9) for k in range(4)] + [Hit(0.875, "SD", 0.2, 0.9)]
    kicks = [Hit(float(k), "BD", 0.7, 0.9) for k in range(4)] + [Hit(3.75, "PHH", 0.5, 0.9), Hit(0.0, "CRC", 0.9, 0.9)]
    return sorted(hats + snares + kicks, key=lambda hit: hit.time_s)


def test_staff_heads_voices_and_marks() -> None:
    root = score(groove(), TempoMap.constant(120), "1/16")
    notes = notes_of(root)
    assert len(root.findall("part/measure")) == 2
    assert root.findtext(".//clef/sign") == "percussion"
    assert root.findtext(".//metronome/per-minute") == "120"

    def look(code: str) -> tuple[str, ...]:
        element = next(element for _, found, element in notes if found == code)
        paths = ("unpitched/display-step", "unpitched/display-octave", "notehead", "voice", "stem")
        return tuple(element.findtext(path, "") for path in paths)

    assert look("BD") == ("F", "4", "normal", "2", "down")
    assert look("SD") == ("C", "5", "normal", "1", "up")
    assert look("CHH") == look("OHH") == ("G", "5", "x", "1", "up")
    assert look("PHH") == ("D", "4", "x", "2", "down")
    assert look("CRC") == ("A", "5", "x", "1", "up")
    assert [code for _, code, element in notes if element.find("notations/technical/open") is not None] == ["OHH"]
    ghosts = [(tick, code) for tick, code, e in notes if e.find("notehead[@parentheses='yes']") is not None]
    assert ghosts == [(1680, "SD")]
    assert not root.findall(".//accent")  # four equal backbeats: none stands out


def test_what_stands_out_is_accented() -> None:
    hits = [Hit(0.25 * k, "CHH", 0.95 if k % 4 == 0 else 0.5, 1) for k in range(16)]
    notes = notes_of(score(hits, TempoMap.constant(120), "1/8"))
    assert [tick for tick, _, e in notes if e.find("notations/articulations/accent") is not None] == [
        0,
        1920,
        3840,
        5760,
    ]


def test_no_two_drums_look_the_same() -> None:
    notes = notes_of(score([Hit(0.5 * k, code, 0.5, 1) for k, code in enumerate(CODES)], TempoMap.constant(120), "1/8"))
    paths = ("unpitched/display-step", "unpitched/display-octave", "notehead")
    looks = [(*(e.findtext(path) for path in paths), e.find("notations/technical") is None) for _, _, e in notes]
    assert len(set(looks)) == len(CODES)


def test_instruments_play_the_notes_of_the_map(tmp_path: Path) -> None:
    path = tmp_path / "a.musicxml"
    options = FormatOptions(TempoMap.constant(120), parse_grid("1/16"), notes={"SD": 40})
    write_hits(groove(), path, MANIFEST, options=options)
    part = ElementTree.parse(path).find("part-list/score-part")
    assert part is not None
    names = [instrument.attrib["id"] for instrument in part.findall("score-instrument")]
    assert names == ["P1-BD", "P1-SD", "P1-CHH", "P1-PHH", "P1-OHH", "P1-CRC"]
    played = {m.attrib["id"]: m.findtext("midi-unpitched") for m in part.findall("midi-instrument")}
    assert (played["P1-SD"], played["P1-BD"]) == ("41", "37")  # MusicXML counts from 1


def test_tempo_changes_are_played_and_the_large_ones_printed() -> None:
    tempo = TempoMap.through([Anchor(0, 120), Anchor(2, 121), Anchor(2 + 240 / 121, 90, Meter(3, 4))])
    root = score([Hit(5.0, "BD", 1, 1)], tempo, "1/16")
    assert [float(sound.attrib["tempo"]) for sound in root.findall(".//sound")] == pytest.approx(
        [120, 121, 90], abs=0.01
    )
    assert [mark.text for mark in root.findall(".//per-minute")] == ["120", "90"]
    assert [time.findtext("beats") for time in root.findall(".//time")] == ["4", "3"]


def test_seconds_before_the_music_are_no_bars_unless_there_is_a_hit() -> None:
    tempo = TempoMap.through([Anchor(0.25, 120)])
    late, early = [Hit(0.25, "BD", 1, 1)], [Hit(0.0, "BD", 1, 1)]
    assert [time.findtext("beats") for time in score(late, tempo, "1/16").findall(".//time")] == ["4"]
    assert [time.findtext("beats") for time in score(early, tempo, "1/16").findall(".//time")] == ["1"]


@pytest.mark.parametrize("time_s", [0.001, 0.004, 0.012, 0.03, 0.059])
@pytest.mark.parametrize("grid", ["1/4", "1/16", "1/48", "1/96"])
def test_music_that_begins_within_a_beat_is_on_any_grid(time_s: float, grid: str) -> None:
    tempo = TempoMap.through([Anchor(time_s, 120)])
    early = [Hit(0.4 * time_s, "BD", 1, 1), Hit(time_s, "SD", 1, 1)]
    assert [tick for tick, *_ in notes_of(score(early, tempo, grid))] == [0, tempo.lead_in_ticks]
    assert [tick for tick, *_ in notes_of(score(early[1:], tempo, grid))] == [0]  # of the first bar that is drawn


@pytest.mark.parametrize("time_s", [0.001, 0.004, 0.012])
def test_music_that_begins_within_a_beat_is_the_same_by_way_of_a_midi_file(time_s: float, tmp_path: Path) -> None:
    tempo, hits = TempoMap.through([Anchor(time_s, 120)]), [Hit(time_s, "SD", 1, 1), Hit(time_s + 0.5, "BD", 1, 1)]
    write_hits(hits, tmp_path / "a.mid", click_model.make_manifest(), options=FormatOptions(tempo=tempo))
    again = read_tempo(str(tmp_path / "a.mid"))
    placed, placed_again = (notes_of(score(hits, each, "1/16")) for each in (tempo, again))
    assert [note[:2] for note in placed_again] == [note[:2] for note in placed]


@pytest.mark.parametrize(("bpm", "grid"), [(120, "1/12"), (97.3, "1/96")])
def test_a_meter_that_changes_on_a_triplet_is_refused(bpm: float, grid: str) -> None:
    """What is left of the beat before, two thirds or one, is no beat that can be written."""
    at_s = (4 + 1 / 3) * 60 / bpm
    tempo = TempoMap.through([Anchor(0, bpm, Meter(4, 4)), Anchor(at_s, bpm, Meter(3, 4))])
    with pytest.raises(UsageError, match=f"a grid of {grid} does not fill the beats of 4/4"):
        MusicXmlFormat(NOTE_OF, tempo, parse_grid(grid))


@pytest.mark.parametrize(("meter", "grid"), [(Meter(6, 8), "1/12"), (Meter(7, 8), "1/4"), (Meter(4, 4), "1/6")])
def test_grids_that_do_not_fit_the_meter(meter: Meter, grid: str) -> None:
    with pytest.raises(UsageError, match=f"a grid of {grid} does not fill the beats of {meter.numerator}/"):
        MusicXmlFormat(NOTE_OF, TempoMap.constant(120, meter), parse_grid(grid))


@pytest.mark.parametrize("options", [FormatOptions(), FormatOptions(TempoMap.constant(120))])
def test_without_tempo_and_grid_the_error_says_what_to_give(options: FormatOptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--tempo .* and --quantize"):
        write_hits(groove(), tmp_path / "a.musicxml", MANIFEST, options=options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("meter", "grid"), [(Meter(4, 4), "1/16"), (Meter(4, 4), "1/24"), (Meter(6, 8), "1/16")])
def test_music21_reads_the_same(meter: Meter, grid: str, tmp_path: Path) -> None:
    """An independent reader: the same hits at the same offsets, in bars that it finds full."""
    music21 = pytest.importorskip("music21", reason="music21 (extra `dev`) is not installed")
    tempo, path = TempoMap.constant(97, meter), tmp_path / "a.musicxml"
    write_hits(groove(), path, MANIFEST, options=FormatOptions(tempo, parse_grid(grid)))
    part = music21.converter.parse(path, forceSource=True).parts[0]
    found = []
    for measure in part.getElementsByClass("Measure"):
        assert measure.duration.quarterLength == measure.barDuration.quarterLength
        for element in measure.recurse().notes:
            start = measure.offset + element.getOffsetInHierarchy(measure)
            members = element.notes if isinstance(element, music21.percussion.PercussionChord) else [element]
            found += [(start * 960, member.displayName) for member in members]
            assert all(isinstance(member, music21.note.Unpitched) for member in members)
    expected = [(tick, _position(e)) for tick, _, e in notes_of(ElementTree.parse(path).getroot())]
    assert sorted((round(tick), name) for tick, name in found) == sorted(expected)
    assert isinstance(part.recurse().getElementsByClass("Clef").first(), music21.clef.PercussionClef)


def _position(element: ElementTree.Element) -> str:
    return element.findtext("unpitched/display-step", "") + element.findtext("unpitched/display-octave", "")
