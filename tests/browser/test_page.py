"""The page in a real Chromium: what a visitor does and sees, with a microphone that plays a file.

Skipped where there is no Chromium; `.ci/run` installs Debian's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

import s2igan
from tiny_models import export_rdg

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian and Ubuntu: apt install chromium"),
]
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
SLOW = 60_000
"""Milliseconds that a busy machine may take."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a chirp, as the microphone hears it."""
    path = tmp_path_factory.mktemp("sound") / "said.wav"
    time = np.arange(2 * 44_100) / 44_100
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * (300 + 400 * time) * time), 44_100)
    return path


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page of a small random model of three scales is served, by the command itself."""
    folder = export_rdg(tmp_path_factory.mktemp("served") / "finches")
    command = [sys.executable, "-m", "s2igan", "serve", str(folder), "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield found[0]
        process.terminate()


@pytest.fixture(scope="module")
def browser(sound: Path) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    flags = [
        "--no-sandbox",  # of a container's root
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={sound}",
    ]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The opened page. No request may leave this server, and nothing of ours may fail in the console."""
    options = {"viewport": DESKTOP, "color_scheme": "light", **getattr(request, "param", {})}
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(SLOW)
    requests: list[str] = []
    faults: list[str] = []
    page.on("request", lambda asked: requests.append(asked.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(address)
    yield page
    assert [url for url in requests if not url.startswith((f"{address}/", "data:", f"blob:{address}"))] == []
    refused = "Failed to load resource: the server responded with a status of 4"  # Chromium's own line for a refusal
    assert [fault for fault in faults if not fault.startswith(refused)] == []
    context.close()


def drawn(page: Page, said: str = "Drawn: 4") -> list[str]:
    """Waits for pictures; their sources."""
    page.locator("#status").filter(has_text=said).wait_for()
    return [str(image.get_attribute("src")) for image in page.locator("#drawn > figure > img").all()]


def test_an_upload_is_drawn_and_what_was_heard_is_shown(page: Page, sound: Path) -> None:
    page.set_input_files("#file", sound)
    assert len(set(drawn(page))) == 4
    assert page.locator("#drawn figure").first.locator("img").count() == 2  # 16 px, and 8 px beside it
    assert page.locator("#waveform path").count() == 1
    assert str(page.locator("#spectrogram").get_attribute("src")).startswith("data:image/png")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save the picture with seed 2").click()
    assert saved.value.suggested_filename == "picture-seed-2.png"
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save the settings").click()
    assert json.loads(Path(saved.value.path()).read_text()) == {
        "recording": "said.wav",
        "seed": 1,
        "samples": 4,
        "speech_seconds": 2,
        "model": "finches",
        "s2igan": s2igan.__version__,
    }
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save the recording").click()
    assert Path(saved.value.path()).read_bytes() == sound.read_bytes()


def test_the_microphone_is_heard(page: Page) -> None:
    button = page.locator("#record")
    button.click()
    page.locator("#record-label").filter(has_text="(2 s)").wait_for()
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    drawn(page)
    seconds = float(re.search(r"for ([\d.]+) seconds", str(page.locator("#status").text_content()))[1])  # type: ignore[index]
    assert 1.5 < seconds < 6
    assert button.get_attribute("aria-pressed") == "false"
    assert page.get_by_role("img", name=re.compile("drawn for recording-1.wav, seed 1")).count() == 1


def test_the_same_seed_is_the_same_picture(page: Page, sound: Path) -> None:
    page.set_input_files("#file", sound)
    first = drawn(page)
    page.get_by_text("How many pictures, and which").click()
    page.locator("#seed").fill("2")
    page.locator("#samples").fill("2")
    page.locator("#samples").blur()
    page.locator("#status").filter(has_text="Drawn: 2").wait_for()
    page.locator("#drawn figure").nth(2).wait_for(state="detached")
    assert drawn(page, "Drawn: 2") == first[1:3]
    page.locator("#seed").fill("1")
    page.locator("#samples").fill("1")
    page.locator("#samples").blur()
    assert drawn(page, "Drawn: 1 picture ") == first[:1]


def test_examples_stand_side_by_side_and_have_a_way_between_them(page: Page) -> None:
    assert page.locator("#earlier").is_hidden()
    for number in (0, 1):
        page.locator(".example").nth(number).click()
        page.get_by_role("img", name=re.compile("drawn for “.*seed 1")).first.wait_for()
        page.locator("#status").filter(has_text="Drawn: 4").wait_for()
    page.locator("#history figure").nth(1).wait_for()
    between = page.get_by_role("button", name="Draw the way between two")
    assert between.is_disabled()
    for box in page.locator("#history input").all():
        box.check()
    between.click()
    page.locator("#way img").nth(6).wait_for()
    first_of_both = [image.get_attribute("src") for image in page.locator("#history img").all()]
    way = [image.get_attribute("src") for image in page.locator("#way img").all()]
    assert [way[-1], way[0]] == first_of_both
    assert way[0] != way[-1]


def test_errors_are_sentences_and_the_page_goes_on(page: Page, sound: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.wav").write_text("no sound at all")
    page.set_input_files("#file", tmp_path / "letter.wav")
    alert = page.get_by_role("alert")
    alert.filter(has_text="this is a text, no sound").wait_for()
    (tmp_path / "long.wav").write_bytes(bytes(10_000_001))
    page.set_input_files("#file", tmp_path / "long.wav")
    alert.filter(has_text="more than 10 MB").wait_for()
    page.set_input_files("#file", sound)
    drawn(page)
    assert alert.is_hidden()
    page.get_by_text("How many pictures, and which").click()
    page.locator("#samples").fill("99")
    page.locator("#samples").blur()
    alert.filter(has_text="Pictures must be a whole number from 1 to 8").wait_for()


def test_a_microphone_that_is_not_allowed(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'));"
    )
    page.goto(address)
    page.locator("#record").click()
    page.get_by_role("alert").filter(has_text="allow it in the browser, or choose a sound file").wait_for()
    assert page.locator("#record").get_attribute("aria-pressed") == "false"
    context.close()


def test_the_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.locator(":focus").text_content() == "Skip to recording"
    names = []
    for _ in range(4):
        page.keyboard.press("Tab")
        names.append(page.locator(":focus").get_attribute("id") or page.locator(":focus").get_attribute("class"))
    assert names[:3] == ["record", "file", "example"]
    page.keyboard.press("Enter")
    drawn(page)


@pytest.mark.parametrize("page", [{"viewport": PHONE}], indirect=True)
def test_nothing_is_wider_than_a_phone(page: Page, sound: Path) -> None:
    def width() -> int:
        return int(page.evaluate("document.documentElement.scrollWidth"))

    assert width() == PHONE["width"]
    page.set_input_files("#file", sound)
    drawn(page)
    assert width() == PHONE["width"]
    small = [
        (button.text_content(), button.bounding_box())
        for button in page.locator("button:visible, .button:visible").all()
        if (button.bounding_box() or {"height": 0})["height"] < 43
    ]
    assert small == []


@pytest.mark.parametrize(
    "page",
    [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": PHONE}],
    indirect=True,
    ids=["light", "dark"],
)
def test_nothing_keeps_people_out(page: Page, sound: Path) -> None:
    """No serious or critical violation that axe-core finds, before and after drawing."""
    from axe_playwright_python.sync_playwright import Axe

    def violations() -> list[tuple[str, str]]:
        found = Axe().run(page).response["violations"]
        grave = [one for one in found if one["impact"] in ("serious", "critical")]
        return [(one["id"], node["html"]) for one in grave for node in one["nodes"]]

    assert violations() == []
    page.get_by_text("How many pictures, and which").click()
    for _ in range(2):
        page.set_input_files("#file", sound)
        drawn(page)
        page.locator("#other-seed").click()
    page.set_input_files("#file", sound)
    page.locator("#history figure").nth(1).wait_for()
    page.locator("#status").filter(has_text="Drawn: 4").wait_for()
    assert violations() == []
