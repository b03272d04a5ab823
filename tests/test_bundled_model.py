"""The models in the wheel: their manifests, the laws with their real weights, their latency, and what they find.

Marked hits and the example are made by our own synthesiser, so their attacks are known to the sample. The real
recordings are those of a data folder (see conftest.py); without it that check is skipped and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import laws
import numpy as np
import pytest
import soundfile
from marked import marked_hits

from ghostnote.models.evaluation import score
from ghostnote.models.evaluation.inputs import references
from ghostnote.models.evaluation.opening import estimate
from ghostnote.runtime import Engine, EngineError, StreamingTranscriber, bundled_models, open_engine, transcribe_file
from ghostnote.runtime.vocabulary import CODES, PARENTS

EXAMPLE = Path(__file__).parent.parent / "examples" / "groove.flac"
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=bundled_models())
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    opened = open_engine(request.param)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def audio(engine: Engine) -> np.ndarray:
    """The example, cut to whole tokens."""
    pcm, rate = soundfile.read(EXAMPLE, dtype="float32")
    assert rate == engine.manifest.sample_rate
    return pcm[: len(pcm) // engine.manifest.samples_per_token * engine.manifest.samples_per_token]


def test_two_models_are_bundled_and_the_default_is_the_larger_one() -> None:
    assert bundled_models() == ["base", "small"]
    assert open_engine().manifest.name == "base"
    assert open_engine("small").manifest.name == "small"


def test_a_file_goes_before_a_bundled_model_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").write_bytes(b"no model")
    with pytest.raises(EngineError, match="not a model"):
        open_engine("small")


def test_the_manifest_says_what_a_user_must_know(engine: Engine) -> None:
    m = engine.manifest
    assert m.codes == CODES
    assert m.decoder.parents == PARENTS
    assert m.verified
    assert m.precision == "float32"
    assert m.licence == "Apache-2.0"
    assert {"data", "commit", "recipe"} <= set(m.training)
    assert [m.total_latency_ms(i) for i in range(len(m.delays_ms))] == [40, 60, 80, 100, 150, 250]


def test_laws_of_the_stream(engine: Engine, audio: np.ndarray) -> None:
    delay = engine.manifest.default_delay
    laws.assert_any_chunking(engine, audio, delay, TOLERANCE)
    laws.assert_reset_matters(engine, audio, delay)
    laws.assert_causal(engine, audio, audio[::-1].copy(), 101, delay)
    streams = np.stack([audio, audio[::-1], 0.1 * audio])
    laws.assert_batch_is_alone(engine, streams, [0, delay, 5], TOLERANCE)


@pytest.mark.parametrize("sizes", [1, 441, 882, 1000, 44100], ids=lambda n: f"{n} samples")
def test_pieces_of_any_size_give_the_same_hits(engine: Engine, audio: np.ndarray, sizes: int) -> None:
    pcm = audio[: 30000 if sizes == 1 else None]
    delay = engine.manifest.default_delay
    whole = laws.transcribe(StreamingTranscriber(engine, delay, tokens_per_call=50), pcm, [len(pcm)])
    pieces = laws.transcribe(StreamingTranscriber(engine, delay), pcm, laws.every(sizes))
    heads = laws.run_engine(engine, audio[None], [delay], [len(audio) // engine.manifest.samples_per_token])
    laws.assert_hits_agree(pieces, whole, laws.ties(heads, engine.manifest, delay, TOLERANCE))
    assert len(whole) > 0


@pytest.mark.parametrize("delay", range(6))
def test_no_hit_is_reported_later_than_the_total_latency_says(engine: Engine, delay: int) -> None:
    """Measured from the true attack, not from the time that the model reports."""
    pcm, marks = marked_hits(seed=delay)
    transcriber = StreamingTranscriber(engine, delay)
    reported = laws.assert_reported_in_time(transcriber, pcm, 63)
    found = 0
    for attack_s, code in marks:
        delays = [now - attack_s for hit, now in reported if hit.code == code and abs(hit.time_s - attack_s) < 0.05]
        found += bool(delays)
        assert all(waited <= transcriber.total_latency_ms / 1000 + 1e-9 for waited in delays), (attack_s, code, delays)
    assert found >= 0.5 * len(marks)  # a silent model would pass for nothing


def test_the_example_is_transcribed(engine: Engine) -> None:
    """Bars of kick, snare and hi-hat with a tom fill, as written in examples/make_groove.py."""
    from runpy import run_path

    groove = run_path(str(EXAMPLE.with_name("make_groove.py")))
    written = groove["groove"]()
    reference = [(t - groove["PREROLL_S"], CODES[c]) for t, c in zip(written.times_s, written.classes, strict=True)]
    hits = [(hit.time_s, hit.code) for hit in transcribe_file(EXAMPLE, engine)]
    assert score({"groove": hits}, {"groove": reference}, window_s=0.025)["micro"]["F"] >= 0.85


def test_the_examples_script_makes_one_that_is_transcribed(engine: Engine, tmp_path: Path) -> None:
    from runpy import run_path

    groove = run_path(str(EXAMPLE.with_name("make_groove.py")))
    groove["main"](tmp_path / "mine.flac")
    written = groove["groove"]()
    reference = [(t - groove["PREROLL_S"], CODES[c]) for t, c in zip(written.times_s, written.classes, strict=True)]
    hits = [(hit.time_s, hit.code) for hit in transcribe_file(tmp_path / "mine.flac", engine)]
    assert score({"groove": hits}, {"groove": reference}, window_s=0.025)["micro"]["F"] >= 0.7


@pytest.mark.data
def test_real_recordings_at_a_hundred_milliseconds(engine: Engine, shared: Path) -> None:
    """Six annotated recordings that no weight was trained on: five classes, pooled."""
    folder = shared / "data" / "mdb-dev"
    wanted = references(folder / "annotations")
    found = {name: estimate(engine, folder / "drums" / f"{name}.flac", 100) for name in wanted}
    assert score(found, wanted, window_s=0.05)["micro"]["F"] >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled_models())
def test_the_bundled_model_is_its_checkpoint_exported(name: str, tmp_path: Path) -> None:
    """Byte for byte, with the version of torch that made it."""
    import onnx

    from ghostnote.export.pipeline import export_onnx
    from ghostnote.models.checkpoint import load

    root = Path(__file__).resolve().parents[1]
    bundled, again = root / "runtime" / "assets" / f"{name}.onnx", tmp_path / "again.onnx"
    export_onnx(load(root / "checkpoints" / f"{name}.pt"), again)
    made_by = [onnx.load(path, load_external_data=False).producer_version for path in (bundled, again)]
    if made_by[0] != made_by[1]:
        pytest.skip(f"exported by torch {made_by[1]}, the bundled model by {made_by[0]}")
    assert again.read_bytes() == bundled.read_bytes()
