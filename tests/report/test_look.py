"""The look at a page in a browser finds what is amiss."""

import pytest

from pages import in_a_browser, look_at

PAGE = """<!doctype html><meta charset="utf-8"><title>t</title><link rel="icon" href="data:,">
<style>@media print { .top { display: none } } body { color: #000; background: #fff }</style>
<header class="top">top</header><h1>one</h1>
<svg class="plot" width="9" height="9"></svg><table><tr><td>1</td></table>"""


@in_a_browser
@pytest.mark.parametrize(
    "fault",
    [
        "",
        "<script>console.log('said')</script>",
        "<script>window.hacked = 1</script>",
        "<div style='width: 330px'>wider than the least window</div>",
        "<p style='color: #999'>pale</p>",
        "<style>@media (prefers-color-scheme: dark) { h1 { color: #333; background: #222 } }</style>",
        "<style>@media print { table { display: none } }</style>",
        "<style>header.top { display: block !important }</style>",
        "<img src='http://127.0.0.1:9/x.png' alt=''>",
    ],
)
def test_what_is_amiss_is_found(chromium, tmp_path, fault):
    if not fault:
        look_at(chromium, PAGE, tmp_path / "page.html")
        return
    with pytest.raises(AssertionError):
        look_at(chromium, PAGE + fault, tmp_path / "page.html")
