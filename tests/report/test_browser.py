"""The pages in a real browser, opened from disk: they play, toggle, print, and pass axe-core."""

from __future__ import annotations

import json

import numpy as np
import pytest
from report_browser import chromium, missing
from report_samples import write_trial

from pose2sim_biokin.compare.build import compare_results
from pose2sim_biokin.report import (
    SessionEntry,
    write_comparison_report,
    write_session_page,
    write_side_by_sides,
    write_trial_report,
)

REASON = missing()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
TIMEOUT_MS = 90_000  # a busy machine without a GPU


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Pages of a comparison, a trial and a session."""
    folder = tmp_path_factory.mktemp("pages") / "walk"

    def off(time, coordinates, skeleton):
        coordinates = coordinates.copy()
        coordinates[:, skeleton.coordinate_index("hip_flexion_r")] += np.deg2rad(6) * (1 + np.sin(time))
        return coordinates

    ours = write_trial(folder, 60, (30, 31), (8, 9), overlays=True, recordings=True)
    theirs = write_trial(folder, 60, label="opensim", change=off)
    comparison = compare_results([theirs, ours], trial="walk")
    paths = comparison.write(folder / "compare")
    pages = {
        "json": paths["json"],
        "video": write_side_by_sides(comparison, folder / "compare")["video cam01"],
        "comparison": write_comparison_report(comparison, folder / "compare" / "report.html"),
        "trial": write_trial_report(ours, folder / "kinematics" / "report.html"),
    }
    entries = [SessionEntry("walk", pages["comparison"], {"MAE, deg": 1.0})]
    return pages | {"session": write_session_page(entries, folder / "session.html")}


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


class Opened:
    """A page that is open, with what it said and what it asked the network for."""

    def __init__(self, browser, path, width=1280, height=900):
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.context.set_offline(True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.errors, self.requests = [], []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        if self.page.locator("#report-data").count():
            for state in ("ready", "complete"):
                self.page.wait_for_function(f"document.documentElement.dataset.{state} === 'true'")

    def close(self):
        """No error was said and nothing but the file itself was asked for."""
        self.context.close()
        assert not self.errors
        assert [url for url in self.requests if not url.startswith(("data:", "blob:"))] == self.requests[:1]


@pytest.fixture(scope="module")
def opened(browser, reports):
    """The comparison at the width of a desktop."""
    page = Opened(browser, reports["comparison"])
    yield page.page
    page.close()


def drawn(page):
    """For every line of the 3D view: where it reaches, as one number, and whether it can be seen."""
    return page.evaluate(
        "document.getElementById('view').data.map("
        "t => [t.y.reduce((sum, y) => sum + Math.abs(y || 0), 0), t.visible !== false])"
    )


def test_a_value_of_the_summary_is_that_of_the_json(opened, reports):
    content = json.loads(reports["json"].read_text(encoding="utf-8"))
    shown = opened.locator('[data-key="summary.biokin.mae_deg"]').inner_text()
    assert float(shown) == pytest.approx(content["summary"]["biokin"]["mae_deg"], abs=0.0501)


def test_the_skeleton_plays_and_the_cursor_follows(opened):
    opened.locator("#view canvas").first.wait_for()
    cursor = opened.locator("#curve-hip_flexion_r .cursor")
    opened.locator("#curve-hip_flexion_r").scroll_into_view_if_needed()
    opened.wait_for_function("document.querySelector('#curve-hip_flexion_r .cursor').style.transform !== ''")
    before, start = drawn(opened), cursor.bounding_box()["x"]
    picture = opened.locator("#view").screenshot()
    opened.locator("#speed").select_option("0.25")  # slow machines: not to the end
    opened.locator("#play").click()
    assert opened.locator("#play").get_attribute("aria-label") == "Pause"
    opened.wait_for_function("player.row() > 20")
    opened.locator("#play").click()
    assert not opened.evaluate("player.playing()")
    for (now, _), (then, _) in zip(drawn(opened)[:2], before[:2], strict=True):
        assert abs(now - then) > 0.1
    assert opened.locator("#view").screenshot() != picture
    assert cursor.bounding_box()["x"] > start + 20
    row = opened.evaluate("player.row()")
    assert opened.locator("#clock").inner_text() == f"{row / 30:.2f} s"


def test_the_keyboard_plays_steps_and_turns(opened):
    opened.evaluate("player.seek(0.5)")
    view = opened.locator("#view")
    view.focus()
    opened.keyboard.press(".")
    assert opened.evaluate("player.row()") == 16
    opened.keyboard.press(",")
    assert opened.evaluate("player.row()") == 15
    eye = "document.getElementById('view').layout.scene.camera.eye"
    before = opened.evaluate(eye)
    opened.keyboard.press("ArrowRight")
    after = opened.evaluate(eye)
    assert np.hypot(after["x"], after["y"]) == pytest.approx(np.hypot(before["x"], before["y"]))
    assert abs(after["x"] - before["x"]) > 0.05
    opened.keyboard.press(" ")
    assert opened.evaluate("player.playing()")
    opened.keyboard.press(" ")
    assert not opened.evaluate("player.playing()")


def test_a_backend_can_be_hidden_in_curves_and_3d(opened):
    button = opened.get_by_role("button", name="biokin")
    chart = "document.querySelector('#curve-hip_flexion_r .chart').data.map(t => t.visible !== false)"
    assert opened.evaluate(chart) == [True, True, True]
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    opened.wait_for_function("charts.every(c => !c.stale)")
    assert opened.evaluate(chart) == [True, False, False]  # the difference needs both
    assert [seen for _, seen in drawn(opened)] == [True, False, True]  # the last is the floor
    button.click()
    opened.wait_for_function("charts.every(c => !c.stale)")
    assert opened.evaluate(chart) == [True, True, True]


def test_a_link_goes_to_the_moment_that_it_speaks_of(opened, reports):
    content = json.loads(reports["json"].read_text(encoding="utf-8"))
    worst = content["coordinates"]["hip_flexion_r"]["metrics"]["biokin"]["worst_time"]
    opened.locator(".look a[href='#curve-hip_flexion_r']").first.click()
    assert opened.evaluate("player.now()") == pytest.approx(worst, abs=1e-3)
    assert opened.evaluate("location.hash") == "#curve-hip_flexion_r"


def test_print_shows_all_figures_and_no_controls(opened):
    opened.emulate_media(media="print")
    try:
        assert not opened.locator("#view").is_visible() and not opened.locator("#play").is_visible()
        assert opened.locator("#strip svg").is_visible()
        figures = opened.locator("[data-chart]")
        count = figures.count()
        assert count > 10 and opened.locator("[data-chart] .main-svg:first-child").count() == count
    finally:
        opened.emulate_media(media="screen")


def test_the_video_side_by_side_plays(browser, reports):
    page = browser.new_page()
    page.set_content("<video muted></video>")
    if not page.evaluate("document.querySelector('video').canPlayType('video/mp4; codecs=\"avc1.64001F\"')"):
        pytest.skip("this browser has no H.264")
    page.goto(reports["video"].as_uri())
    page.wait_for_function("document.querySelector('video').readyState >= 2", timeout=TIMEOUT_MS)
    size = page.evaluate(
        "[document.querySelector('video').videoWidth, document.querySelector('video').duration]"
    )
    assert size == [640, pytest.approx(2.0, abs=0.05)]
    page.close()


@pytest.mark.parametrize("which", ["comparison", "trial", "session"])
def test_no_accessibility_violation_and_nothing_wider_than_the_screen(browser, reports, opened, which):
    from axe_playwright_python.sync_playwright import Axe

    other = None if which == "comparison" else Opened(browser, reports[which])
    page = other.page if other else opened
    for width, height in ((1280, 900), (390, 844)):  # a desktop and a phone
        page.set_viewport_size({"width": width, "height": height})
        found = Axe().run(page).response["violations"]
        assert not [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found], width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    if other:
        other.close()
