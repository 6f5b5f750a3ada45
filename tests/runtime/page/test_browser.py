"""The page in a real browser, without a network, before people and hostile names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import Browser, chromium
from page_kit import Lines, RunningLine
from runtime_kit import wait_until

if chromium() is None:
    pytest.skip("Chromium is not installed; Debian's package `chromium` brings it", allow_module_level=True)

pytestmark = pytest.mark.peer
SCRIPT, TAG = "<script>document.title='owned'</script>", "<img src=x onerror=\"document.title='owned'\">"
PASS_GREEN, REJECT_RED = "rgb(20, 118, 58)", "rgb(192, 31, 38)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here."""
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def shared() -> Iterator[dict[str, RunningLine]]:
    """A line of parts that pass and one of rejects."""
    lines = Lines()
    yield {"PASS": lines.start(0), "REJECT": lines.start(255)}
    lines.close()


@pytest.fixture(autouse=True)
def clean(browser: Browser) -> Iterator[None]:
    """Every page is read without an error and without asking anybody else."""
    browser.errors.clear()
    browser.requests.clear()
    browser.look(1280, 800)
    yield
    browser.open("about:blank")
    assert browser.errors == []
    assert {address.split("/")[2].split(":")[0] for address in browser.requests if "://" in address} == {"127.0.0.1"}


def fill_of(browser: Browser) -> str:
    """Background colour of the verdict."""
    return str(browser.run("getComputedStyle(document.querySelector('.hero')).backgroundColor"))


@pytest.mark.parametrize(("word", "colour"), [("PASS", PASS_GREEN), ("REJECT", REJECT_RED)])
def test_a_verdict_is_a_word_a_colour_and_a_shape(
    browser: Browser, shared: dict[str, RunningLine], word: str, colour: str
) -> None:
    """It can be told from across the hall, by anybody's eyes."""
    browser.open(shared[word].address)
    wait_until(lambda: browser.text(".hero .word") == word)
    assert fill_of(browser) == colour
    assert browser.run("document.querySelectorAll('.hero svg path').length") == 2
    assert browser.run("parseFloat(getComputedStyle(document.querySelector('.hero .word')).fontSize)") > 80


def test_picture_heatmap_scale_rejects_and_counters_are_there(browser: Browser, shared: dict[str, RunningLine]) -> None:
    """Every picture has loaded, and the figures move."""
    browser.open(shared["REJECT"].address)
    loaded = "[...document.querySelectorAll('.view img')].filter(i => i.complete && i.naturalWidth > 0).length"
    wait_until(lambda: browser.run(loaded) == 3)
    thumbnails = "[...document.querySelectorAll('#rejects img')].filter(i => i.naturalWidth > 0).length"
    wait_until(lambda: int(browser.run(thumbnails)) > 2)
    judged = browser.text("#counters td.big")
    wait_until(lambda: browser.text("#counters td.big") != judged)
    painted = "document.getElementById('history').getContext('2d').getImageData(0, 0, 2000, 200).data.some(v => v)"
    assert browser.run(painted)


def test_results_that_a_link_brought_too_late_are_told(browser: Browser, shared: dict[str, RunningLine]) -> None:
    """The panel of links says how many results the PLC was shown as late, though the link is up."""
    browser.open(shared["REJECT"].address)
    wait_until(lambda: "2 results too late for the PLC" in browser.text("#links"))
    assert "up" in browser.text("#links")


def test_a_silent_line_looks_silent(browser: Browser, shared: dict[str, RunningLine]) -> None:
    """The last PASS is neither word nor colour any more, everything is grey, and it comes back by itself."""
    line = shared["PASS"]
    browser.open(line.address)
    wait_until(lambda: browser.text(".hero .word") == "PASS")
    line.freeze()
    wait_until(lambda: browser.text(".hero .word") == "NO DATA")
    assert "NO DATA since" in browser.text("#banner")
    assert "grayscale(1)" in str(browser.run("getComputedStyle(document.querySelector('main')).filter"))
    assert fill_of(browser) not in (PASS_GREEN, REJECT_RED)
    assert not browser.run("document.querySelector('.hero.ok') !== null")
    line.thaw()
    wait_until(lambda: browser.text(".hero .word") == "PASS")


def test_a_page_whose_line_has_gone_says_so(browser: Browser, lines: Lines) -> None:
    """Where nothing answers any more, the page does not keep the last verdict."""
    line = lines.start(0)
    browser.open(line.address)
    wait_until(lambda: browser.text(".hero .word") == "PASS")
    line.process.kill()
    wait_until(lambda: browser.text(".hero .word") == "NO DATA")
    wait_until(lambda: "cannot be reached" in browser.text("#banner"))
    browser.errors[:] = [error for error in browser.errors if "ERR_CONNECTION_REFUSED" not in error]
    browser.open("about:blank")
    browser.errors[:] = [error for error in browser.errors if "ERR_" not in error]


def test_hostile_names_stay_text(browser: Browser, lines: Lines) -> None:
    """Markup in the name of a camera, a file or in a message is shown, not run."""
    line = lines.start(255, SCRIPT, TAG)
    browser.open(line.address)
    wait_until(lambda: TAG in browser.text("#rejects"))
    assert SCRIPT in browser.text("#sources")
    assert TAG in browser.text("#links")
    wait_until(lambda: SCRIPT in browser.text(".view > p"))
    assert browser.run("document.querySelectorAll('main script, main img[src=x]').length") == 0
    assert browser.run("document.title") == "cada-edge"
    wait_until(lambda: browser.run("document.querySelector('.view img').naturalWidth") > 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_it_fits_desks_and_phones_by_day_and_night(
    browser: Browser, shared: dict[str, RunningLine], tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    """Nothing sticks out sideways, the verdict is in sight, and the scheme is the reader's."""
    width, height = size
    browser.look(width, height, scheme)
    browser.open(shared["REJECT"].address)
    wait_until(lambda: browser.text(".hero .word") == "REJECT")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.querySelector('.hero').getBoundingClientRect().bottom") < height
    ink = browser.run("getComputedStyle(document.body).color.match(/\\d+/g).map(Number).reduce((a, b) => a + b)")
    assert (ink > 600) == (scheme == "dark")
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
