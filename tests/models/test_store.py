"""Kept renders: once each, whole or not at all, the same for everyone, changed on later passes."""

import os

import numpy as np
import pytest
import soundfile
import torch
from corpus_folders import write_midi

from ghostnote.models.config import PRESETS
from ghostnote.models.data.dataset import RenderedBatches, Sources, main_delay
from ghostnote.models.data.recipe import RenderRecipe
from ghostnote.models.data.store import Filling, StoredBatches, code_digest
from ghostnote.runtime.errors import OutputError, UsageError

DISTINCT = 2
TOKENS = 64


def stored(folder, recipe="production", split="train", distinct=DISTINCT, sources=None, **options):
    sources = sources or Sources(recipe=RenderRecipe.load(recipe))
    rendered = RenderedBatches(PRESETS["tiny"], sources, clips=2, tokens=TOKENS, split=split, **options)
    return StoredBatches(rendered, sources, folder, distinct)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def test_the_first_pass_is_what_would_have_been_rendered(folder):
    kept = stored(folder)
    for number in range(DISTINCT):
        fresh, heard = kept.rendered[number], kept[number]
        assert set(fresh) == set(heard)
        peaks = kept.rendered.render(number).audio.abs().amax(1, keepdim=True)  # also of what is cut off
        assert (((fresh["audio"] - heard["audio"]) / peaks).abs() <= 0.51 / 32767).all()
        for name in set(fresh) - {"audio"}:
            assert torch.equal(fresh[name], heard[name]), name


def test_a_batch_is_rendered_once_and_by_whoever_needs_it_first(folder, monkeypatch):
    first = stored(folder)[1]
    monkeypatch.setattr(RenderedBatches, "render", lambda *_: pytest.fail("rendered a second time"))
    again = stored(folder)
    assert [Filling(again)[i] for i in range(len(Filling(again)))] == [0, 1]
    assert all(torch.equal(first[name], value) for name, value in again[1].items())


def test_later_passes_are_a_function_of_their_number_and_sound_different(folder):
    kept = stored(folder)
    first, second, third = (kept[0 + passes * DISTINCT] for passes in range(3))
    same = stored(folder)[DISTINCT]
    assert all(torch.equal(second[name], same[name]) for name in second)
    assert not torch.equal(first["audio"], second["audio"])
    assert not torch.equal(second["audio"], third["audio"])


def test_labels_stay_on_their_attacks(tmp_path):
    """A click per hit through the same changes: each is where its label says."""
    kept = stored(tmp_path)
    clips = kept.rendered.render(0)
    audio = torch.zeros_like(clips.audio)
    times = torch.tensor([0.1, 0.4, 0.75, 1.2]).expand(2, -1)
    for time_s in times[0]:
        audio[:, round(float(time_s) * 44100)] = 1.0
    classes = torch.zeros(times.shape, dtype=torch.int64)
    flags = torch.zeros(times.shape, dtype=torch.bool)
    changed = kept._changed(clips._replace(audio=audio, times=times.clone(), classes=classes, ignored=flags),
                            kept.rendered.draws(0, 1))  # fmt: skip
    for row in range(2):
        inside = changed.times[row][changed.classes[row] >= 0]
        assert len(inside) >= 3
        loud = changed.audio[row].abs()
        for time_s in inside.tolist():
            sample = round(time_s * 44100)
            near = loud[max(0, sample - 400) : sample + 400]
            assert abs(int(near.argmax()) + max(0, sample - 400) - sample) <= 2
    gone = changed.classes < 0
    assert ((changed.times < 0) | (changed.times >= TOKENS * 0.02))[gone].all()


def test_without_the_stage_later_passes_sound_the_same(tmp_path):
    kept = stored(tmp_path, recipe="plain", distinct=1)
    assert torch.equal(kept[0]["audio"], kept[3]["audio"])


def test_an_interrupted_save_leaves_nothing_under_the_final_name(tmp_path, monkeypatch):
    kept = stored(tmp_path)
    monkeypatch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        kept.keep(0)
    assert not list(kept.folder.glob("*.npz"))


