"""The blind listening page: sounds at the right samples and levels, trials, and nothing that tells who is who."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostnote.models.data.drums.synthesiser import synthesise_kit
from ghostnote.models.evaluation.listening import (
    DEFAULT_VELOCITY,
    SAMPLE_RATE,
    choose_windows,
    matched_rms,
    page,
    read_hits,
    replay,
)
from ghostnote.models.evaluation.listening_command import listen
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from ghostnote.runtime.errors import InputError, OutputError, UsageError
from ghostnote.runtime.events import Hit
from ghostnote.runtime.output.writers import write_hits
from ghostnote.runtime.vocabulary import CODES

ENDING = {"midi": ".mid", "jsonl": ".jsonl", "csv": ".csv", "labels": ".labels", "txt": ".txt"}
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def groove(seconds: float, velocity: float = 0.8, late_s: float = 0.0) -> list[Hit]:
    """Eighths on the hi-hat, bass drum and snare in turn."""
    times = np.arange(0.1, seconds - 0.2, 0.25) + late_s
    hits = [Hit(float(t), "CHH", velocity, 1.0) for t in times]
    return sorted(
        hits + [Hit(float(t), ("BD", "SD")[k % 2], velocity, 1.0) for k, t in enumerate(times[::2])], key=_time
    )


def _time(hit: Hit) -> float:
    return hit.time_s


def data_of(html: str) -> dict[str, Any]:
    """The JSON that the page's script begins with."""
    match = re.search(r"^const data = (\{.*\});$", html, re.MULTILINE)
    assert match
    return json.loads(match.group(1))


def decoded(clip: str) -> np.ndarray:
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(clip)), dtype="float32")
    assert rate == SAMPLE_RATE
    return audio


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    """12 s played by a kit that the page's replays do not use."""
    return replay(groove(12), 12 * SAMPLE_RATE, kit=99)


@pytest.fixture(scope="module")
def html(recording: np.ndarray) -> str:
    systems = {"runs/first/x.jsonl": groove(12), "runs/second/x.jsonl": groove(12, 0.4, late_s=0.03)}
    return page(recording, systems, title="x.wav", trials=5, length_s=2.0)


# --- hits ---


@pytest.mark.parametrize("name", ENDING)
def test_hits_are_read_from_all_formats_that_we_write(
    name: str, tmp_path: Path, tiny_engine: OnnxRuntimeEngine
) -> None:
    hits = [Hit(0.125 * k, code, round(0.05 * (k + 1), 4), 0.9) for k, code in enumerate(CODES)]
    path = tmp_path / f"hits{ENDING[name]}"
    write_hits(hits, path, tiny_engine.manifest, name)
    found = read_hits(path)
    assert [hit.code for hit in found] == list(CODES)
    np.testing.assert_allclose([hit.time_s for hit in found], [hit.time_s for hit in hits], atol=6e-4)
    wanted = [DEFAULT_VELOCITY] * len(hits) if name == "labels" else [hit.velocity for hit in hits]
    np.testing.assert_allclose([hit.velocity for hit in found], wanted, atol=0.005)


def test_references_can_be_listened_to(tmp_path: Path) -> None:
    path = tmp_path / "reference.txt"
    path.write_text("0.5\tHH\n0.1\tKD\n0.7\tOT\n")
    assert [(hit.time_s, hit.code) for hit in read_hits(path)] == [(0.1, "BD"), (0.5, "CHH")]


def test_what_holds_no_hits_is_refused(tmp_path: Path) -> None:
    for name in ("x.jsonl", "x.csv", "x.labels", "x.mid", "x.txt"):
        with pytest.raises(InputError, match=r"x\."):
            read_hits(tmp_path / name)
        (tmp_path / name).write_text("time,class\na b c")
        with pytest.raises(InputError, match=r"x\."):
            read_hits(tmp_path / name)
    for name in ("x.wav", "x.musicxml"):  # the second is written only
        with pytest.raises(UsageError, match=r"expected hits as .mid"):
            read_hits(tmp_path / name)


# --- sound ---


