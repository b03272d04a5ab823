"""The report page: its data, its size, and what a real browser makes of it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click_model
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostnote.runtime.events import Hit
from ghostnote.runtime.output.report import ReportFacts, ReportSink
from ghostnote.runtime.output.soundtrack import Outline, Soundtrack, omission

RATE = click_model.RATE
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HITS = [
    Hit(2.0, "SD", 0.9, 0.95),
    *(Hit(0.5 * k, "CHH", 0.5 + 0.03 * k, 0.7 + 0.02 * k) for k in range(10)),
    *(Hit(1.0 * k, "BD", 0.8, 0.99) for k in range(5)),
    Hit(3.2, "CRC", 0.7, 0.41),
]
TITLE = "take <1> & </script>.wav"


def sound(seconds: float = 5.0) -> np.ndarray:
    """Struck tones at every half second."""
    t = np.arange(round(seconds * RATE)) / RATE
    since = t % 0.5
    tones = 0.4 * np.cos(2 * np.pi * 220 * since) + 0.2 * np.cos(2 * np.pi * 1370 * since)
    return (tones * np.exp(-12 * since)).astype(np.float32)


def write_page(path: Path, hits: list[Hit], pcm: np.ndarray, omitted: str | None = None) -> Path:
    track = Soundtrack(RATE, omitted)
    sink = ReportSink(path, ReportFacts(TITLE, "click, total latency 60 ms", (("Model", "click"),)), track)
    for start in range(0, len(pcm), 5000):
        track.hear(pcm[start : start + 5000])
    sink.write(hits)
    sink.close()
    return path


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("report") / "r.html", HITS, sound())


def data_of(path: Path) -> dict[str, Any]:
    match = re.search(r"^const report = (\{.*\});$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert match
    data: dict[str, Any] = json.loads(match[1])
    return data


def column(data: dict[str, Any], name: str, dtype: type) -> np.ndarray:
    return np.frombuffer(base64.b64decode(data["hits"][name]), dtype)


# Data


def test_hits_are_sorted_and_in_lanes_like_a_staff(page_path: Path) -> None:
    data = data_of(page_path)
    assert [(entry["code"], entry["count"]) for entry in data["classes"]] == [
        ("CRC", 1),
        ("CHH", 10),
        ("SD", 1),
        ("BD", 5),
    ]
    by_time = sorted(HITS, key=lambda hit: hit.time_s)
    assert column(data, "time", np.float64).tolist() == [hit.time_s for hit in by_time]
    assert [data["classes"][lane]["code"] for lane in column(data, "lane", np.uint8)] == [hit.code for hit in by_time]
    np.testing.assert_allclose(column(data, "velocity", np.float32), [hit.velocity for hit in by_time], rtol=1e-6)
    np.testing.assert_allclose(column(data, "confidence", np.float32), [hit.confidence for hit in by_time], rtol=1e-6)


def test_the_sound_is_embedded_where_it_belongs(page_path: Path, tmp_path: Path) -> None:
    data = data_of(page_path)
    (tmp_path / "a.ogg").write_bytes(base64.b64decode(data["audio"]))
    heard, rate = soundfile.read(tmp_path / "a.ogg")
    assert (len(heard), rate, data["duration_s"]) == (len(sound()), RATE, 5.0)
    assert np.corrcoef(heard, sound())[0, 1] > 0.99


def test_nothing_outside_is_named(page_path: Path) -> None:
    text = re.sub(r"const report = .*", "", page_path.read_text(encoding="utf-8"))
    assert not re.findall(r"(?:src|href)=\"(?!data:,\")", text)
    assert set(re.findall(r"https?://[^\"\s]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"@import|url\(|fetch\(|XMLHttpRequest", text)


def test_no_hits_and_no_sound(tmp_path: Path) -> None:
    data = data_of(write_page(tmp_path / "r.html", [], np.zeros(0, np.float32)))
    assert (data["classes"], data["duration_s"], data["peaks"]["data"]) == ([], 0, "")


def test_sound_that_becomes_too_long_is_left_out_and_that_is_said() -> None:
    track = Soundtrack(RATE, longest_s=1.0)
    for _ in range(3):
        track.hear(sound(0.5))
    assert track.audio() is None
    assert track.omitted == "The sound is left out: it is longer than 0.0166667 minutes."
    assert track.samples == 1.5 * RATE


def test_what_is_known_in_advance() -> None:
    assert omission(live=False, duration_s=899.0) is None
    assert omission(live=False, duration_s=None) is None
    assert "longer than 15 minutes" in (omission(live=False, duration_s=901.0) or "")
    assert "live" in (omission(live=True, duration_s=None) or "")


def test_nothing_appears_before_close(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("before")
    sink = ReportSink(path, ReportFacts("a", "b", ()), Soundtrack(RATE))
    sink.write(HITS)
    assert path.read_text() == "before"
    sink.discard()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("r.html", "before")]


# Outline


@given(st.lists(st.integers(0, 400), max_size=12), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_the_outline_is_that_of_all_samples_in_bounded_memory(sizes: list[int], seed: int) -> None:
    """Any pieces: few bins, each the range of its samples."""
    pcm = np.random.default_rng(seed).uniform(-1, 1, sum(sizes)).astype(np.float32)
    outline = Outline(most=16, finest=4)
    start = 0
    for size in sizes:
        outline.add(pcm[start : start + size])
        start += size
    ranges, length = outline.ranges(), outline.bin_samples
    assert ranges.shape == (2, -(-len(pcm) // length))
    assert ranges.shape[1] <= 16
    for k in range(ranges.shape[1]):
        block = pcm[k * length : (k + 1) * length]
        assert (ranges[0, k], ranges[1, k]) == (block.min(), block.max())


def test_peaks_are_scaled_to_the_loudest(page_path: Path) -> None:
    peaks = data_of(page_path)["peaks"]
    lows, highs = np.frombuffer(base64.b64decode(peaks["data"]), np.int8).reshape(2, -1)
    assert max(-int(lows.min()), int(highs.max())) == 127
    assert (lows <= highs).all()
    assert len(highs) == -(-len(sound()) // 64)
    loud = np.flatnonzero(highs > 100) * peaks["bin_s"]
    assert ((loud + peaks["bin_s"]) % 0.5 < 0.05).all()


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium through Playwright; nothing on this machine is changed by it."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright (extra `dev`) is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on this machine")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield opened
        opened.close()


class Visit:
    """An opened page, and everything that it complained about or asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": 1200, "height": 900}, **options)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.until("timeline.style.height")

    def js(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def until(self, condition: str) -> None:
        """Wait; Playwright's own way needs `eval`, which the page's security policy forbids."""
        end = time.monotonic() + 20
        while not self.js(condition):
            assert time.monotonic() < end, f"never: {condition}"
            self.page.wait_for_timeout(20)


@pytest.fixture
def visit(browser: Any, page_path: Path) -> Iterator[Visit]:
    visit = Visit(browser, page_path)
    yield visit
    assert visit.complaints == []
    asked = [url for url in visit.requests if not url.startswith(("blob:", "data:"))]
    assert asked == [page_path.as_uri()]
    visit.page.close()


def test_the_browser_shows_all_of_it(visit: Visit) -> None:
    assert visit.page.title() == f"{TITLE} – drum transcription"
    assert visit.page.inner_text("h1") == TITLE
    assert visit.page.inner_text("#subtitle") == "17 hits in 5.0 s of audio; click, total latency 60 ms"
    lanes = visit.page.locator(".lane").all_inner_texts()
    assert [lane.split("\n")[0] for lane in lanes] == ["crash cymbal", "closed hi-hat", "snare drum", "bass drum"]
    assert visit.page.locator("#histogram rect").count() > 3
    visit.page.click("#list summary")
    visit.until(f"document.querySelectorAll('.rows tbody tr').length === {len(HITS)}")


def test_pixels_of_a_hit_are_where_its_time_is(visit: Visit) -> None:
    """Below the crash cymbal's cap at 3.2 s there is its stem; beside it there is nothing."""
    alphas = visit.js(
        """(() => {
          const x = Math.round(xOf(3.2) * devicePixelRatio), y = Math.round((22 + 96 + 36 - 8) * devicePixelRatio);
          const pixels = timeline.getContext("2d").getImageData(x, y, 13, 1).data;
          return [pixels[3], pixels[12 * 4 + 3]];
        })()"""
    )
    assert alphas[0] > 0
    assert alphas[1] == 0


def test_pointer_seeks_and_shows_values(visit: Visit) -> None:
    box = visit.page.locator("#stage").bounding_box()
    x, y = box["x"] + visit.js("xOf(2.0)"), box["y"] + 22 + 96 + 36 * 2 + 20
    visit.page.mouse.move(x, y)
    tip = visit.page.inner_text("#tip")
    assert all(word in tip for word in ("snare drum (SD)", "2.000 s", "114 of 127", "0.950"))
    visit.page.mouse.click(x, y)
    assert visit.js("position") == pytest.approx(2.0, abs=0.01)
    assert visit.js("audio.currentTime") == pytest.approx(2.0, abs=0.01)


def test_keys_step_zoom_and_fit(visit: Visit) -> None:
    visit.page.focus("#stage")
    visit.page.keyboard.press("ArrowRight")
    assert visit.page.get_attribute("#stage", "aria-valuenow") == "0.500"
    assert "closed hi-hat, velocity 67, confidence 0.72" in visit.page.get_attribute("#stage", "aria-valuetext")
    visit.page.keyboard.press("+")
    assert visit.js("view.end - view.start") == pytest.approx(2.5)
    assert visit.js("view.start <= position && position <= view.end")
    visit.page.keyboard.press("PageDown")
    assert visit.js("view.start") > 1
    visit.page.keyboard.press("0")
    assert (visit.js("view.start"), visit.js("view.end")) == (0, 5)


def test_sound_plays_and_the_cursor_moves(visit: Visit) -> None:
    visit.until("audio.readyState > 0")
    assert visit.js("audio.duration") == pytest.approx(5, abs=0.01)
    visit.page.click("#play")
    visit.until("position > 0.05 && new DOMMatrix(getComputedStyle($('cursor')).transform).e > 2")
    assert visit.page.inner_text("#play") == "Pause"
    visit.page.click("#play")
    assert visit.js("audio.paused")


def test_onsets_of_the_decoded_sound_are_those_of_the_source(visit: Visit) -> None:
    """The browser's decoder shifts nothing: a cursor on a hit is heard as the hit."""
    lag = """async (length) => {
      const decoded = await new OfflineAudioContext(1, length, 44100).decodeAudioData(bytes(report.audio));
      return Array.from(decoded.getChannelData(0).subarray(0, length));
    }"""
    heard = np.array(visit.page.evaluate(lag, RATE))
    source = sound()[:RATE]
    shifts = range(-100, 101)
    likeness = [float(np.dot(np.roll(heard, -shift), source)) for shift in shifts]
    assert shifts[int(np.argmax(likeness))] == 0


def test_without_sound_the_page_says_why(browser: Any, tmp_path: Path) -> None:
    visit = Visit(browser, write_page(tmp_path / "r.html", [], sound(1.0), "Left out."), color_scheme="dark")
    assert visit.page.inner_text("#silent") == "Left out."
    assert visit.page.is_disabled("#play")
    assert visit.page.locator(".lane").count() == 0
    assert "No hits were found." in visit.page.inner_text("#counts")
    assert visit.complaints == []
    visit.page.close()
