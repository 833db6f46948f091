"""What tests know of a page: its text, its tags, and how Chromium shows it."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = shutil.which("chromium")


class Page(HTMLParser):
    """The tags and the text of a page, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def shown(page: str, folder: Path, script: str, width: int = 390) -> tuple[str, list[str]]:
    """Open a page in a frame of Chromium, so many pixels wide, and run a script on its document.

    Returns:
        what the script returns, and what the browser's console says.
    """
    frame = (
        f'<!doctype html><title></title><body><iframe id="frame" style="width:{width}px;'
        f'height:800px" srcdoc="{html.escape(page)}"></iframe><script>const read = (d) => {script};'
        "frame.onload = () => { document.title = read(frame.contentDocument); };</script>"
    )
    file = folder / "frame.html"
    file.write_text(frame, encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    run = subprocess.run(
        [str(CHROMIUM), *flags, profile, "--window-size=800,900", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", run.stdout)
    assert title
    return html.unescape(title[1]), [line for line in run.stderr.splitlines() if "CONSOLE" in line]
