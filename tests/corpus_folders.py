"""Small folders in the published layouts of the corpora that `ghostnote.models.corpora` reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mido
import numpy as np
import soundfile

TICKS_PER_SECOND = 960  # 480 per beat at mido's default tempo of 120 beats per minute


def write_midi(path: Path, hits: list[tuple[float, int, int]], channel: int = 9) -> None:
    """Write (seconds, note, velocity) hits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    track, now = mido.MidiTrack(), 0
    for time_s, note, velocity in sorted(hits):
        tick = round(time_s * TICKS_PER_SECOND)
        track.append(mido.Message("note_on", channel=channel, note=note, velocity=velocity, time=tick - now))
        now = tick
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(path)


def write_audio(path: Path, seconds: float = 0.2, rate: int = 44100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(seconds * rate), 0.25, np.float32), rate)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make_mdb(folder: Path) -> Path:
    root = folder / "MDB Drums"
    for name in ("MusicDelta_Rock", "MusicDelta_Grunge"):
        write_audio(root / "audio" / "drum_only" / f"{name}_Drum.wav")
        annotations = root / "annotations"
        write_text(annotations / "subclass" / f"{name}_subclass.txt", "0.10 \t SDG \n0.05 \t KD \n0.15 \t TMB \n")
        write_text(annotations / "class" / f"{name}_class.txt", "0.05 \t KD \n0.10 \t SD \n0.15 \t OT \n")
    write_audio(root / "audio" / "full_mix" / "MusicDelta_Rock_MIX.wav")
    return folder


def make_idmt(folder: Path) -> Path:
    for stem in ("RealDrum01_00#MIX", "RealDrum01_00#KD", "WaveDrum02_60#MIX"):
        write_audio(folder / "audio" / f"{stem}.wav")
        events = "".join(
            f"<event><pitch>0</pitch><onsetSec>{t}</onsetSec><instrument>{name}</instrument></event>"
            for t, name in ((-1e-16, "KD"), (0.1, "SD"), (0.1, "HH"))
        )
        xml = f'<?xml version="1.0"?><instrumentRecording><transcription>{events}</transcription></instrumentRecording>'
        write_text(folder / "annotation_xml" / f"{stem}.xml", xml)
    return folder


def make_enst(folder: Path) -> Path:
    for drummer, stem in (("drummer_1", "036_phrase_disco"), ("drummer_3", "107_minus-one_salsa_sticks")):
        write_audio(folder / drummer / "audio" / "wet_mix" / f"{stem}.wav")
        write_audio(folder / drummer / "audio" / "hi-hat" / f"{stem}.wav")
        write_text(
            folder / drummer / "annotation" / f"{stem}.txt", "0.0100 bd\n0.02 sd-\n0.03 rc2\n0.04 mtr\n0.05 chh\n"
        )
    write_audio(folder / "drummer_3" / "audio" / "accompaniment" / "107_minus-one_salsa_sticks.wav")
    return folder


def make_groove(folder: Path, table: str, suffix: str) -> Path:
    rows = ["drummer,id,split,midi_filename,audio_filename"]
    for name, split in (("a", "train"), ("b", "test"), ("c", "train")):
        stem = f"drummer1/session1/{name}"
        write_midi(folder / f"{stem}{suffix}", [(0.0, 36, 100), (0.05, 22, 64), (0.1, 26, 127), (0.15, 55, 90)])
        if name != "c":
            write_audio(folder / f"{stem}.wav")
        rows.append(f"drummer1,{name},{split},{stem}{suffix},{'' if name == 'c' else stem + '.wav'}")
    write_text(folder / table, "\n".join(rows) + "\n")
    return folder


def make_gmd(folder: Path) -> Path:
    return make_groove(folder, "info.csv", ".mid")


def make_egmd(folder: Path) -> Path:
    return make_groove(folder, "e-gmd-v1.0.0.csv", ".midi")


def make_adtof(folder: Path) -> Path:
    for title in ("A - One", "B - Two"):
        write_audio(folder / "audio" / "audio" / f"{title}.ogg")
        write_text(folder / "annotations" / "aligned_drum" / f"{title}.txt", "0.01\t35\n0.02\t37\n0.03\t46\n0.04\t54\n")
    write_text(folder / "annotations" / "manual_substraction", "B - Two\n")
    return folder


def make_a2md(folder: Path) -> Path:
    for bucket in ("dist0p00", "dist0p60"):
        write_audio(folder / "ytd_audio" / bucket / "ytd_audio_00000_TRA.mp3")
        path = folder / "align_mid" / bucket / "align_mid_00000_TRA.mid"
        write_midi(path, [(0.05, 36, 100), (0.1, 54, 80)], channel=9)
    write_midi(folder / "align_mid" / "dist0p60" / "align_mid_00000_TRA.mid", [(0.05, 36, 100)], channel=0)  # a bass
    return folder


def make_beside(folder: Path) -> Path:
    write_audio(folder / "drums" / "one.flac")
    write_midi(folder / "drums" / "one.mid", [(0.05, 36, 127), (0.1, 39, 80)])
    write_audio(folder / "drums" / "two.wav")
    write_text(folder / "drums" / "two.txt", "0.05\t36\n0.1\tHH\n")
    return folder / "drums"


def make_heard(folder: Path) -> Path:
    write_audio(folder / "one.flac")
    write_text(folder / "heard.json", '{"licence": "CC0", "labelled_by": "a model"}\n')
    rows = ["time,class,note,velocity,confidence", "0.05,BD,36,0.6,0.9", "0.1,OHH,46,0.3,0.2", "0.15,OHH,46,0.3,0.7"]
    write_text(folder / "one.csv", "\n".join(rows) + "\n")
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "a2md": make_a2md,
    "adtof": make_adtof,
    "egmd": make_egmd,
    "enst": make_enst,
    "folder": make_beside,
    "gmd": make_gmd,
    "heard": make_heard,
    "idmt": make_idmt,
    "mdb": make_mdb,
}
