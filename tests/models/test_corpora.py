"""Readers of corpora on small folders in their published layouts; masks of what they label."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_folders import (
    MAKERS,
    make_a2md,
    make_adtof,
    make_beside,
    make_enst,
    make_gmd,
    make_idmt,
    make_mdb,
    write_text,
)

from ghostnote.models.corpora import READERS, Recording, open_corpus
from ghostnote.models.corpora.folders import audio_by_stem
from ghostnote.models.corpora.recording import MEMBERS, covering
from ghostnote.runtime.errors import InputError, UsageError
from ghostnote.runtime.vocabulary import CODES, FIVE_CLASSES


def hits(recording: Recording) -> list[tuple[float, str]]:
    return [(round(label.time_s, 3), label.name) for label in recording.labels]


def test_every_reader_is_tested() -> None:
    assert MAKERS.keys() == READERS.keys()


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_keeps_the_promises(kind: str, tmp_path: Path) -> None:
    recordings = open_corpus(kind, MAKERS[kind](tmp_path))
    assert len({recording.name for recording in recordings}) == len(recordings) > 0
    names = {*CODES, *FIVE_CLASSES}
    for recording in recordings:
        assert "/" not in recording.name
        assert {"drums", "mix"} >= set(recording.audio) != set()
        assert all(source.path.is_file() for sources in recording.audio.values() for source in sources)
        assert list(recording.labels) == sorted(recording.labels, key=lambda label: (label.time_s, label.name))
        assert {label.name for label in recording.labels} <= recording.labelled <= names
        assert all(label.time_s >= 0 for label in recording.labels)
        assert 0 < recording.tolerance_s <= 0.04
        assert recording.licence
        again = pickle.loads(pickle.dumps(recording))  # noqa: S301 - as a data loader's worker processes do
        assert again.labels == recording.labels
        assert [other.name for other in open_corpus(kind, MAKERS[kind](tmp_path), recording.split)] != []


@pytest.mark.parametrize("kind", READERS)
def test_a_wrong_folder_says_what_was_expected_and_found(kind: str, tmp_path: Path) -> None:
    write_text(tmp_path / "holiday.txt.zip", "")
    with pytest.raises(InputError, match=r"expected .*found holiday.txt.zip"):
        open_corpus(kind, tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_corpus(kind, tmp_path / "nowhere")


def test_mdb_reads_subclasses_and_falls_back_on_classes(tmp_path: Path) -> None:
    grunge, rock = open_corpus("mdb", make_mdb(tmp_path))
    assert hits(rock) == [(0.05, "BD"), (0.1, "SD"), (0.15, "TB")]
    assert (rock.split, grunge.split) == ("train", "test")
    assert (set(rock.audio), set(grunge.audio)) == ({"drums", "mix"}, {"drums"})
    assert {"SS", "TB", "HH", "RB"} <= rock.labelled
    assert rock.evaluation_only
    (tmp_path / "MDB Drums/annotations/subclass/MusicDelta_Rock_subclass.txt").unlink()
    _, rock = open_corpus("mdb", tmp_path / "MDB Drums")
    assert hits(rock) == [(0.05, "BD"), (0.1, "SD")]
    assert rock.labelled == {"BD", "SD", "HH", "TT", "CY"}


def test_idmt_is_three_classes_and_does_not_say_how_open_the_hat_is(tmp_path: Path) -> None:
    real, wave = open_corpus("idmt", make_idmt(tmp_path))
    assert hits(real) == [(0.0, "BD"), (0.1, "HH"), (0.1, "SD")]
    assert real.labelled == {"BD", "SD", "HH"}
    assert (real.name, real.split, wave.split) == ("RealDrum01_00", "RealDrum", "WaveDrum")


def test_enst_adds_up_drums_and_accompaniment(tmp_path: Path) -> None:
    phrase, minus_one = open_corpus("enst", make_enst(tmp_path))
    assert hits(phrase) == [(0.01, "BD"), (0.02, "SD"), (0.03, "RD"), (0.05, "CHH")]
    assert set(phrase.audio) == {"drums"}
    drums, accompaniment = minus_one.audio["mix"]
    assert (drums.path.parent.name, accompaniment.path.parent.name) == ("wet_mix", "accompaniment")
    assert (drums.gain, accompaniment.gain) == (0.6, 0.4)
    assert "PHH" not in phrase.labelled
    assert "HH" in phrase.labelled
    write_text(tmp_path / "drummer_1" / "annotation" / "036_phrase_disco.txt", "0.01 gong\n")
    with pytest.raises(InputError, match=r"unknown label 'gong'; expected one of bd"):
        _ = open_corpus("enst", tmp_path)[0].labels


@pytest.mark.parametrize("kind", ["gmd", "egmd"])
def test_grooves_have_roland_notes_and_velocities(kind: str, tmp_path: Path) -> None:
    (train,) = open_corpus(kind, MAKERS[kind](tmp_path), "train")  # the third performance has no audio
    assert [label.name for label in train.labels] == ["BD", "CHH", "OHH", "CRC"]
    assert [round(127 * label.velocity) for label in train.labels if label.velocity is not None] == [100, 64, 127, 90]
    assert train.name == "drummer1_session1_a"
    assert ("CLP" in train.labelled) == (kind == "gmd")  # a pad of an electronic kit may sound as a clap
    with pytest.raises(InputError, match=r"split 'eval'; splits there: test, train"):
        open_corpus(kind, tmp_path, "eval")


def test_the_midi_only_download_of_gmd_is_no_corpus(tmp_path: Path) -> None:
    make_gmd(tmp_path)
    for path in tmp_path.rglob("*.wav"):
        path.unlink()
    with pytest.raises(InputError, match=r"with audio; expected info.csv"):
        open_corpus("gmd", tmp_path)


def test_adtof_is_five_classes_with_side_stick_in_the_snare(tmp_path: Path) -> None:
    (song,) = open_corpus("adtof", make_adtof(tmp_path))
    assert song.name == "A - One"
    assert hits(song) == [(0.01, "BD"), (0.02, "SD"), (0.03, "HH")]
    assert song.labelled == set(FIVE_CLASSES)
    assert song.adtof


def test_a2md_reads_the_drum_channel_only(tmp_path: Path) -> None:
    near, far = open_corpus("a2md", make_a2md(tmp_path))
    assert hits(near) == [(0.05, "BD"), (0.1, "TB")]
    assert (near.split, far.split, far.labels) == ("dist0p00", "dist0p60", ())


def test_own_recordings_are_as_fine_as_their_labels(tmp_path: Path) -> None:
    one, two = open_corpus("folder", make_beside(tmp_path))
    assert (hits(one), hits(two)) == ([(0.05, "BD"), (0.1, "CLP")], [(0.05, "BD"), (0.1, "HH")])
    assert one.labels[0].velocity == 1.0
    assert two.labels[0].velocity is None
    assert (one.labelled, two.labelled) == (covering(*CODES), set(FIVE_CLASSES))


def test_a_broken_annotation_is_named(tmp_path: Path) -> None:
    make_a2md(tmp_path / "a2md")
    make_idmt(tmp_path / "idmt")
    make_adtof(tmp_path / "adtof")
    write_text(tmp_path / "a2md/align_mid/dist0p00/align_mid_00000_TRA.mid", "no midi")
    write_text(tmp_path / "idmt/annotation_xml/RealDrum01_00#MIX.xml", "<event>")
    write_text(tmp_path / "adtof/annotations/aligned_drum/A - One.txt", "0.5\n")
    for kind in ("a2md", "idmt", "adtof"):
        with pytest.raises(InputError, match=r"dist0p00|RealDrum01_00|A - One"):
            _ = open_corpus(kind, tmp_path / kind)[0].labels


@pytest.mark.parametrize("text", ["nan\tBD\n", "1.0\tSD\ninf\tBD\n", "-3\tSD\n"])
def test_a_label_has_a_time_in_its_recording(tmp_path: Path, text: str) -> None:
    folder = make_beside(tmp_path)
    write_text(folder / "two.txt", text)
    with pytest.raises(InputError, match=r"two\.txt: .* is no time"):
        open_corpus("folder", folder)


def test_a_label_a_little_early_is_at_the_start(tmp_path: Path) -> None:
    folder = make_beside(tmp_path)
    write_text(folder / "two.txt", "-0.01\tBD\n")
    assert hits(open_corpus("folder", folder)[1]) == [(0.0, "BD")]


def test_unknown_corpora_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a2md, adtof, egmd"):
        open_corpus("slakh", tmp_path)


def test_covering_adds_what_is_complete() -> None:
    assert covering("BD", *MEMBERS["TT"]) == {"BD", "LT", "MT", "HT", "TT"}
    assert covering("HH", "CHH") == {"HH", "CHH"}
    assert covering(*CODES) == {*CODES, *FIVE_CLASSES}


def test_hidden_files_are_no_recordings_and_two_of_one_name_are_told(tmp_path: Path) -> None:
    for name in ("a.wav", "._a.wav", "b.flac"):
        (tmp_path / name).write_bytes(b"")
    assert audio_by_stem(tmp_path) == {"a": tmp_path / "a.wav", "b": tmp_path / "b.flac"}
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"b\.flac and b\.wav are one track"):
        audio_by_stem(tmp_path)


def test_your_own_labels_are_those_that_evaluate_reads(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(44100, np.float32), 44100)
    (tmp_path / "a.txt").write_text("\ufeff0.1\tSD\t0.8\n0.5\tBD\n", encoding="utf-8")
    (track,) = open_corpus("folder", tmp_path)
    assert [tuple(label)[:3] for label in track.labels] == [(0.1, "SD", 0.8), (0.5, "BD", None)]
