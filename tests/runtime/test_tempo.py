"""Tempo maps: seconds to ticks and back, bars where they were asked for, files and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import mido
import pytest
from click_model import make_manifest
from hypothesis import given
from hypothesis import strategies as st
from tempo_maps import anchors, tempo_maps

from ghostnote.runtime.errors import InputError, UsageError
from ghostnote.runtime.events import Hit
from ghostnote.runtime.output.tempo import TICKS_PER_QUARTER, Anchor, Meter, TempoChange, TempoMap
from ghostnote.runtime.output.tempo_files import parse_meter, read_tempo
from ghostnote.runtime.output.writers import FormatOptions, write_hits


def tick_s(tempo: TempoMap, tick: int) -> float:
    return tempo.change_at(tick).quarter_us / TICKS_PER_QUARTER / 1e6


@given(tempo_maps, st.floats(0, 4000))
def test_a_time_and_its_tick_are_half_a_tick_apart(tempo: TempoMap, time_s: float) -> None:
    tick = tempo.tick(time_s)
    longer = max(tick_s(tempo, tick), tick_s(tempo, max(tick - 1, 0)))
    assert abs(tempo.seconds(tick) - time_s) <= 0.5001 * longer + 1e-9


@given(tempo_maps, st.integers(0, 10**6))
def test_a_tick_comes_back_from_its_time(tempo: TempoMap, tick: int) -> None:
    assert tempo.tick(tempo.seconds(tick)) == tick


@given(anchors)
def test_the_tempo_changes_at_the_anchors_times(given_anchors: list[Anchor]) -> None:
    """However many there are: errors do not add up."""
    tempo = TempoMap.through(given_anchors)
    starts = [tempo.seconds(change.tick) for change in tempo.changes]
    for anchor in given_anchors:
        # Within a tick, plus the rounding to microseconds of the tempo that leads there.
        nearest = min(starts, key=lambda start: abs(start - anchor.time_s))
        change = tempo.change_at(tempo.tick(anchor.time_s))
        assert abs(nearest - anchor.time_s) <= change.quarter_us / TICKS_PER_QUARTER / 1e6 + 2e-3


def test_the_first_anchor_begins_a_bar_and_an_upbeat_leads_there() -> None:
    tempo = TempoMap.through([Anchor(0.37, 120)])
    assert [change.meter for change in tempo.changes] == [Meter(1, 4), Meter(4, 4)]
    assert tempo.seconds(tempo.changes[1].tick) == pytest.approx(0.37, abs=1e-6)
    assert tempo.changes[1].bpm == 120
    later = TempoMap.through([Anchor(3.1, 120)])  # six beats: half a bar, then a bar
    assert [(change.tick / 960, str(change.meter.numerator)) for change in later.changes] == [
        (0, "2"),
        (2, "4"),
        (6, "4"),
    ]
    assert [bar.tick / 960 for bar in later.bars(15 * 960)] == [0, 2, 6, 10, 14]
    assert later.seconds(6 * 960) == pytest.approx(3.1, abs=1e-5)


@pytest.mark.parametrize("time_s", [0.004, 0.005, 0.012, 0.03, 0.059, 0.061, 0.25])
@pytest.mark.parametrize("bpm", [60, 120, 1000])
def test_a_short_lead_in_is_not_faster_than_tempi_may_be(time_s: float, bpm: float) -> None:
    """A whole beat of 12 ms would be 5000 a minute."""
    tempo = TempoMap.through([Anchor(time_s, bpm)])
    assert tempo.changes[0].bpm <= 1000
    assert tempo.seconds(tempo.lead_in_ticks) == pytest.approx(time_s, abs=1e-6)
    assert tempo.lead_in_ticks in [bar.tick for bar in tempo.bars(tempo.lead_in_ticks)]
    assert tempo.change_at(tempo.lead_in_ticks).meter == Meter(4, 4)


def test_rounded_tempi_stay_on_the_beat() -> None:
    """A hundred bars at 119.37, each written as 119.4 at its time in milliseconds."""
    bar_s = 4 * 60 / 119.37
    tempo = TempoMap.through([Anchor(round(k * bar_s, 3), 119.4) for k in range(100)])
    assert [change.tick for change in tempo.changes] == [k * 4 * 960 for k in range(100)]
    assert tempo.seconds(99 * 4 * 960) == pytest.approx(99 * bar_s, abs=1e-3)


def test_a_change_between_beats_stays_there() -> None:
    tempo = TempoMap.through([Anchor(0, 60), Anchor(1.5, 120)])
    assert [change.tick for change in tempo.changes] == [0, 1440]


def test_meters_begin_bars() -> None:
    tempo = TempoMap.through([Anchor(0, 120, Meter(3, 4)), Anchor(3, 120, Meter(6, 8)), Anchor(4.5, 60, Meter(6, 8))])
    assert tempo.meter_starts == [(0, Meter(3, 4)), (5760, Meter(6, 8))]
    assert [(bar.tick, bar.ticks, bar.meter.numerator) for bar in tempo.bars(8640)] == [
        (0, 2880, 3),
        (2880, 2880, 3),
        (5760, 2880, 6),
        (8640, 2880, 6),
    ]


def test_a_bar_that_a_meter_cuts_is_short() -> None:
    tempo = TempoMap((TempoChange(0, 500_000), TempoChange(960, 500_000, Meter(3, 4))))
    assert [(bar.tick, bar.ticks) for bar in tempo.bars(960)] == [(0, 960), (960, 2880)]


def test_maps_begin_at_0_and_increase() -> None:
    for ticks in ([], [5], [0, 7, 7]):
        with pytest.raises(ValueError, match="increasing"):
            TempoMap([TempoChange(tick, 500_000) for tick in ticks])


# Files


def test_a_number() -> None:
    tempo = read_tempo("90.5", parse_meter("6/8"))
    assert tempo.changes == (TempoChange(0, round(60e6 / 90.5), Meter(6, 8)),)
    with pytest.raises(UsageError, match="tempo 5: expected 10 to 1000"):
        read_tempo("5")


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text("seconds,bpm,meter\n# verse\n0, 120, 3/4\n\n6;240\t4/4  # chorus\n")
    tempo = read_tempo(str(path))
    assert tempo.changes == (TempoChange(0, 500_000, Meter(3, 4)), TempoChange(11520, 250_000, Meter(4, 4)))


def test_a_midi_file(tmp_path: Path) -> None:
    path = tmp_path / "map.mid"
    file = mido.MidiFile(ticks_per_beat=480)
    tempi, meters = mido.MidiTrack(), mido.MidiTrack()
    tempi += [mido.MetaMessage("set_tempo", tempo=600_000), mido.MetaMessage("set_tempo", tempo=400_000, time=3 * 480)]
    meters.append(mido.MetaMessage("time_signature", numerator=3, denominator=4))
    file.tracks += [tempi, meters]
    file.save(path)
    assert read_tempo(str(path)).changes == (
        TempoChange(0, 600_000, Meter(3, 4)),
        TempoChange(3 * 960, 400_000, Meter(3, 4)),
    )


@pytest.mark.parametrize(("power", "accepted"), [(8, True), (9, False), (12, False), (255, False)])
def test_meters_of_a_midi_file_have_bars_of_whole_ticks(power: int, accepted: bool, tmp_path: Path) -> None:
    """A bar of no ticks would never end."""
    path = tmp_path / "map.mid"
    track = bytes((0, 0xFF, 0x58, 4, 3, power, 24, 8)) + b"\0\xff\x2f\0"
    header = b"MThd\0\0\0\x06\0\0\0\x01\x03\xc0"
    path.write_bytes(header + b"MTrk" + len(track).to_bytes(4, "big") + track)
    if accepted:
        assert len(list(read_tempo(str(path)).bars(90))) == 3
    else:
        with pytest.raises(InputError, match=r"map\.mid: holds a meter of 3/\d+; expected a note value of 1 to 256"):
            read_tempo(str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,120\n1,fast\n", "line 2: found '1,fast'; expected seconds,bpm"),
        ("0\n", "line 1"),
        ("0,120,4/4,7\n", "line 1"),
        ("0,120,4/5\n", "line 1"),
        ("-1,120\n", "line 1"),
        ("nan,120\n", "line 1"),
        ("0,120\n1e300,120\n", "line 2"),
        ("0,2000\n", "expected 10 to 1000"),
        ("0,120\n0,130\n", "line 2: found '0,130'; expected a time after 0 s"),
        ("# nothing\n", "holds no tempo"),
    ],
)
def test_bad_text_files(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)) as caught:
        read_tempo(str(path))
    assert words in str(caught.value)


def test_files_that_are_no_maps(tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_bytes(b"no MIDI")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    track = b"\0\xff\x59\x02\x7f\x7f" + b"\0\xff\x2f\0"  # a key of 127 sharps
    header = b"MThd\0\0\0\x06\0\0\0\x01\x03\xc0"
    (tmp_path / "key.mid").write_bytes(header + b"MTrk" + len(track).to_bytes(4, "big") + track)
    (tmp_path / "short.mid").write_bytes(header + b"MTrk\0\0\0\x63")
    for name, words in (
        ("a.mid", "MIDI"),
        ("key.mid", "MIDI"),
        ("short.mid", "it ends too early"),
        ("b.txt", "tempo map"),
        ("c.mid", "no such file"),
        ("c.txt", "no such file"),
    ):
        with pytest.raises(InputError, match=words):
            read_tempo(str(tmp_path / name))


@pytest.mark.parametrize("text", ["4", "4/3", "0/4", "65/4", "a/b", "4/4/4"])
def test_bad_meters(text: str) -> None:
    with pytest.raises(UsageError, match="4/4 or 6/8"):
        parse_meter(text)


@pytest.mark.parametrize("first_s", [0.0004, 0.0025, 3.9])
def test_a_map_that_we_wrote_is_read_again(first_s: float, tmp_path: Path) -> None:
    """Its lead-in may be faster, or slower, than a tempo that is asked for."""
    written = TempoMap.through([Anchor(first_s, 120.0), Anchor(first_s + 2.4, 90.0)], Meter())
    path = tmp_path / "map.mid"
    write_hits([Hit(first_s + 5, "SD", 0.5, 1.0)], path, make_manifest(), options=FormatOptions(tempo=written))
    assert read_tempo(str(path)).changes == written.changes


def test_the_fastest_tempo_is_read_again_where_it_was_stretched(tmp_path: Path) -> None:
    written = TempoMap.through([Anchor(0.0, 1000.0), Anchor(1.0198, 120.0)], Meter())
    assert 60e6 / written.changes[0].quarter_us > 1000
    path = tmp_path / "map.mid"
    write_hits([], path, make_manifest(), options=FormatOptions(tempo=written))
    assert read_tempo(str(path)).changes[0] == written.changes[0]


@pytest.mark.parametrize("tempo", [0, 1, 20_000])
def test_a_tempo_of_a_midi_file_is_one_that_a_map_may_have(tempo: int, tmp_path: Path) -> None:
    path = tmp_path / "map.mid"
    file = mido.MidiFile()
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)]))
    file.save(path)
    with pytest.raises(InputError, match=r"holds a tempo of .*; expected 10 to 1000"):
        read_tempo(str(path))
