"""Sounds of other people's packs, cut for the renderer."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ghostnote.cli import app
from ghostnote.models.data.drums.kits import KitShelf, kit_rows
from ghostnote.models.data.music.instruments import backing_rows, load_instruments
from ghostnote.models.data.packed import ATTACK_SAMPLE
from ghostnote.models.data.packs.hydrogen import hydrogen_sounds
from ghostnote.models.data.packs.pack import Recordings, cut_out, slugs, write_pack
from ghostnote.models.data.packs.soundfont import DRUM_BANK, SoundFont, drum_sounds, instrument_notes
from ghostnote.models.data.recipe import Draws, RenderRecipe
from ghostnote.runtime.errors import EngineError, InputError
from ghostnote.runtime.vocabulary import CODES

RATE = 44100
XML = """<drumkit_info xmlns="http://www.hydrogen-music.org/drumkit"><instrumentList>
{}</instrumentList></drumkit_info>"""
INSTRUMENT = "<instrument><name>{}</name>{}</instrument>"
LAYER = "<layer><filename>{}</filename><min>{}</min><max>{}</max></layer>"


def struck(pitch_hz: float, decay_s: float = 0.1, late: int = 300, n: int = RATE) -> np.ndarray:
    """A decaying tone after `late` samples of silence, float32 [n]."""
    t = np.arange(n - late) / RATE
    return np.concatenate([np.zeros(late), np.cos(2 * np.pi * pitch_hz * t) * np.exp(-t / decay_s)]).astype(np.float32)


class Toy:
    """A synthesiser of one piano, one sound effect and two kits, which share all but their kicks."""

    def presets(self) -> dict[tuple[int, int], str]:
        return {(0, 0): "Grand Piano", (0, 126): "Applause", (DRUM_BANK, 0): "One", (DRUM_BANK, 8): "Two (room)"}

    def play(self, bank: int, program: int, note: int, velocity: int, seconds: float) -> np.ndarray:
        pitch = 110 * 2 ** (note / 12) + (37 * program if note == 36 else 0)
        return velocity / 127 * struck(pitch, 0.1 if bank else 1.0, n=int(seconds * RATE))


@given(late=st.integers(0, 2000), level=st.floats(0.01, 4), decay_s=st.floats(0.02, 2))
def test_an_attack_lies_where_the_renderer_expects_it(late: int, level: float, decay_s: float) -> None:
    cut = cut_out(np.float32(level) * struck(1000, decay_s, late), 1.5)
    assert cut is not None
    loud = np.abs(cut) >= np.abs(cut).max() * 10 ** (-30 / 20)
    assert int(np.argmax(loud)) == ATTACK_SAMPLE
    assert len(cut) <= 1.5 * RATE
    assert abs(cut[-1]) < 1e-3 * np.abs(cut).max()


def test_silence_is_no_sound() -> None:
    assert cut_out(np.zeros(RATE, dtype=np.float32), 1.5) is None
    assert cut_out(np.zeros(0, dtype=np.float32), 1.5) is None


def test_a_recording_is_kept_once() -> None:
    recordings, sound = Recordings(), struck(440)
    assert recordings.is_new("SD", sound)
    assert not recordings.is_new("SD", 0.3 * np.roll(sound, 2))
    assert recordings.is_new("SD", struck(470))
    assert recordings.is_new("BD", sound)  # of another class, it is another sound
    recordings.is_new("TB", np.zeros(RATE, np.float32))  # as a file of a folder may be
    assert recordings.is_new("TB", sound)


def test_kits_of_a_font_share_nothing_twice(tmp_path: Path) -> None:
    rows = [cut.row for cut in drum_sounds(Toy(), "toy", Recordings())]
    assert {row["class"] for row in rows if row["kit"] == "toy_000_one"} == {*CODES, "OTHER"}
    assert [row["class"] for row in rows if row["kit"] == "toy_008_two_room"] == ["BD"]
    assert {row["velocity_rank"] for row in rows} == {1.0}  # softer strokes are the same sound turned down


def test_a_font_is_played_by_the_renderer_beside_what_was_there(tmp_path: Path) -> None:
    for name in ("first", "second", "first"):
        write_pack(tmp_path, "kits.csv", drum_sounds(Toy(), name, Recordings()), "MIT")
    rows = kit_rows(tmp_path)
    assert len({row["path"] for row in rows}) == len(rows)
    assert {row["license"] for row in rows} == {"MIT"}
    kit = {kit.name: kit for kit in KitShelf(tmp_path).kits}["second_000_one"]
    sound = kit.sounds["BD"][0].samples
    assert int(np.argmax(np.abs(sound) >= np.abs(sound).max() * 10 ** (-30 / 20))) == ATTACK_SAMPLE
    assert not any(cut.row["kit"] == "third_000_one" for cut in drum_sounds(Toy(), "third", Recordings(tmp_path)))


def test_a_font_whose_kit_stands_where_the_piano_should() -> None:
    """Its strokes would be notes of a piano, in a band in which nobody labels drums."""

    class Kit(Toy):
        def presets(self) -> dict[tuple[int, int], str]:
            return {(0, 0): "Four Pieces"}

    with pytest.raises(InputError, match=r"no drum kit in bank 128 among 1 preset\(s\); expected a General MIDI"):
        next(drum_sounds(Kit(), "toy", Recordings()))


def test_notes_of_instruments_but_no_effects(tmp_path: Path) -> None:
    write_pack(tmp_path, "backing.csv", instrument_notes(Toy(), "toy"), "MIT")
    rows = backing_rows(tmp_path)
    assert {(row["instrument"], row["family"]) for row in rows} == {("toy_000_grand_piano", "piano")}
    (piano,) = load_instruments(tmp_path, None)
    assert sorted(set(piano.layers)) == [0.0, 1.0]
    assert max(np.diff(sorted(set(piano.pitches)))) <= 5


def hydrogen_kit(folder: Path, names: dict[str, list[str]]) -> Path:
    """A kit whose instruments have these recordings, softest first."""
    instruments = ""
    for k, (name, files) in enumerate(names.items()):
        layers = ""
        for n, file in enumerate(files):
            soundfile.write(folder / file, struck(100 + 170 * k + 61 * n, n=RATE // 2), RATE)
            layers += LAYER.format(file, n / len(files), (n + 1) / len(files))
        instruments += INSTRUMENT.format(name, layers)
    (folder / "drumkit.xml").write_text(XML.format(instruments))
    return folder


def test_a_kit_of_hydrogen_by_the_names_of_its_instruments(tmp_path: Path) -> None:
    names = {
        "BassDrum": ["bd1.wav", "bd2.wav"], "Snare": ["sn.wav"], "Snare Roll": ["roll.wav"],
        "Hi Hat Opened": ["oh.wav"], "Hi Hat Closed": ["ch.wav"], "Pedal Hat": ["ph.wav"],
        "Floor Tom": ["ft.wav"], "Tom": ["tm.wav"],
        "Ride Bell": ["rb.wav"], "Ride": ["rd.wav"], "Cow bell": ["cb.wav"], "Vibraslap": ["vs.wav"], "Empty": [],
    }  # fmt: skip
    rows = [cut.row for cut in hydrogen_sounds(hydrogen_kit(tmp_path, names), "h", Recordings())]
    codes = ["BD", "BD", "SD", "OHH", "CHH", "PHH", "LT", "HT", "RB", "RD", "CB"]
    assert [row["class"] for row in rows] == codes
    assert [row["velocity_rank"] for row in rows[:3]] == [0.5, 1.0, 1.0]


def test_other_words_of_hydrogens_own_kits(tmp_path: Path) -> None:
    codes = {
        "Kick": "BD", "Stick": "SS", "Snare": "SD", "Tom Low": "LT", "Tom Mid": "MT", "Tom Hi": "HT",
        "Closed HH": "CHH", "Open HH": "OHH", "Pedal HH": "PHH", "Cowbell": "CB", "Ride Rock": "RD", "Crash": "CRC",
    }  # fmt: skip
    kit = hydrogen_kit(tmp_path, {name: [f"{n}.wav"] for n, name in enumerate(codes)})
    assert [cut.row["class"] for cut in hydrogen_sounds(kit, "h", Recordings())] == [*codes.values()]


@pytest.mark.parametrize(
    "codes",
    [
        {"Tom 1": "HT", "Tom 2": "MT", "Tom 3": "LT"},
        {"Tom 1": "HT", "Tom 2": "MT", "Floor Tom": "LT"},
        {"Tom3": "LT", "Tom2": "MT", "Tom1": "HT"},
        {"1st Tom": "HT", "2nd Tom": "MT", "3rd Tom": "MT", "4th Tom": "LT"},
        {"Tom 2": "HT"},
        {"Hi Tom 1": "HT", "Hi Tom 2": "HT", "Floor Tom 1": "LT", "Floor Tom 2": "LT"},
    ],
)
def test_numbered_toms_count_from_the_highest(tmp_path: Path, codes: dict[str, str]) -> None:
    kit = hydrogen_kit(tmp_path, {name: [f"{n}.wav"] for n, name in enumerate(codes)})
    assert [cut.row["class"] for cut in hydrogen_sounds(kit, "h", Recordings())] == [*codes.values()]


@pytest.mark.parametrize("text", [None, "<drumkit_info>"])
def test_what_is_no_kit_of_hydrogen(tmp_path: Path, text: str | None) -> None:
    if text:
        (tmp_path / "drumkit.xml").write_text(text)
    with pytest.raises(InputError, match=r"drumkit\.xml.*expected a Hydrogen drum kit's folder"):
        list(hydrogen_sounds(tmp_path, "h", Recordings()))


def test_a_layer_that_is_loudest_at_no_velocity(tmp_path: Path) -> None:
    layer = LAYER.format("kick.wav", 0, "all")
    (tmp_path / "drumkit.xml").write_text(XML.format(INSTRUMENT.format("Kick", layer)))
    with pytest.raises(InputError, match=r"the max of kick\.wav is 'all'; expected a number 0\.\.1"):
        list(hydrogen_sounds(tmp_path, "h", Recordings()))


def test_the_command_adds_a_kit_to_a_folder(tmp_path: Path) -> None:
    kit = hydrogen_kit(tmp_path, {"Kick": ["kick.wav"], "Snare": ["snare.wav"]})
    options = [str(kit), str(tmp_path / "data"), "--name", "mine", "--licence", "CC0"]
    told = CliRunner().invoke(app, ["import-sounds", *options])
    assert told.exit_code == 0, told.output
    assert "2 strokes of drums and 0 notes" in told.output
    assert [row["kit"] for row in kit_rows(tmp_path / "data" / "kits")] == ["mine", "mine"]
    assert "0 strokes" in CliRunner().invoke(app, ["import-sounds", *options]).output
    with (tmp_path / "data" / "kits" / "kits.csv").open(newline="") as handle:
        assert [row["license"] for row in csv.DictReader(handle)] == ["CC0", "CC0"]


def test_an_import_that_finds_nothing_leaves_no_table(tmp_path: Path) -> None:
    options = [
        str(hydrogen_kit(tmp_path, {"Bongo": ["b.wav"]})),
        str(tmp_path / "data"),
        "--name",
        "b",
        "--licence",
        "x",
    ]
    assert "0 strokes of drums" in CliRunner().invoke(app, ["import-sounds", *options]).output
    assert not (tmp_path / "data" / "kits" / "kits.csv").exists()


@given(st.lists(st.text("aéП 1(-.", min_size=1), unique=True))
def test_no_two_names_have_one_path(names: list[str]) -> None:
    paths = slugs(names)
    assert list(paths) == names
    assert len(set(paths.values())) == len(names)
    assert all(re.fullmatch("[a-z0-9_]+", path) for path in paths.values())


def test_a_small_kit_is_played_where_there_is_no_other(tmp_path: Path) -> None:
    kit = hydrogen_kit(tmp_path, {"Kick": ["kick.wav"], "Snare": ["snare.wav"]})
    options = [str(kit), str(tmp_path / "data"), "--name", "mine", "--licence", "CC0"]
    assert CliRunner().invoke(app, ["import-sounds", *options]).exit_code == 0
    shelf = KitShelf(tmp_path / "data" / "kits")
    drawn = shelf.draw(Draws(1), RenderRecipe("bare", {}))
    assert drawn.name == "mine"
    assert [sound.articulation for sound in drawn.sounds["BD"]] == ["kick"]
    assert drawn.sounds["CHH"][0].articulation == "synthesised"


def test_a_font_without_the_systems_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fluidsynth", raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(EngineError, match=r"FluidSynth library; install .* libfluidsynth3"):
        SoundFont(tmp_path / "font.sf2")
    sys.modules.pop("fluidsynth", None)


@pytest.fixture
def font() -> Path:
    """A SoundFont of the system's, and FluidSynth to play it."""
    pytest.importorskip("fluidsynth", reason="FluidSynth's library is not on this machine", exc_type=ImportError)
    fonts = sorted(Path("/usr/share/sounds/sf2").glob("*.sf2"))
    if not fonts:
        pytest.skip("no SoundFont in /usr/share/sounds/sf2")
    return fonts[0]


def test_a_real_font_sounds_the_same_again(font: Path) -> None:
    synth = SoundFont(font)
    assert (0, 0) in synth.presets()
    first = synth.play(0, 0, 60, 100, 0.5)
    synth.play(DRUM_BANK, 0, 49, 127, 0.1)  # a crash that would ring on
    again = synth.play(0, 0, 60, 100, 0.5)
    # Oscillators and dither go on; what the crash would add is a tenth of the note's level and more.
    assert (
        np.abs(np.abs(np.fft.rfft(again)) - np.abs(np.fft.rfft(first))).max() < 0.01 * np.abs(np.fft.rfft(first)).max()
    )
    assert np.abs(first).max() > 0.01


def test_what_is_no_font(font: Path, tmp_path: Path) -> None:
    (tmp_path / "no.sf2").write_bytes(b"RIFF")
    for path in (tmp_path / "no.sf2", tmp_path / "missing.sf2"):
        with pytest.raises(InputError, match=r"expected an \.sf2 or \.sf3 file"):
            SoundFont(path)
