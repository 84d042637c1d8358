"""Makes the pictures of the page anew: docs/page.jpg and docs/page-phone.jpg. Needs Chromium and the extra `dev`.

python docs/screenshots.py birds
"""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
WIDTH = 800
"""Of the picture of a desk's screen, in pixels."""
DESK = {"viewport": {"width": 1120, "height": 900}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 920}, "color_scheme": "dark"}


def draw_examples(page: Page, count: int) -> None:
    """Has the page draw its first examples."""
    for number in range(count):
        page.locator(".example").nth(number).click()
        sentence = page.locator(".example").nth(number).text_content() or ""
        page.get_by_role("img", name=sentence[:20]).first.wait_for()
        page.locator("#status").filter(has_text="Drawn: ").wait_for()


def main(model: str) -> None:
    command = [sys.executable, "-m", "s2igan", "serve", model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = chromium.new_context(**DESK).new_page()
            page.set_default_timeout(120_000)
            page.goto(found[0])
            draw_examples(page, 1)
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
            picture = picture.resize((WIDTH, WIDTH * picture.height // picture.width), Image.Resampling.LANCZOS)
            picture.save(HERE / "page.jpg", quality=85)
            page = chromium.new_context(**PHONE).new_page()
            page.set_default_timeout(120_000)
            page.goto(found[0])
            draw_examples(page, 4)
            page.locator("#pictures").evaluate("section => section.scrollIntoView()")
            page.screenshot(path=HERE / "page-phone.jpg", quality=85)
            chromium.close()
        finally:
            server.terminate()


if __name__ == "__main__":
    main(sys.argv[1])