def test_hits_sound_at_their_samples() -> None:
    kit = synthesise_kit(np.random.default_rng(5))
    for code in CODES:
        audio = replay([Hit(0.5, code, 1.0, 1.0)], SAMPLE_RATE, kit)
        loud = np.flatnonzero(np.abs(audio) > 10 ** (-30 / 20) * np.abs(audio).max())
        assert loud[0] == SAMPLE_RATE // 2, code


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(CODES))
@settings(max_examples=30)
def test_harder_is_never_softer(one: float, other: float, code: str) -> None:
    soft, hard = (np.abs(replay([Hit(0.1, code, v, 1.0)], 20000, _KIT)).max() for v in sorted((one, other)))
    assert soft <= hard * (1 + 1e-6)


_KIT = synthesise_kit(np.random.default_rng(5))


def test_a_closed_hat_ends_an_open_one() -> None:
    open_only = replay([Hit(0.1, "OHH", 1.0, 1.0)], SAMPLE_RATE, _KIT)
    both = replay([Hit(0.1, "OHH", 1.0, 1.0), Hit(0.3, "PHH", 0.5, 1.0)], SAMPLE_RATE, _KIT)
    closing = replay([Hit(0.3, "PHH", 0.5, 1.0)], SAMPLE_RATE, _KIT)
    np.testing.assert_array_equal(both[: int(0.29 * SAMPLE_RATE)], open_only[: int(0.29 * SAMPLE_RATE)])
    np.testing.assert_allclose(both[int(0.34 * SAMPLE_RATE) :], closing[int(0.34 * SAMPLE_RATE) :], atol=1e-6)


def test_hits_at_the_edges_are_cut_not_lost() -> None:
    audio = replay([Hit(0.0, "SD", 1.0, 1.0), Hit(0.999, "SD", 1.0, 1.0), Hit(3.0, "SD", 1.0, 1.0)], SAMPLE_RATE, _KIT)
    assert np.abs(audio[:100]).max() > 0.01
    assert np.abs(audio[int(0.999 * SAMPLE_RATE) :]).max() > 0.001


def test_versions_are_equally_loud_and_never_clip() -> None:
    rng = np.random.default_rng(0)
    clicks = np.zeros(10000, np.float32)
    clicks[::2500] = 0.2
    versions = {"noise": rng.normal(0, 0.5, 10000).astype(np.float32), "clicks": clicks, "silence": 0 * clicks}
    matched = matched_rms(versions)
    rms = {name: float(np.sqrt(np.mean(audio**2))) for name, audio in matched.items()}
    assert rms["noise"] == pytest.approx(rms["clicks"], rel=1e-4)
    assert rms["silence"] == 0
    assert max(np.abs(audio).max() for audio in matched.values()) <= 0.9501


# --- page ---


def test_windows_are_where_the_systems_differ() -> None:
    one = groove(20)
    other = [*one, Hit(11.0, "CRC", 0.9, 1.0)]
    rng = np.random.default_rng(0)
    assert choose_windows([one, other], 20, 2.0, 5, rng) == [10.0]
    assert len(choose_windows([one], 20, 2.0, 4, rng)) == 4
    with pytest.raises(UsageError, match="report the same hits"):
        choose_windows([one, list(one)], 20, 2.0, 5, rng)
    with pytest.raises(UsageError, match="there are no hits"):
        choose_windows([[]], 20, 2.0, 5, rng)


def test_the_page_holds_its_trials_and_sounds(html: str) -> None:
    data = data_of(html)
    assert data["modes"] == ["abx", "preference"]
    for mode in data["modes"]:
        excerpts = [trial["excerpt"] for trial in data["trials"] if trial["mode"] == mode]
        assert len(excerpts) == 5
        assert set(excerpts) == set(range(len(data["excerpts"])))
    for excerpt in data["excerpts"]:
        clips = [decoded(clip) for clip in (*excerpt["clips"], excerpt["original"])]
        assert [len(clip) for clip in clips] == [2 * SAMPLE_RATE] * 3
        levels_db = [20 * np.log10(np.sqrt(np.mean(clip**2))) for clip in clips]
        assert max(levels_db) - min(levels_db) < 0.5  # Vorbis changes them a little
        assert max(np.abs(clip).max() for clip in clips) < 1.0


