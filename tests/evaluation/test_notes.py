"""References with velocities, from text and MIDI, and the pairs behind the scores."""

from __future__ import annotations

from pathlib import Path

import mido
import pytest
from evaluation_examples import law, tracks
from hypothesis import given

from ghostnote.models.evaluation import LabelError, class_names, score
from ghostnote.models.evaluation.notes import Note, labels_of, matched, read_note_folder, read_notes
from ghostnote.runtime.errors import InputError

pytest.importorskip("mir_eval")


@pytest.mark.parametrize(
    ("text", "velocities"),
    [
        ("1.0\tBD\t0.5\n2.0\tSD\t1\n", [0.5, 1.0]),
        ("1.0\t36\t127\n2.0\t38\t1\n", [1.0, 1 / 127]),
        ("1.0\tKD\n2.0\tSD\t0.5\n", [None, 0.5]),
        ("1.0\tKD\tloud\n2.0\tSD\tsoft\n", [None, None]),
        ("", []),
    ],
)
def test_a_third_column_is_the_velocity(tmp_path: Path, text: str, velocities: list[float | None]) -> None:
    (tmp_path / "t.txt").write_text(text)
    assert [note.velocity for note in read_notes(tmp_path / "t.txt")] == velocities


def _write_midi(path: Path, channel: int = 9) -> None:
    """Two drums, half a second apart at 120 and then at 60 beats a minute; a piano note on channel 1."""
    track = mido.MidiTrack(
        [
            mido.MetaMessage("set_tempo", tempo=500_000),
            mido.Message("note_on", channel=channel, note=36, velocity=127, time=480),
            mido.Message("note_off", channel=channel, note=36, time=0),
            mido.Message("note_on", channel=0, note=60, velocity=10, time=0),
            mido.MetaMessage("set_tempo", tempo=1_000_000),
            mido.Message("note_on", channel=channel, note=38, velocity=64, time=480),
            mido.Message("note_on", channel=channel, note=38, velocity=0, time=10),
        ]
    )
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(path)


def test_midi_references_follow_the_tempo_and_take_the_drum_channel(tmp_path: Path) -> None:
    _write_midi(tmp_path / "t.mid")
    assert read_notes(tmp_path / "t.mid") == [Note(0.5, "36", 1.0), Note(1.5, "38", 64 / 127)]


def test_without_a_drum_channel_every_note_counts(tmp_path: Path) -> None:
    _write_midi(tmp_path / "t.mid", channel=3)
    assert [note.label for note in read_notes(tmp_path / "t.mid")] == ["36", "60", "38"]


def test_what_is_no_midi_file_is_named(tmp_path: Path) -> None:
    track = b"\0\xff\x59\x02\x7f\x7f" + b"\0\xff\x2f\0"  # a key of 127 sharps
    midi = b"MThd\0\0\0\x06\0\0\0\x01\x03\xc0MTrk" + len(track).to_bytes(4, "big") + track
    for data in (b"RIFF and more", midi):
        (tmp_path / "t.mid").write_bytes(data)
        with pytest.raises(InputError, match=r"t\.mid"):
            read_notes(tmp_path / "t.mid")


@pytest.mark.parametrize("velocity", ["nan", "inf", "-inf"])
def test_a_velocity_is_a_number(tmp_path: Path, velocity: str) -> None:
    (tmp_path / "t.txt").write_text(f"0.5\tBD\t0.5\n1.0\tBD\t{velocity}\n")
    with pytest.raises(LabelError, match=r"t\.txt: a velocity that is not finite"):
        read_notes(tmp_path / "t.txt")


def test_a_folder_of_both_prefers_text(tmp_path: Path) -> None:
    _write_midi(tmp_path / "a.mid")
    _write_midi(tmp_path / "b.mid")
    (tmp_path / "a.txt").write_text("3.0\tBD\n")
    found = read_note_folder(tmp_path)
    assert found["a"] == [Note(3.0, "BD")]
    assert len(found["b"]) == 2
    assert list(read_note_folder(tmp_path, ["b"])) == ["b"]


@law
@given(tracks, tracks)
def test_pairs_are_the_true_positives_of_the_score(references: dict, estimates: dict) -> None:
    for group in ("five", "all"):
        pairs = [
            pair for t in references for pair in matched(references[t], estimates[t], class_names(group), group, 0.05)
        ]
        labels = [{t: labels_of(notes) for t, notes in some.items()} for some in (estimates, references)]
        result = score(*labels, group=group)
        assert len(pairs) == result["micro"]["tp"]
        for name, row in result["classes"].items():
            assert sum(pair[0] == name for pair in pairs) == row["tp"]
        assert all(abs(r.time_s - e.time_s) <= 0.05 + 1e-9 for _, r, e in pairs)
