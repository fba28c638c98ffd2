"""What the tests of pages share: hostile names, a reader of HTML, and a look at a page in a browser."""

import shutil
from contextlib import contextmanager
from html.parser import HTMLParser

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = [
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 1">',
    "{{ 7 * 7 }} $x^2$ &amp; &lt;b&gt;",
    "left \u202egnirts desrever\u202c \x07 \x1b[31m \ud800",
    "[bold red]markup[/]",
    "",
    "x" * 500,
]
LINKS = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}


class Reader(HTMLParser):
    """Collects elements, texts, and the texts of each row of a table."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.rows, self.inside, self.in_row = [], [], [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "tr":
            self.rows.append("")
            self.in_row = True

    def handle_endtag(self, tag):
        self.in_row = self.in_row and tag != "tr"

    def handle_data(self, data):
        if self.inside != "style":
            self.texts.append(data)
            if self.in_row:
                self.rows[-1] += f" {data}"

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def links(self):
        return {value for _, attributes in self.elements for name, value in attributes.items() if name in LINKS}

    @property
    def handlers(self):
        return [name for _, attributes in self.elements for name in attributes if name.startswith("on")]

    def row(self, *parts):
        """Give the one row that has these parts."""
        (found,) = [" ".join(row.split()) for row in self.rows if all(part in row for part in parts)]
        return found


# The contrast of every visible text with the nearest ground that is painted behind it.
CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = parts(getComputedStyle(e).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  let least = [21, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), colour = parts(element.closest("svg") ? style.fill : style.color);
    const [low, high] = [luminance(colour), luminance(ground(element))].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < least[0]) least = [ratio, text];
  }
  return least;
}"""


WINDOWS = ((1280, "light"), (1280, "dark"), (380, "light"), (320, "dark"))  # CSS pixels wide, colour scheme
PRINTED = ("h1", "svg.plot", "table")


@contextmanager
def chromium_running():
    """Give Chromium, without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def in_a_browser(test):
    """Mark a test that looks at pages in Chromium."""
    absent = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
    return pytest.mark.slow(absent(test))


def look_at(browser, html, path):
    """Open a page without programs of its own in each window, on screen and as it is printed; nothing may be amiss.

    Nothing is said on the console or asked of the network, no script of a hostile name has run, the page is no wider
    than the window, and every text stands out from its ground by 4.5 to 1 (WCAG 2.2, AA).
    """
    path.write_text(html, encoding="utf-8", newline="\n")
    said = []
    page = browser.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith("file:") else said.append(request.url))
    page.goto(path.as_uri())
    for width, scheme in WINDOWS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(media="screen", color_scheme=scheme)
        widest = page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
        contrast, text = page.evaluate(CONTRAST)
        assert widest == width
        assert contrast >= 4.5, (contrast, text, width, scheme)
        page.emulate_media(media="print")
        shown = {name: page.locator(f"{name} >> visible=true").count() for name in ("header.top", *PRINTED)}
        assert shown.pop("header.top") == 0
        assert all(shown.values()), shown
    assert page.evaluate("window.hacked") is None
    assert [text for text in said if not text.startswith("data:")] == []
    page.close()