def test_hits_lie_where_they_should_in_the_clips(html: str) -> None:
    data = data_of(html)
    for excerpt in data["excerpts"]:
        order = json.loads(base64.b64decode(excerpt["order"]))
        clip = decoded(excerpt["clips"][order.index(0)])
        start = round(excerpt["start_s"] * SAMPLE_RATE)
        wanted = replay(groove(12), 12 * SAMPLE_RATE, kit=0)[start : start + len(clip)]
        agreement = np.correlate(clip[20000:40000], wanted[20000 - 200 : 40000 + 200])
        assert np.argmax(agreement) == 200
        assert np.corrcoef(clip[500:-500], wanted[500:-500])[0, 1] > 0.95


def test_nothing_tells_who_is_who(html: str) -> None:
    assert "runs/" not in html
    data = data_of(html)
    orders = [json.loads(base64.b64decode(excerpt["order"])) for excerpt in data["excerpts"]]
    assert [0, 1] in orders
    assert [1, 0] in orders
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|fetch\(|url\(""", html)


def test_a_single_system_is_compared_with_the_recording(recording: np.ndarray) -> None:
    data = data_of(page(recording, {"hits.mid": groove(12)}, title="</script>", trials=3, length_s=2.0))
    assert data["modes"] == ["abx"]
    assert data["title"] == "</script>"
    assert data["excerpts"][0]["original"] is None
    assert json.loads(base64.b64decode(data["secret"]))["names"] == ["the recording", "hits.mid"]
    with pytest.raises(UsageError, match="--against"):
        page(recording, {"hits.mid": groove(12)}, title="x", modes=("preference",))


def test_the_same_seed_gives_the_same_page(recording: np.ndarray, html: str) -> None:
    systems = {"runs/first/x.jsonl": groove(12), "runs/second/x.jsonl": groove(12, 0.4, late_s=0.03)}
    again = data_of(page(recording, systems, title="x.wav", trials=5, length_s=2.0))
    one = data_of(html)
    assert [e["start_s"] for e in again["excerpts"]] == [e["start_s"] for e in one["excerpts"]]
    np.testing.assert_array_equal(decoded(again["excerpts"][0]["clips"][0]), decoded(one["excerpts"][0]["clips"][0]))


def test_the_command_writes_a_page(tmp_path: Path, recording: np.ndarray, tiny_engine: OnnxRuntimeEngine) -> None:
    soundfile.write(tmp_path / "x.wav", np.stack([recording, recording], 1), SAMPLE_RATE)
    write_hits(groove(12), tmp_path / "a.jsonl", tiny_engine.manifest)
    write_hits(groove(12, 0.5, 0.03), tmp_path / "b.mid", tiny_engine.manifest)
    out = tmp_path / "out" / "page.html"
    listen(tmp_path / "x.wav", tmp_path / "a.jsonl", out, against=tmp_path / "b.mid", trials=2, excerpt_s=3)
    assert len(data_of(out.read_text(encoding="utf-8"))["trials"]) == 4
    listen(tmp_path / "x.wav", tmp_path / "a.jsonl", out, mode="abx", trials=1, excerpt_s=60)
    assert data_of(out.read_text(encoding="utf-8"))["length_s"] == 12
    with pytest.raises(UsageError, match="unknown mode"):
        listen(tmp_path / "x.wav", tmp_path / "a.jsonl", out, mode="mushra")
    with pytest.raises(UsageError, match="compared with itself"):
        listen(tmp_path / "x.wav", tmp_path / "a.jsonl", out, against=tmp_path / "a.jsonl")
    with pytest.raises(OutputError, match=r"x\.wav: cannot be made a folder"):
        listen(tmp_path / "x.wav", tmp_path / "a.jsonl", tmp_path / "x.wav" / "page.html")


# --- in a browser ---

# Plays every version by keyboard, answers all trials, and leaves what a listener could see on the way.
LISTENER = """
<script>
(async () => {
  const press = key => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const seen = [], wait = ms => new Promise(resolve => setTimeout(resolve, ms));
  while (!document.body.dataset.ready) await wait(50);
  press("Enter");
  for (let i = 0; i < Number(document.body.dataset.ready); i++) {
    press("1");  // before anything was heard: no answer
    const trial = state.index;
    for (const key of ["a", "b", "x", "o"]) press(key);
    const voices = Object.keys(state.playing?.voices ?? {}).length;
    if (state.index !== trial || voices !== 3) seen.push("BROKEN");
    seen.push(document.body.innerText);
    await wait(20);
    press("1");
  }
  const table = document.getElementById("summary").innerText, duration = state.trials[0].buffers.A.duration;
  const results = JSON.parse(document.body.dataset.results);
  await fetch("/", { method: "POST", body: JSON.stringify({ seen, table, duration, results }) });
})();
</script>
"""


def answers_of_a_browser(page_with_listener: str, profile: Path) -> dict[str, Any]:
    """Open the page in a headless browser; what its script posts back."""
    posted: Queue[dict[str, Any]] = Queue()

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page_with_listener.encode())

        def do_POST(self) -> None:
            posted.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        command = [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--mute-audio",
            "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}", "--remote-debugging-port=0",
            f"http://127.0.0.1:{server.server_port}/",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                return posted.get(timeout=240)
            finally:
                browser.terminate()
                server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_listener_gets_through_the_page(html: str, tmp_path: Path) -> None:
    found = answers_of_a_browser(html.replace("</html>", LISTENER + "</html>"), tmp_path / "profile")
    seen, results = found["seen"], found["results"]
    assert len(seen) == 10
    assert not any("BROKEN" in text or "runs/" in text for text in seen)
    assert found["duration"] == pytest.approx(2.0, abs=1e-3)
    trials = results["trials"]
    assert [trial["mode"] for trial in trials] == ["abx"] * 5 + ["preference"] * 5
    assert all({trial["a"], trial["b"]} == {"runs/first/x.jsonl", "runs/second/x.jsonl"} for trial in trials)
    correct = sum(trial["correct"] for trial in trials[:5])
    assert all(trial["correct"] == (trial["x"] == trial["answer"]) for trial in trials[:5])
    from scipy.stats import binomtest

    abx, preference = results["summary"]["abx"], results["summary"]["preference"]
    assert abx["correct"] == correct
    assert abx["p"] == pytest.approx(binomtest(correct, 5, alternative="greater").pvalue)
    votes = preference["preferred"]["runs/first/x.jsonl"]
    assert sum(preference["preferred"].values()) == 5
    assert preference["p"] == pytest.approx(binomtest(votes, 5).pvalue)
    assert all(trial["preferred"] == trial[trial["answer"].lower()] for trial in trials[5:])
    assert f"{correct} of 5 right" in found["table"]
    assert found["table"].count("p = ") == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("h.jsonl", '{"time": NaN, "class": "SD", "velocity": 0.5}'),
        ("h.jsonl", '{"time": 1e400, "class": "SD", "velocity": 0.5}'),
        ("h.csv", "time,class,velocity\n1.0,SD,nan"),
        ("h.labels", "inf\tinf\tSD"),
    ],
)
def test_a_hit_without_a_time_or_velocity_is_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="not hits as ghostnote writes them"):
        read_hits(tmp_path / name)


def test_a_missing_column_is_named_and_a_byte_order_mark_is_none(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_bytes("\ufefftime,class,velocity\n1.0,SD,0.5\n".encode())
    assert [hit.time_s for hit in read_hits(path)] == [1.0]
    path.write_text("seconds,class,velocity\n1.0,SD,0.5\n")
    with pytest.raises(InputError, match="no 'time'"):
        read_hits(path)


def test_the_end_of_a_recording_is_heard_as_well() -> None:
    one, other = groove(7.5), [hit for hit in groove(7.5) if hit.time_s < 7]
    (start,) = choose_windows((one, other), 8.0, 6.0, 4, np.random.default_rng(0))
    assert start == 2.0


@pytest.mark.parametrize("replaced", ["sound.html", "hits.html"])
def test_the_page_replaces_nothing_that_is_read(replaced: str, tmp_path: Path, recording: np.ndarray) -> None:
    soundfile.write(tmp_path / "sound.wav", recording, 44100)
    (tmp_path / "hits.csv").write_text("time,class,velocity\n1.0,SD,0.5\n")
    (tmp_path / "sound.html").symlink_to(tmp_path / "sound.wav")
    (tmp_path / "hits.html").symlink_to(tmp_path / "hits.csv")
    with pytest.raises(UsageError, match="would be replaced"):
        listen(tmp_path / "sound.wav", tmp_path / "hits.csv", tmp_path / replaced)
    with pytest.raises(UsageError, match=r"expected a name in \.html"):
        listen(tmp_path / "sound.wav", tmp_path / "hits.csv", tmp_path / "hits.csv")
