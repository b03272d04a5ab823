"""Reading MIDI folders, with and without info.csv, and drawing clips from them."""

from pathlib import Path

import mido
import numpy as np
import pytest

from ghostnote.models.corpora.folders import midi_labels
from ghostnote.models.data.performances.grooves import GrooveSet, load_performances, read_midi
from ghostnote.models.data.performances.mixture import _in_unison, _left_out, _steady, sample_drummers
from ghostnote.models.data.performances.performance import Performance
from ghostnote.models.data.recipe import Draws, RenderRecipe
from ghostnote.models.evaluation.notes import read_notes
from ghostnote.runtime.errors import InputError
from ghostnote.runtime.vocabulary import CODES, index_of

TICKS_PER_BEAT = 480  # at mido's default tempo of 120 bpm a beat lasts 0.5 s


def write_midi(path: Path, hits: list[tuple[float, int, int]], channel: int = 9) -> None:
    """Write (seconds, note, velocity) hits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    track, now = mido.MidiTrack(), 0
    for time_s, note, velocity in sorted(hits):
        tick = round(time_s * 2 * TICKS_PER_BEAT)
        track.append(mido.Message("note_on", channel=channel, note=note, velocity=velocity, time=tick - now))
        now = tick
    mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(path)


def beat(length_s: float) -> list[tuple[float, int, int]]:
    """Eighths on the hi-hat, bass drum and snare in turn."""
    times = np.arange(0, length_s, 0.25)
    return [(t, 42, 90) for t in times] + [(t, 36 if k % 2 == 0 else 38, 110) for k, t in enumerate(times[::2])]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small folder in Groove format: two files for training, one each for validation and test."""
    root, rows = tmp_path / "grooves", ["drummer,midi_filename,duration,split"]
    for name, split, length_s in [("a", "train", 12), ("b", "train", 3), ("c", "validation", 4), ("d", "test", 4)]:
        write_midi(root / "drummer1" / f"{name}.mid", beat(length_s))
        rows.append(f"drummer1,drummer1/{name}.mid,{length_s},{split}")
    (root / "info.csv").write_text("\n".join(rows) + "\n")
    return root


def test_a_split_is_read_with_its_rows(dataset, tmp_path):
    loaded = load_performances(dataset, "train", tmp_path / "cache")
    assert [row["midi_filename"] for _, row in loaded] == ["drummer1/a.mid", "drummer1/b.mid"]
    first = loaded[0][0]
    assert len(first) == len(beat(12))
    assert first.duration_s == pytest.approx(11.85, abs=0.01)
    np.testing.assert_allclose(first.times_s[:3], [0, 0, 0.25], atol=1e-3)
    assert first.velocities.max() == pytest.approx(110 / 127)


def test_only_the_files_of_the_split_are_read(dataset, tmp_path):
    (dataset / "drummer1" / "d.mid").unlink()
    assert len(load_performances(dataset, "train", tmp_path / "cache")) == 2
    with pytest.raises(InputError, match=r"d\.mid: cannot be read"):
        load_performances(dataset, "test", tmp_path / "cache")


def test_the_cache_is_used_and_follows_the_content(dataset, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = load_performances(dataset, "train", cache)
    with monkeypatch.context() as patch:
        patch.setattr(mido, "MidiFile", None)
        again = load_performances(dataset, "train", cache)
    for (one, _), (two, _) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.times_s, two.times_s)
        np.testing.assert_array_equal(one.classes, two.classes)
        np.testing.assert_array_equal(one.velocities, two.velocities)
        assert one.duration_s == two.duration_s
    write_midi(dataset / "drummer1" / "b.mid", [(0.5, 36, 100)])
    assert len(load_performances(dataset, "train", cache)[1][0]) == 1


def test_td11_notes_with_info_csv_and_general_midi_without(dataset, tmp_path):
    hits = [(0.0, 55, 100), (1.0, 52, 100), (2.0, 58, 100)]
    write_midi(dataset / "drummer1" / "c.mid", hits)
    (played, _), *_ = load_performances(dataset, "validation", tmp_path / "cache")
    assert [CODES[k] for k in played.classes] == ["CRC", "CRC", "LT"]
    write_midi(tmp_path / "plain" / "deep" / "x.mid", hits)
    (played, row), *_ = load_performances(tmp_path / "plain", "train", tmp_path / "cache")
    assert [CODES[k] for k in played.classes] == ["SPC", "CHC", "LT"]
    assert row == {"midi_filename": "deep/x.mid", "split": "train"}


