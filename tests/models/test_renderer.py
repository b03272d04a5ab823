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
from ghostnote.models.data.kits import ATTACK_SAMPLE, KitShelf
from ghostnote.models.data.performance import Performance
from ghostnote.models.data.renderer import PREROLL_S, Renderer
from ghostnote.runtime.errors import InputError, UsageError
from ghostnote.runtime.vocabulary import CODES, index_of

RATE = 44100


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


@pytest.mark.parametrize("code", ["BD", "SD", "CHH", "CRC", "CB"])
def test_the_label_is_where_the_sound_starts(code):
    """Energy of the direct sound appears at the label, on a clip that no room, noise or backing blurs."""
    performance = Performance.from_hits([PREROLL_S + 0.5], [index_of(code)], [1.0], 2.0)
    renderer = Renderer(KitShelf(None))
    buses, labels = renderer._perform(performance, np.random.default_rng(0), 2 * RATE)
    dry = buses.sum(0)
    sample = int(labels[0, 0])
    assert labels[0, 1] == index_of(code)
    assert sample == round((PREROLL_S + 0.5) * RATE)
    first = int((dry.abs() > 0.03 * dry.abs().max()).nonzero()[0])
    assert abs(first - sample) <= 5  # pitch changes move the mark by a fraction of a sample


def test_an_open_hihat_is_choked_by_the_next_stroke():
    times = [0.2, 0.4]
    rng = lambda: np.random.default_rng(1)  # noqa: E731
    renderer = Renderer(KitShelf(None))
    opened, pedal = index_of("OHH"), index_of("PHH")
    alone, _ = renderer._perform(Performance.from_hits(times[:1], [opened], [1.0], 1.5), rng(), RATE)
    choked, _ = renderer._perform(Performance.from_hits(times, [opened, pedal], [1.0, 0.05], 1.5), rng(), RATE)
    late = slice(int(0.55 * RATE), int(0.7 * RATE))
    assert choked.sum(0)[late].square().sum() < 0.5 * alone.sum(0)[late].square().sum()


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
        drawn = [shelf.draw(np.random.default_rng(seed)) for seed in range(20)]
        assert {"train_kit"} < {kit.name for kit in drawn}  # and synthesised ones
        assert all(kit.sounds.get(code) for kit in drawn for code in CODES)


def test_a_kits_folder_without_its_table_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"kits\.csv"):
        KitShelf(tmp_path)


def test_effects_keep_shape_and_depend_on_the_clips_seed_alone():
    audio = torch.randn(3, 30000) * 0.2
    for effect in (effects.compress, effects.saturate, effects.noise, effects.level):
        rngs = [np.random.default_rng(seed) for seed in (1, 2, 3)]
        together = effect(audio, rngs)
        alone = torch.cat([effect(audio[i : i + 1], [np.random.default_rng(seed)]) for i, seed in enumerate((1, 2, 3))])
        assert together.shape == audio.shape
        assert torch.allclose(together, alone, atol=1e-6)


def test_a_room_begins_after_the_direct_sound():
    response = effects.room_response(np.random.default_rng(0), 20000)
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
