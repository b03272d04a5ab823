"""The page in a real headless Chromium: what a person would do, and what they get."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile
from serving import Message, Serving, alone, clicks
from waiting import wait_until

from ghostnote.runtime import Engine, open_engine

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if BROWSER is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

GROOVE = Path(__file__).parents[2] / "examples" / "groove.flac"
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
]  # fmt: skip


@pytest.fixture(scope="module")
def small() -> Iterator[Engine]:
    engine = open_engine("small")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def groove() -> np.ndarray:
    return soundfile.read(GROOVE, dtype="float32")[0]


@pytest.fixture(scope="module")
def browser(groove: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One whose microphone hears the example recording, again and again."""
    heard = tmp_path_factory.mktemp("microphone") / "groove.wav"
    soundfile.write(heard, groove, 44100, subtype="PCM_16")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=BROWSER, args=[*OPTIONS, f"--use-file-for-fake-audio-capture={heard}"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[[Serving], Any]]:
    """Open a server's page; at the end nothing must have been loaded from elsewhere, or logged as an error."""
    contexts, problems = [], []

    def call(server: Serving) -> Any:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 860}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        own = (server.url(), "blob:", "data:")
        page.on("request", lambda request: request.url.startswith(own) or problems.append(request.url))
        page.on("console", lambda line: line.type in ("error", "warning") and problems.append(line.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url())
        page.wait_for_selector("body[data-state=ready]")
        return page

    yield call
    for context in contexts:
        context.close()
    assert problems == []


def wav(pcm: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    soundfile.write(file, pcm, 44100, format="WAV", subtype="FLOAT")
    return {"name": "clicks.wav", "mimeType": "audio/wav", "buffer": file.getvalue()}


def saved(page: Any, button: str) -> bytes:
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes()


def hits_saved(page: Any) -> list[Message]:
    return [json.loads(line) for line in saved(page, "#save-jsonl").splitlines()]


def by_time(hits: list[Message]) -> list[Message]:
    return sorted(hits, key=lambda hit: hit["time"])


@pytest.mark.parametrize("pace", ["fast", "real"])
def test_a_chosen_file_gives_the_very_hits_of_the_engine(
    serve: Callable[..., Serving], visit: Callable[[Serving], Any], click_engine: Engine, pace: str
) -> None:
    page, pcm = visit(serve()), clicks(1.5 if pace == "real" else 20)
    page.select_option("#pace", pace)
    page.set_input_files("#file", wav(pcm))
    page.wait_for_selector("body[data-state=done]")
    expected = by_time(alone(click_engine, pcm))
    assert by_time(hits_saved(page)) == expected
    assert page.inner_text("#count") == str(len(expected))
    assert page.inner_text("#problem") == ""
    assert f"{len(expected)} hits" in page.get_attribute("#grid", "aria-label")


def test_the_example_gives_the_hits_of_the_bundled_model(
    serve: Callable[..., Serving], visit: Callable[[Serving], Any], small: Engine, groove: np.ndarray
) -> None:
    page = visit(serve(engine=small))
    page.select_option("#latency", "60")
    page.select_option("#pace", "fast")
    page.set_input_files("#file", GROOVE)
    page.wait_for_selector("body[data-state=done]")
    # By class first: strokes of several drums at once lie closer in time than batched rounding moves them.
    found, expected = (
        sorted(hits, key=lambda hit: (hit["class"], hit["time"]))
        for hits in (hits_saved(page), alone(small, groove, 60))
    )
    assert len(expected) > 40
    assert [hit["class"] for hit in found] == [hit["class"] for hit in expected]
    for key, tolerance in (("time", 1e-5), ("velocity", 2e-4), ("confidence", 2e-4)):
        np.testing.assert_allclose([h[key] for h in found], [h[key] for h in expected], atol=tolerance)
    assert page.inner_text("#total") == "60 ms"
    assert page.inner_text("#log li:first-child span:nth-child(1)").startswith("0:0")

    track = mido.MidiFile(file=io.BytesIO(saved(page, "#save-midi")))
    time_s, notes = 0.0, []
    for message in track:
        time_s += message.time
        if message.type == "note_on":
            assert message.channel == 9
            notes.append((time_s, message.note, message.velocity))
    played = sorted(found, key=lambda hit: (hit["note"], hit["time"]))
    notes.sort(key=lambda note: (note[1], note[0]))
    assert [note for _, note, _ in notes] == [hit["note"] for hit in played]
    np.testing.assert_allclose([at for at, _, _ in notes], [hit["time"] for hit in played], atol=0.0006)
    assert [velocity for _, _, velocity in notes] == [round(127 * hit["velocity"]) for hit in played]


def test_the_microphone_gives_hits_while_it_plays(
    serve: Callable[..., Serving], visit: Callable[[Serving], Any], small: Engine, groove: np.ndarray
) -> None:
    server = serve(engine=small)
    page = visit(server)
    page.click("#microphone")
    page.wait_for_selector("#log li:nth-child(12)")
    assert page.get_attribute("body", "data-state") == "listening"
    assert re.fullmatch(r"\d+ ms \(median\)", page.inner_text("#wait"))
    assert page.evaluate("document.getElementById('level').value") > -60
    page.keyboard.press("s")
    page.wait_for_selector("body[data-state=done]")
    heard = {hit["class"] for hit in hits_saved(page)}
    known = {hit["class"] for hit in alone(small, groove, 100)}
    assert {"BD", "SD", "CHH"} <= heard
    assert len(heard - known) <= 1
    assert server.pool.stats().streams == 0


def test_a_double_click_opens_one_microphone(
    serve: Callable[..., Serving], visit: Callable[[Serving], Any], small: Engine
) -> None:
    server = serve(engine=small)
    page = visit(server)
    page.dblclick("#microphone", force=True)
    page.wait_for_selector("body[data-state=listening]")
    page.keyboard.press("s")
    page.wait_for_selector("body[data-state=done]")
    assert server.metric("ghostnote_sessions_opened_total") == 1


def test_stopping_while_the_browser_asks_for_the_microphone_lets_go_of_it(
    serve: Callable[..., Serving], visit: Callable[[Serving], Any]
) -> None:
    page = visit(serve())
    page.evaluate("""() => {
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async wanted => {
        await new Promise(resolve => { window.allow = resolve; });
        window.given = await ask(wanted);
        return window.given;
      };
    }""")
    page.click("#microphone")
    page.wait_for_selector("body[data-state=connecting]")
    page.click("#stop")
    page.wait_for_selector("body[data-state=ready]")
    page.evaluate("window.allow()")
    released = "() => window.given?.getTracks().every(track => track.readyState === 'ended')"
    wait_until(lambda: page.evaluate(released))
    assert page.get_attribute("body", "data-state") == "ready"
    assert page.inner_text("#problem") == ""


def test_problems_are_said_in_words(serve: Callable[..., Serving], visit: Callable[[Serving], Any]) -> None:
    server = serve(max_sessions=1)
    page = visit(server)
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no sound"})
    page.wait_for_selector("#problem:visible")
    assert page.inner_text("#problem") == "“notes.txt” is not a sound file that this browser can read."
    with server.connect():
        page.set_input_files("#file", wav(clicks(1)))
        page.wait_for_selector("#problem:has-text('all sessions of this server are taken')")
    assert page.get_attribute("body", "data-state") == "done"
    assert page.is_enabled("#pick")


def test_when_the_server_goes_the_page_keeps_its_hits(
    serve: Callable[..., Serving], visit: Callable[[Serving], Any], click_engine: Engine
) -> None:
    server, pcm = serve(max_session_s=1.5), clicks(10)
    page = visit(server)
    page.set_input_files("#file", wav(pcm))  # plays for ten seconds
    page.wait_for_selector("#problem:visible")
    assert "a session may last 1.5 s" in page.inner_text("#problem")
    found = by_time(hits_saved(page))
    assert len(found) >= 5
    assert found == by_time(alone(click_engine, pcm))[: len(found)]


def test_everything_can_be_done_by_keyboard(serve: Callable[..., Serving], visit: Callable[[Serving], Any]) -> None:
    page = visit(serve())
    # Early: Playwright does not wait until the browser has been told to leave the dialog to it.
    page.on("filechooser", lambda chooser: chooser.set_files(wav(clicks(12))))
    page.select_option("#pace", "fast")
    page.focus("#pick")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-state=done]")
    page.focus("#grid")
    page.keyboard.press("Home")
    assert page.is_visible("#latest-button")
    page.keyboard.press("+")
    page.keyboard.press("End")
    assert not page.is_visible("#latest-button")
    page.focus("#clear")
    page.keyboard.press("Enter")
    assert page.inner_text("#count") == "0"
    assert page.is_disabled("#save-midi")