def test_soft_notes_double_triggers_and_other_channels_are_dropped(tmp_path):
    write_midi(
        tmp_path / "x.mid", [(0.0, 36, 100), (0.02, 36, 60), (0.5, 38, 7), (1.0, 38, 8), (1.01, 42, 50), (2, 99, 90)]
    )
    played = read_midi(tmp_path / "x.mid")
    np.testing.assert_allclose(played.times_s, [0, 1.0, 1.01], atol=2e-3)
    file = mido.MidiFile(tmp_path / "x.mid")
    file.tracks.append(mido.MidiTrack([mido.Message("note_on", channel=0, note=38, velocity=99, time=700)]))
    file.save(tmp_path / "x.mid")
    assert len(read_midi(tmp_path / "x.mid")) == 3


def test_errors_say_what_is_missing(dataset, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        GrooveSet(tmp_path / "nowhere")
    with pytest.raises(InputError, match="test, train, validation"):
        GrooveSet(dataset, "eval", tmp_path / "cache")
    write_midi(tmp_path / "plain" / "x.mid", beat(1))
    with pytest.raises(InputError, match="splits there: train, validation"):
        GrooveSet(tmp_path / "plain", "test", tmp_path / "cache")
    write_midi(tmp_path / "mute" / "x.mid", [(0, 99, 100)])
    with pytest.raises(InputError, match="no drum notes"):
        GrooveSet(tmp_path / "mute", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("duration_s", [0.5, 8.0, 30.0])
def test_samples_fill_the_clip_and_repeat_with_the_seed(dataset, tmp_path, duration_s):
    grooves = GrooveSet(dataset, cache_dir=tmp_path / "cache")
    for seed in range(10):
        clip = grooves.sample(np.random.default_rng(seed), duration_s)
        assert clip.duration_s == duration_s
        assert np.all(np.diff(clip.times_s) >= 0)
        assert np.all((clip.times_s >= 0) & (clip.times_s < duration_s))
        hats = clip.times_s[clip.classes == index_of("CHH")]
        assert len(hats) > 0.6 * duration_s / 0.25 - 2
        np.testing.assert_array_equal(clip.times_s, grooves.sample(np.random.default_rng(seed), duration_s).times_s)


def drummers(seed, grooves, **settings):
    recipe = RenderRecipe.load("production").changed("sample_mixing", **settings)
    return sample_drummers(Draws(seed), 4.0, grooves, recipe)


def test_the_mixture_brings_in_what_the_grooves_lack(dataset, tmp_path):
    grooves = GrooveSet(dataset, cache_dir=tmp_path / "cache")
    clips = [drummers(seed, grooves, chance=0)[0] for seed in range(300)]
    assert set(np.concatenate([clip.classes for clip in clips])) == set(range(len(CODES)))
    grooves_as_played = sum(set(clip.classes) <= {index_of(code) for code in ("BD", "SD", "CHH")} for clip in clips)
    assert 0.35 < grooves_as_played / len(clips) < 0.8
    for seed, clip in enumerate(clips[:20]):
        again = drummers(seed, grooves, chance=0)[0]
        np.testing.assert_array_equal(clip.times_s, again.times_s)
        np.testing.assert_array_equal(clip.velocities, again.velocities)


def test_two_drummers_play_where_clips_are_mixed():
    assert [len(drummers(seed, None, chance=chance)) for seed in range(5) for chance in (0, 1)] == [1, 2] * 5


def test_hands_in_unison_strike_snare_and_tom_and_leave_the_hihat(clip_of_rock):
    together = 0
    for seed in range(40):
        varied = _in_unison(np.random.default_rng(seed), clip_of_rock)
        toms = varied.times_s[np.isin(varied.classes, [index_of("LT"), index_of("MT")])]
        for tom in toms:
            struck = set(varied.classes[np.abs(varied.times_s - tom) < 0.03].tolist())
            assert index_of("SD") in struck
            assert index_of("CHH") not in struck
        for code in ("SD", "BD", "LT"):
            assert (np.diff(varied.times_s[varied.classes == index_of(code)]) > 0.015).all()
        together += len(toms) > 3
    assert together > 15


@pytest.fixture
def clip_of_rock() -> Performance:
    """Eighths on the hi-hat, kick and snare in turn, for 8 s."""
    eighths, beats = np.arange(32) * 0.25, np.arange(16) * 0.5
    codes = ["CHH"] * 32 + ["BD", "SD"] * 8
    levels = [0.6] * 32 + [0.9] * 16
    return Performance.from_hits([*eighths, *beats], [index_of(code) for code in codes], levels, 8.0)


def test_many_toms_sound_with_a_snare(dataset):
    """Else a snare would mean that no tom was struck with it."""
    grooves, recipe = GrooveSet(dataset, "train"), RenderRecipe.load("production")
    toms = with_snare = 0
    for seed in range(150):
        for clip in sample_drummers(Draws(seed), 8.0, grooves, recipe):
            snares = clip.times_s[clip.classes == index_of("SD")]
            for tom in clip.times_s[np.isin(clip.classes, [index_of(code) for code in ("LT", "MT", "HT")])]:
                toms += 1
                with_snare += bool(len(snares) and np.abs(snares - tom).min() < 0.02)
    assert with_snare > 0.17 * toms


def test_without_grooves_the_mixture_is_stress_patterns():
    assert drummers(0, None, chance=0)[0].duration_s == 4.0


def midi_bytes(kind: int = 0, events: bytes = b"") -> bytes:
    """A file of one kick, of a type, with other events before it."""
    track = events + b"\0\x99\x24\x64" + b"\0\xff\x2f\0"
    return b"MThd\0\0\0\x06\0" + bytes([kind]) + b"\0\x01\0\x60MTrk" + len(track).to_bytes(4, "big") + track


BROKEN = {
    "junk": b"RIFF and more",
    "nothing": b"",
    "half": midi_bytes()[:-6],
    "a key of ten sharps": midi_bytes(events=b"\0\xff\x59\x02\x0a\0"),
    "tracks without a common time": midi_bytes(kind=2),
    "time in frames of a film": midi_bytes().replace(b"\0\x60MTrk", b"\xe7\x28MTrk"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_whoever_reads_it(tmp_path, content):
    path = tmp_path / "grooves" / "x.mid"
    path.parent.mkdir()
    path.write_bytes(midi_bytes())
    assert len(read_midi(path)) == len(read_notes(path)) == 1
    path.write_bytes(content)
    readers = [
        lambda: read_midi(path), lambda: read_notes(path), lambda: midi_labels(path),
        lambda: GrooveSet(path.parent, "train", tmp_path / "cache"),
    ]  # fmt: skip
    for reader in readers:
        with pytest.raises(InputError, match=r"x\.mid: (not a MIDI file|cannot be read)") as refused:
            reader()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("midi_filename,kind\nx.mid,a\n", "no column split; expected midi_filename, split"),
        ("midi_filename,split\nx.mid,train\nx.mid\n", "line 3: no split"),
        ("midi_filename,split\nx.mid,train,fast\n", "line 2: more values than columns"),
        ("midi_filename,split\nx.mid,train\nmissing.mid,train\n", r"missing\.mid: cannot be read"),
        ("", "no column midi_filename, split"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path, table, message):
    write_midi(tmp_path / "x.mid", beat(1))
    (tmp_path / "info.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        GrooveSet(tmp_path, "train", tmp_path / "cache")


def test_about_a_tenth_of_a_plain_folder_is_for_validation_by_name(tmp_path):
    for number in range(60):
        write_midi(tmp_path / "plain" / f"{number}.mid", [(0.0, 36, 100), (0.1 + number / 100, 38, 100)])

    def names(split):
        return {row["midi_filename"] for _, row in load_performances(tmp_path / "plain", split, tmp_path / "cache")}

    train, validation = names("train"), names("validation")
    assert (train & validation, len(train | validation)) == (set(), 60)
    assert 1 <= len(validation) <= 15
    write_midi(tmp_path / "plain" / "more.mid", beat(1))
    assert names("train") - {"more.mid"} == train  # what else is there decides nothing


def test_a_handful_of_files_is_in_both_splits(tmp_path):
    write_midi(tmp_path / "one" / "x.mid", beat(1))
    for split in ("train", "validation"):
        assert len(GrooveSet(tmp_path / "one", split, tmp_path / "cache")) == 1


def test_a_steady_hi_hat_goes_on_under_snares_and_kicks():
    """Eighths without those of the backbeat, and one kick off the beat, which no hi-hat belongs to."""
    hats = [k / 4 for k in range(32) if k % 4 != 2]
    hits = [(t, "CHH", 0.5) for t in hats] + [(k + 0.5 + 0.01, "SD", 0.9) for k in range(8)] + [(3.125, "BD", 0.9)]
    times, codes, levels = zip(*sorted(hits), strict=True)
    clip = Performance.from_hits(times, [index_of(code) for code in codes], levels, 8.0)
    steady = _steady(np.random.default_rng(1), clip)
    snares = clip.times_s[clip.classes == index_of("SD")]
    found = steady.times_s[steady.classes == index_of("CHH")]
    assert len(found) == 32
    assert np.abs(found[:, None] - snares).min(axis=0).max() < 0.025
    assert np.abs(found - 3.125).min() > 0.1
    others = clip.classes != index_of("CHH")
    np.testing.assert_array_equal(steady.times_s[steady.classes != index_of("CHH")], clip.times_s[others])


def test_nothing_is_left_out_of_a_part_without_a_beat():
    drums = np.arange(0.1, 8, 0.25)
    assert len(_left_out(np.array([0.0, 0.1, 0.9, 1.0, 3.0, 3.1, 5.7, 7.9]), drums)) == 0
    assert len(_left_out(np.array([1.0, 2.0]), drums)) == 0
    assert len(_left_out(np.arange(0, 8, 0.25), np.arange(0, 8, 0.25) + 0.125)) == 0  # between the beats