@pytest.mark.parametrize("left", [0, 100, -100])
def test_a_batch_that_cannot_be_read_is_rendered_anew(tmp_path, left):
    kept = stored(tmp_path, "plain", distinct=1)
    whole = kept[0]
    (path,) = kept.folder.glob("*.npz")
    path.write_bytes(path.read_bytes()[:left])
    assert all(torch.equal(whole[name], value) for name, value in kept[0].items())
    assert all(torch.equal(whole[name], value) for name, value in stored(tmp_path, "plain", distinct=1)[0].items())


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path, monkeypatch):
    kept = stored(tmp_path, "plain", distinct=1)

    def full(file, **_):
        file.write(b"some of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match=r"000000\.npz: cannot be written \(No space left on device\)"):
        kept.keep(0)
    assert [path.name for path in kept.folder.iterdir()] == ["renders.json"]


def test_other_renders_lie_in_a_folder_of_their_own(tmp_path):
    folders = {stored(tmp_path, recipe=recipe).folder for recipe in ("production", "solo", "plain")}
    assert len(folders) == 3
    assert all((folder / "renders.json").is_file() for folder in folders)


def test_any_module_that_renders_tells_renders_apart(tmp_path):
    for name in ("effects.py", "drums/kits.py", "packs/soundfont.py", "store_command.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one = 1\n")
    before = code_digest(tmp_path)
    for name, counts in (("drums/kits.py", True), ("packs/soundfont.py", False), ("store_command.py", False)):
        (tmp_path / name).write_text("two = 2\n")
        after = code_digest(tmp_path)
        assert (after != before) == counts, name
        before = after


def test_splits_and_processes_do_not_share_files(tmp_path):
    paths = {
        stored(tmp_path, split=split, rank=rank, world=2)._path(0)
        for split in ("train", "validation")
        for rank in range(2)
    }
    assert len(paths) == 4


def test_a_store_keeps_at_least_one_batch(tmp_path):
    with pytest.raises(UsageError, match="at least one"):
        stored(tmp_path, distinct=0)


def test_the_first_batches_are_reported_at_the_main_delay(tmp_path):
    kept = stored(tmp_path, distinct=1, one_delay=3)
    delays = [kept[i]["delay"] for i in range(12)]
    assert all((delay == main_delay(PRESETS["tiny"])).all() for delay in delays[:3])
    assert len(set(torch.cat(delays[3:]).flatten().tolist())) > 1
    later = stored(tmp_path, distinct=1)
    assert all(torch.equal(later[i]["delay"], delays[i]) for i in range(3, 12))


def test_other_grooves_without_a_table_lie_in_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # one of the sources would make them a band
    for name, note in (("a", 36), ("b", 49), ("c", 36)):
        write_midi(tmp_path / name / "x.mid", [(k * 0.25, note, 100) for k in range(40)])

    def place(name):
        sources = Sources(grooves=name and tmp_path / name, recipe=RenderRecipe.load("solo"))
        return stored(tmp_path / "store", sources=sources).folder

    a, b, c, none = (place(name) for name in ("a", "b", "c", None))
    assert len({a, b, none}) == 3
    assert a == c  # what is played counts, not where it lies
    (tmp_path / "a" / "info.csv").write_text("midi_filename,split\nx.mid,train\n")
    assert place("a") not in (a, b, none)


def test_sounds_replaced_beside_the_same_table_are_other_renders(tmp_path):
    sound = tmp_path / "kits" / "x.wav"
    sound.parent.mkdir()
    table = "path,kit,class,articulation,velocity_rank,split\nx.wav,k,BD,hit,1,train\n"
    (sound.parent / "kits.csv").write_text(table)
    sources = Sources(kits=sound.parent, recipe=RenderRecipe.load("solo"))
    folders = set()
    for length, changed_s in ((2000, 1e9), (2000, 2e9), (3000, 2e9)):
        soundfile.write(sound, np.full(length, 0.5), 44100)
        os.utime(sound, (changed_s, changed_s))
        folders.add(stored(tmp_path / "store", sources=sources).folder)
    assert len(folders) == 3
