"""Rendered clips: exact labels, seeds that decide alone, no data needed."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from ghostnote.models.config import PRESETS
from ghostnote.models.data import effects
from ghostnote.models.data.dataset import RenderedBatches, Sources
from ghostnote.models.data.drums.audibility import Heard
from ghostnote.models.data.drums.kits import Kit, KitShelf, Sound
from ghostnote.models.data.drums.pieces import _lag
from ghostnote.models.data.music.backing import BackingShelf
from ghostnote.models.data.packed import ATTACK_SAMPLE
from ghostnote.models.data.performances.mixture import sample_drummers
from ghostnote.models.data.performances.performance import Performance
from ghostnote.models.data.recipe import RECIPES, Draws, RenderRecipe
from ghostnote.models.data.renderer import (
    PREROLL_S,
    Renderer,
    _inferred,
    _rms_while_played,
    _with_closed,
    _with_other_percussion,
)
from ghostnote.models.data.separation import demixed
from ghostnote.runtime.errors import InputError, UsageError
from ghostnote.runtime.vocabulary import CODES, index_of

RATE = 44100
PRODUCTION = RenderRecipe.load("production")


def batches(**changes):
    settings = {"clips": 2, "tokens": 50, "split": "train", "seed": 3} | changes
    return RenderedBatches(PRESETS["tiny"], Sources(), **settings)


def test_a_batch_is_decided_by_its_number():
    a, b, other = batches()[4], batches()[4], batches()[5]
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["audio"], other["audio"])


def test_processes_share_the_batch_that_one_would_render():
    whole = batches(clips=4)[1]
    shares = [batches(clips=4, rank=rank, world=2)[1] for rank in (0, 1)]
    assert torch.equal(whole["audio"], torch.cat([share["audio"] for share in shares]))
    assert torch.equal(whole["delay"], torch.cat([share["delay"] for share in shares]))


def test_clips_are_sound():
    batch = batches(clips=8, tokens=100)[0]
    assert batch["audio"].shape == (8, 100 * 882)
    assert torch.isfinite(batch["audio"]).all()
    assert batch["audio"].abs().max() <= 1
    hits = batch["classes"] >= 0
    assert hits.any()
    assert (batch["times"][hits] >= 0).all()
    assert (batch["times"][hits] < 2).all()
    assert ((batch["velocities"][hits] > 0) & (batch["velocities"][hits] <= 1)).all()


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(UsageError, match="cannot be shared"):
        batches(clips=3, world=2)


def dry_renderer():
    return Renderer(KitShelf(None), BackingShelf(None), PRODUCTION.without("layering", "transients"))


@pytest.mark.parametrize("code", ["BD", "SD", "CHH", "CRC", "CB"])
def test_the_label_is_where_the_sound_starts(code):
    """Energy of the direct sound appears at the label, on a clip that no room, noise or backing blurs."""
    performance = Performance.from_hits([PREROLL_S + 0.5], [index_of(code)], [1.0], 2.0)
    take = dry_renderer()._take([performance], Draws(0), 2 * RATE)
    dry = take.buses.sum(0)
    (sample, found, _) = take.labels[0]
    assert found == index_of(code)
    assert sample == round((PREROLL_S + 0.5) * RATE)
    first = int((dry.abs() > 0.03 * dry.abs().max()).nonzero()[0])
    assert abs(first - sample) <= 5  # pitch changes move the mark by a fraction of a sample


def test_an_open_hihat_is_choked_by_the_next_stroke():
    times = [0.2, 0.4]
    renderer = dry_renderer()
    opened, pedal = index_of("OHH"), index_of("PHH")
    alone = renderer._take([Performance.from_hits(times[:1], [opened], [1.0], 1.5)], Draws(1), RATE).buses
    choked = renderer._take([Performance.from_hits(times, [opened, pedal], [1.0, 0.05], 1.5)], Draws(1), RATE).buses
    late = slice(int(0.55 * RATE), int(0.7 * RATE))
    assert choked.sum(0)[late].square().sum() < 0.5 * alone.sum(0)[late].square().sum()


def render_one(performance, recipe, seed=0):
    renderer = Renderer(KitShelf(None), BackingShelf(None), recipe)
    return renderer.render([[performance]], [Draws(seed)], round(performance.duration_s * RATE) - RATE)


def test_a_hit_under_a_much_louder_one_is_ignored_and_a_clear_one_is_not():
    """Two hits of one drum at once: the soft one cannot be heard; half a second later it can."""
    kick, quiet = index_of("BD"), 0.02
    others = ("backing", "demixing", "codec", "noise", "other_percussion", "sample_mixing")
    recipe = PRODUCTION.without(*others).changed("balance", class_db=0, softest_db=[50, 50], stroke_db=0)
    together = render_one(Performance.from_hits([1.2, 1.216], [kick] * 2, [1.0, quiet], 2.5), recipe)
    apart = render_one(Performance.from_hits([1.2, 2.2], [kick] * 2, [1.0, quiet], 2.5), recipe)
    assert together.ignored[0].tolist() == [False, True]
    assert apart.ignored[0].tolist() == [False, False]


def test_what_is_struck_with_a_snare_is_softer_in_covered_clips():
    """A hi-hat alone keeps its level, one with a snare loses twelve decibels, and so does one 20 ms beside it."""
    hat, snare = index_of("CHH"), index_of("SD")
    played = Performance.from_hits([1.1, 1.4, 1.4, 1.7, 1.72], [hat, hat, snare, snare, hat], [0.8] * 5, 2.0)
    plain = PRODUCTION.changed("balance", class_db=0, softest_db=[30, 30], stroke_db=0)
    energies = {}
    for chance in (0, 1):
        recipe = plain.changed("covering", chance=chance, depth_db=[12, 12], spread_db=0)
        take = Renderer(KitShelf(None), BackingShelf(None), recipe)._take([played], Draws(4), 2 * RATE)
        energies[chance] = torch.stack([energy.sum() for energy in take.energies])
    lost_db = 10 * (energies[0] / energies[1]).log10()
    assert [index for _, index, _ in take.labels] == [hat, hat, snare, snare, hat]
    assert lost_db.tolist() == pytest.approx([0, 12, 0, 0, 12], abs=1e-3)
    told = [velocity for _, _, velocity in take.labels]
    assert [told[i] for i in (0, 2, 3)] == pytest.approx([0.8] * 3)
    assert told[1] == told[4] < 0.5, "softer is what the velocity says, too"


def labels_of(hits, velocity):
    """Labels of hits (seconds, code) for `_inferred`."""
    return [(round(time_s * RATE), index_of(code), velocity) for time_s, code in hits]


GOING_ON = [(1.0, "CHH"), (1.2, "CHH"), (1.4, "CHH"), (1.405, "SD")]  # the third is under the snare


@pytest.mark.parametrize(
    ("hits", "audible", "under_drums", "told"),
    [
        (GOING_ON, [1, 1, 0, 1], [0, 0, 1, 0], True),
        (GOING_ON, [1, 1, 0, 1], [0, 0, 0, 0], False),  # music hides it
        (GOING_ON, [0, 0, 0, 1], [0, 0, 1, 0], False),  # no part to tell it from
        (GOING_ON, [1, 1, 0, 0], [0, 0, 1, 0], False),  # what covers it cannot be heard either
        ([*GOING_ON[:3], (1.45, "SD")], [1, 1, 0, 1], [0, 0, 1, 0], False),  # not struck together
        ([*GOING_ON[:3], (1.405, "OHH")], [1, 1, 0, 1], [0, 0, 1, 0], False),  # one instrument
        ([(t, "CRC" if c == "CHH" else c) for t, c in GOING_ON], [1, 1, 0, 1], [0, 0, 1, 0], False),  # keeps no time
    ],
)
def test_what_a_drum_covers_is_told_from_a_part_that_goes_on(hits, audible, under_drums, told):
    found = Heard(torch.tensor(audible, dtype=torch.bool), torch.tensor(under_drums, dtype=torch.bool))
    assert _inferred(labels_of(hits, velocity=0.2), found).tolist() == [False, False, told, False]


@pytest.mark.parametrize(
    ("code", "velocity", "audible", "told"),
    [
        ("BD", 0.5, [1, 1, 0, 1], True),
        ("SD", 0.5, [1, 1, 0, 1], True),
        ("CHH", 0.5, [1, 1, 0, 1], True),
        ("SD", 0.2, [1, 1, 0, 1], False),  # a ghost note
        ("SD", 0.5, [1, 0, 0, 0], False),  # the part is hidden for the most part
        ("CRC", 0.5, [1, 1, 0, 1], False),  # makes no pattern
    ],
)
def test_a_stroke_of_the_beat_is_told_whatever_hides_it(code, velocity, audible, told):
    labels = labels_of([(t, code) for t in (1.0, 1.5, 2.0, 2.5)], velocity)
    found = Heard(torch.tensor(audible, dtype=torch.bool), torch.zeros(4, dtype=torch.bool))
    assert _inferred(labels, found)[2] == told


def test_an_open_hihat_that_is_closed_at_once_is_a_closed_one():
    hits = [(1.0, "OHH", 0.7), (1.03, "PHH", 0.4), (2.0, "OHH", 0.7), (2.2, "CHH", 0.5)]
    assert [code for _, code, _ in _with_closed(hits)] == ["CHH", "PHH", "OHH", "CHH"]


def test_other_percussion_plays_along_or_in_place_of_a_part():
    played = Performance.from_hits(np.arange(1, 9) / 4, [index_of("RD")] * 8, [0.6] * 8, 3.0)
    kit = Kit("one", {"OTHER": [Sound(0.5, "shaker", np.zeros(1000, np.int16))]})
    for instead, codes in ((0, {"RD", "OTHER"}), (1, {"OTHER"})):
        recipe = PRODUCTION.changed("other_percussion", chance=1, in_rhythm=1, instead=instead)
        hits = _with_other_percussion(played, kit, Draws(3), recipe)
        assert {code for _, code, _ in hits} == codes
        others = np.array([time_s for time_s, code, _ in hits if code == "OTHER"])
        assert len(others) == 8
        assert np.abs(others - played.times_s).max() < 0.02


def test_a_drummer_who_rests_does_not_lower_the_music():
    bar = torch.full((4 * RATE,), 0.1)
    rest = torch.cat([bar, torch.zeros(4 * RATE)])
    assert float(_rms_while_played(rest)) == pytest.approx(float(_rms_while_played(bar)))
    assert float(_rms_while_played(torch.zeros(RATE))) == 0


def test_drummers_rest_in_some_clips():
    recipe = PRODUCTION.changed("rests", chance=1, length_s=[30, 30])
    counts = [len(sample_drummers(Draws(seed), 8.0, None, recipe)[0]) for seed in range(12)]
    whole = [len(sample_drummers(Draws(seed), 8.0, None, PRODUCTION.without("rests"))[0]) for seed in range(12)]
    assert all(some <= every for some, every in zip(counts, whole, strict=True))
    assert counts.count(0) > 3
    assert sum(counts) > 0


def test_a_sound_that_rises_slowly_is_labelled_where_it_sounds():
    n, attack = RATE // 2, 220
    slow, quick = torch.zeros(n), torch.zeros(n)
    slow[attack : attack + 100] = 0.05  # the first noise of a foot
    slow[attack + 1100 : attack + 6000] = 0.8
    quick[attack : attack + 5000] = 0.8
    assert _lag(quick, attack) == 0
    assert _lag(slow, attack) == pytest.approx(1100, abs=90)


def test_validation_has_synthesised_kits_of_its_own():
    train, validation = (KitShelf(None, split) for split in ("train", "validation"))
    names = [{shelf.draw(Draws(seed), PRODUCTION).name for seed in range(6)} for shelf in (train, validation)]
    assert not names[0] & names[1]


def test_every_stage_can_be_left_out_and_moves_no_other_draw():
    performance = Performance.from_hits([1.3, 1.6], [index_of("BD"), index_of("SD")], [0.9, 0.8], 2.0)
    whole = render_one(performance, PRODUCTION, seed=5)
    for stage in PRODUCTION.stages:
        without = render_one(performance, PRODUCTION.without(stage), seed=5)
        assert torch.equal(without.times, whole.times)
        assert torch.isfinite(without.audio).all()
    rest = [stage for stage in PRODUCTION.stages if stage != "noise"]
    assert torch.isfinite(render_one(performance, PRODUCTION.without(*rest)).audio).all()


def test_the_shipped_recipes_load_and_wrong_ones_are_explained(tmp_path):
    for name in RECIPES:
        assert RenderRecipe.load(name).stages
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[reverb]\nwet = 1\n")
    with pytest.raises(UsageError, match="unknown stage 'reverb'"):
        RenderRecipe.load(wrong)
    wrong.write_text("[noise]\nloud = 1\n")
    with pytest.raises(UsageError, match="expected level_db, hum_chance"):
        RenderRecipe.load(wrong)
    level = {name: list(value) if isinstance(value, list) else value for name, value in PRODUCTION["level"].items()}
    for value, expected in (("'loud'", "a range"), ("0.5", "a range"), ("[0, -12]", "a range"), ("true", "a range")):
        lines = [f"{name} = {given}" for name, given in (level | {"peak_db": value}).items()]
        wrong.write_text("\n".join(["[level]", *lines]))
        with pytest.raises(UsageError, match=rf"peak_db = .* in stage level; expected {expected} \[low, high\]"):
            RenderRecipe.load(wrong)
    wrong.write_text("noise = 3")
    with pytest.raises(UsageError, match=r"chance = 25 in stage rests; expected a share, 0 to 1"):
        PRODUCTION.changed("rests", chance=25)
    with pytest.raises(UsageError, match=r"decay_s = \[0, 1.2\] in stage room; expected more than 0"):
        PRODUCTION.changed("room", decay_s=[0, 1.2])
    with pytest.raises(UsageError, match=r"noise = 3 is no stage; expected a table \[noise\]"):
        RenderRecipe.load(wrong)
    with pytest.raises(UsageError, match=r"soft_chance = True in stage level; expected a number"):
        PRODUCTION.changed("level", soft_chance=True)
    wrong.write_text("noise")
    with pytest.raises(InputError, match="not a render recipe"):
        RenderRecipe.load(wrong)
    with pytest.raises(InputError, match="give a TOML file or one of plain, solo, production"):
        RenderRecipe.load("nowhere")
    with pytest.raises(UsageError, match="no stage reverb"):
        PRODUCTION.without("reverb")


def test_demixing_keeps_the_drums_and_loses_most_of_the_rest():
    rng = np.random.default_rng(0)
    time = torch.arange(RATE) / RATE
    others = 0.3 * torch.sin(2 * torch.pi * 440 * time)
    drums = torch.zeros(RATE)
    drums[RATE // 2 : RATE // 2 + 2000] = torch.randn(2000) * torch.linspace(1, 0, 2000)
    for _ in range(10):
        cut = demixed(drums, others, rng)
        assert cut.shape == drums.shape
        quiet, loud = cut[: RATE // 4], cut[RATE // 2 : RATE // 2 + 2000]
        assert quiet.square().mean() < 0.5 * others.square().mean()
        assert loud.square().mean() > 0.2 * drums[RATE // 2 : RATE // 2 + 2000].square().mean()


def test_kits_come_from_a_folder_by_split(tmp_path):
    folder = tmp_path / "kits"
    rows = []
    for split, pitch in (("train", 100), ("validation", 200)):
        for code in ("BD", "SD", "CHH", "OHH", "RD"):
            wave = np.zeros(4000, np.float32)
            wave[ATTACK_SAMPLE:] = np.sin(np.arange(3780) * pitch / 5000) * np.exp(-np.arange(3780) / 800)
            path = f"{split}_kit/{code}/hit__{code}.flac"
            (folder / path).parent.mkdir(parents=True)
            soundfile.write(folder / path, wave, RATE)
            rows.append(
                {"path": path, "kit": f"{split}_kit", "class": code, "articulation": "hit"}
                | {"velocity_rank": 1, "split": split}
            )
    with (folder / "kits.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        shelf = KitShelf(folder, "train", cache)
        assert [kit.name for kit in shelf.kits] == ["train_kit"]
        assert shelf.kits[0].sounds["BD"][0].samples[ATTACK_SAMPLE + 20] != 0
        drawn = [shelf.draw(Draws(seed), PRODUCTION) for seed in range(20)]
        assert {"train_kit"} < {kit.name for kit in drawn}  # and synthesised ones
        assert all(kit.sounds.get(code) for kit in drawn for code in CODES)


def test_a_kits_folder_without_its_table_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"kits\.csv"):
        KitShelf(tmp_path)


GOOD = {"path": "x.wav", "kit": "k", "class": "BD", "articulation": "", "velocity_rank": "1", "split": "train"}


def kits_folder(folder, row):
    """A kits folder of one sound."""
    folder.mkdir(exist_ok=True)
    if not (folder / "x.wav").exists():
        soundfile.write(folder / "x.wav", np.full(2000, 0.5), RATE)
    (folder / "kits.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    return folder


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({k: v for k, v in GOOD.items() if k != "split"}, r"kits\.csv: no column split; expected path, kit, class"),
        (GOOD | {"velocity_rank": "loud"}, r"line 2: velocity_rank is 'loud'; expected a number 0\.\.1"),
        (GOOD | {"velocity_rank": "nan"}, "line 2: velocity_rank is 'nan'"),
        (GOOD | {"velocity_rank": "100"}, "line 2: velocity_rank is '100'"),
        (GOOD | {"class": "Snare"}, "line 2: class is 'Snare'; expected one of BD, .*OTHER"),
        (GOOD | {"path": "y.wav"}, r"y\.wav: cannot be read"),
        (GOOD | {"path": "kits.csv"}, r"kits\.csv: cannot be read as audio"),
    ],
)
def test_a_kits_table_that_cannot_be_used_is_explained(tmp_path, row, message):
    kits_folder(tmp_path / "kits", row)
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(InputError, match=message):
            KitShelf(tmp_path / "kits", "train", cache)


def test_the_cache_follows_the_sounds_and_not_their_table_alone(tmp_path):
    def first(folder):
        return int(KitShelf(folder, "train", tmp_path / "cache").kits[0].sounds["BD"][0].samples[0])

    here, there = (kits_folder(tmp_path / name, GOOD) for name in ("here", "there"))
    soundfile.write(there / "x.wav", np.full(2000, -0.25), RATE)
    assert first(here) == first(here) == 2**14
    assert first(there) == -(2**13)
    soundfile.write(here / "x.wav", np.full(1000, 0.125), RATE)
    assert first(here) == 2**12


def test_effects_keep_shape_and_depend_on_the_clips_seed_alone():
    audio = torch.randn(3, 30000) * 0.2
    stages = {"compressor": effects.compress, "saturation": effects.saturate, "level": effects.level}
    for stage, effect in {**stages, **effects.CHANNEL}.items():
        settings = {name: 1.0 if "chance" in name else value for name, value in PRODUCTION[stage].items()}
        rngs = [np.random.default_rng(seed) for seed in (1, 2, 3)]
        together = effect(audio, rngs, settings)
        alone = [effect(audio[i : i + 1], [np.random.default_rng(i + 1)], settings) for i in range(3)]
        assert together.shape == audio.shape
        assert torch.allclose(together, torch.cat(alone), atol=1e-6)
        assert not torch.allclose(together, audio, atol=1e-4) or stage == "noise"


def test_mastering_treats_drums_and_others_alike_and_evens_out_the_mix():
    """What a hit's share of the sum is says what can be heard of it: one gain for both."""
    settings = PRODUCTION.changed("mastering", spread_db=0.0, tilt_db=0.0, drive_db=[12, 12])["mastering"]
    rng = np.random.default_rng(0)
    drums, others = (torch.from_numpy(rng.normal(0, 0.05, RATE).astype(np.float32)) for _ in range(2))
    drums[::11025] += 1.0
    louder, under = effects.mastered(drums, others, np.random.default_rng(1), settings)
    assert torch.allclose(louder * others, under * drums, atol=1e-4)
    crest = [(mix.abs().max() / mix.square().mean().sqrt()).item() for mix in (drums + others, louder + under)]
    assert crest[1] < crest[0]


def test_a_room_begins_after_the_direct_sound():
    response = effects.room_response(np.random.default_rng(0), 20000, 0.3)
    assert not response[:44].any()
    assert response.any()


def test_a_clip_is_the_same_in_every_process():
    """Nothing may follow the order of a set or a hash, which change with the process."""
    code = (
        "from ghostnote.models.config import PRESETS; from ghostnote.models.data.dataset import *; import hashlib;"
        "b = RenderedBatches(PRESETS['tiny'], Sources(), clips=2, tokens=50)[1];"
        "print(hashlib.sha256(b['audio'].numpy().tobytes()).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1
