"""The page, as a browser shows it: no network, no errors, filters, sorting, keyboard, phone, dark, print."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from audit_tables import write_pair
from cl_vs_mim.audit import report as page
from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.audit.commands import report
from cl_vs_mim.audit.judge import Audit
from cl_vs_mim.audit.plots import number
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.audit.simulate import table
from cl_vs_mim.audit.verdict import RULE
from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``claims.json`` of a small study and of another, figures, and the page."""
    folder = tmp_path_factory.mktemp("audit")
    write_pair(folder / "tables")
    tables = Tables(load_study(ROOT / "config" / "smoke.yaml"), folder / "tables")
    file = load_claims(ROOT / "config" / "claims.yaml")
    found = Audit(file, tables, ROOT / "results/reference/reference_values.csv").report("0" * 64, "1" * 64)
    (folder / "claims.json").write_text(found.model_dump_json())
    other = found.model_copy(update={"study": "gpu", "title": "<b>another</b>"})
    (folder / "other.json").write_text(other.model_dump_json())
    for name in ("fig3", "fig4"):
        Image.new("RGB", (1800, 900), "teal").save(folder / f"{name}.png")
    table((1, 3), (0.0, 3.0), 50, seed=0).to_csv(folder / "rates.csv")
    report(
        claims=folder / "claims.json",
        rates=folder / "rates.csv",
        figures=[folder / "fig3.png", folder / "fig4.png"],
        others=[folder / "other.json", folder / "claims.json"],
        output=folder / "report.html",
    )
    return folder


# ------------------------------------------------------------------------------------------------
# The file
# ------------------------------------------------------------------------------------------------


def test_the_file_holds_everything_and_asks_for_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:|\.\./\.\./src/)""", text), "anchors, pictures, code beside it"
    assert "@import" not in text and "url(" not in text
    assert "<b>another</b>" not in text, "what comes from a file is escaped"
    for key in load_claims(ROOT / "config" / "claims.yaml").claims:
        assert f'id="{key}"' in text
    assert "It can say neither that the paper is right nor that it is wrong" in text


def test_pictures_are_no_larger_than_the_page_shows_them(folder: Path) -> None:
    import base64
    import io

    data = page.figure_data(folder / "fig3.png")
    with Image.open(io.BytesIO(base64.b64decode(data.split(",", 1)[1]))) as image:
        assert image.size == (1500, 750)


def test_bad_input_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"picture .*none\.png cannot be read \(it does not exist\); draw it with"):
        page.figure_data(tmp_path / "none.png")
    with pytest.raises(UserError, match=r"none\.json cannot be read .* snakemake --cores all audit"):
        page.read_report(tmp_path / "none.json")
    broken = json.loads((folder / "claims.json").read_text()) | {"level": "high"}
    (tmp_path / "old.json").write_text(json.dumps(broken))
    with pytest.raises(UserError, match=r"not an audit of this version \(level: "):
        page.read_report(tmp_path / "old.json")


def test_the_rule_on_the_page_is_that_of_the_code() -> None:
    steps = page.written_rule()
    assert len(steps) == len(RULE) and steps[0].endswith("<em>not tested here</em>, and why.")
    plain = [re.sub("</?em>", "*", step) for step in steps]
    assert tuple(plain) == RULE


def test_the_contrast_that_is_shown_is_the_one_that_the_reason_speaks_of(folder: Path) -> None:
    claim = page.read_report(folder / "claims.json").claims["C9"]
    (one,) = claim.contrasts
    named = [one.model_copy(update={"name": name}) for name in ("first", "second")]
    for place, name in enumerate(("first", "second")):
        assert page.deciding(claim.model_copy(update={"contrasts": named, "decided_by": name})) == place
    assert page.deciding(claim.model_copy(update={"contrasts": [], "decided_by": ""})) is None


def test_every_reason_names_the_contrast_that_is_shown(folder: Path) -> None:
    report = page.read_report(folder / "claims.json")
    judged = [one for one in report.claims.values() if one.contrasts]
    assert judged
    for claim in judged:
        assert claim.decided_by in {one.name for one in claim.contrasts}
        assert claim.decided_by in claim.reason or claim.reason.startswith("every contrast"), claim.reason


def test_numbers_are_short_and_signed() -> None:
    assert [number(value) for value in (None, 0.0, -0.04275, 1234.5, 0.001)] == [
        "–",
        "0",
        "−0.0428",
        "1.23e+03",
        "0.001",
    ]


# ------------------------------------------------------------------------------------------------
# In a browser
# ------------------------------------------------------------------------------------------------

Browser = Callable[..., object]


@pytest.fixture(scope="module")
def browser(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Opens the page at a size; every call is a fresh load with its log emptied before."""
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("no chromium and chromedriver on this machine (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    quiet = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync", "disable-gpu")
    profile = tmp_path_factory.mktemp("profile")
    for word in ("headless=new", "no-sandbox", f"user-data-dir={profile}", *quiet):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))

    def open_page(size: tuple[int, int] = DESKTOP, dark: bool = False, at: str = "", media: str = ""):
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        driver.get("about:blank")
        for kind in ("browser", "performance"):
            driver.get_log(kind)
        driver.get((folder / "report.html").as_uri() + at)
        return driver

    try:
        yield open_page
    finally:
        driver.quit()


def shown(driver) -> list[str]:
    return driver.execute_script(
        "return [...document.querySelectorAll('tbody.claim')].filter(one => one.offsetParent).map(one => one.id)"
    )


def by_id(driver, name: str):
    return driver.find_element("id", name)


def choose(driver, name: str, words: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(by_id(driver, name)).select_by_visible_text(words)


def test_it_opens_without_errors_or_requests(browser: Browser) -> None:
    driver = browser()
    by_id(driver, "expand").click()  # every picture is shown
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url.split(":")[0] for url in asked if not url.startswith("data:")] == ["file"], (
        "the page itself, nothing else"
    )
    shown_ones = "[...document.querySelectorAll('img.figure[src]')]"
    widths = f"return Promise.all({shown_ones}.map(one => one.decode().then(() => one.naturalWidth)))"
    assert set(driver.execute_script(widths)) == {1500}


def test_filters_narrow_the_table_and_clear(browser: Browser) -> None:
    driver = browser()
    everything = shown(driver)
    by_id(driver, "search").send_keys("c7")
    assert shown(driver) == ["C7"] and by_id(driver, "shown").text == f"1 of {len(everything)} shown"
    by_id(driver, "search").send_keys("xyz")
    assert shown(driver) == [] and by_id(driver, "nothing").is_displayed()
    by_id(driver, "clear").click()
    assert shown(driver) == everything
    choose(driver, "verdict", "supported on these encoders")
    found = shown(driver)
    assert "C9" in found and 0 < len(found) < len(everything)
    choose(driver, "strength", "strong")
    assert "C9" in shown(driver) and "C6" not in shown(driver), "C6 is of medium strength"


def test_heads_sort_both_ways_with_what_is_missing_last(browser: Browser) -> None:
    driver = browser()
    button = driver.find_element("css selector", "[data-key=holm]")
    values = "return [...document.querySelectorAll('tbody.claim')].map(one => one.dataset.holm)"
    for direction in ("ascending", "descending"):
        button.click()
        assert button.find_element("xpath", "..").get_attribute("aria-sort") == direction
        found = driver.execute_script(values)
        known = [float(value) for value in found if value]
        assert known == sorted(known, reverse=direction == "descending") and len(known) > 1
        assert found[len(known) :] == [""] * (len(found) - len(known))
    driver.find_element("css selector", "[data-key=order]").click()
    assert shown(driver)[:3] == ["C1", "C2", "C3"]


def test_a_claim_opens_by_keyboard_and_by_address(browser: Browser) -> None:
    driver = browser(at="#C9")
    toggle = driver.find_element("css selector", "#C9 .toggle")
    detail = by_id(driver, "C9-detail")
    assert detail.is_displayed() and toggle.get_attribute("aria-expanded") == "true"
    assert len(detail.find_elements("css selector", ".multiverse svg")) == 1
    assert "attention/simmim_seed0" in detail.get_attribute("textContent")
    driver.execute_script("arguments[0].focus()", toggle)
    driver.switch_to.active_element.send_keys(" ")
    assert not detail.is_displayed()
    driver.switch_to.active_element.send_keys("\ue007")  # Enter
    assert detail.is_displayed()


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 640)])
def test_nothing_is_wider_than_the_window(browser: Browser, size: tuple[int, int]) -> None:
    driver = browser(size)
    by_id(driver, "expand").click()
    assert driver.execute_script("return document.documentElement.scrollWidth") <= size[0]


def test_the_other_study_stands_beside_it(browser: Browser) -> None:
    driver = browser()
    heads = [one.text for one in driver.find_elements("css selector", ".compare thead th")]
    assert heads[:3] == ["Claim", "gpu", "smoke"], "by scale, then by name; its own file given again is no other study"


def luminance(colour: str) -> float:
    red, green, blue = (int(value) / 255 for value in re.findall(r"\d+", colour)[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_their_ground(browser: Browser, dark: bool) -> None:
    """WCAG's 4.5 for the page and every badge, in light and in dark."""
    driver = browser(dark=dark)
    script = "return arguments[0].map(one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor])"
    elements = [driver.find_element("css selector", "body"), *driver.find_elements("css selector", ".badge")]
    pairs = {tuple(pair) for pair in driver.execute_script(script, elements)}
    for ink, ground in pairs:
        one, other = sorted((luminance(ink), luminance(ground)))
        assert (other + 0.05) / (one + 0.05) >= 4.5, (ink, ground)
    assert (luminance(max(pairs)[1]) < 0.5) == dark


def test_a_printer_gets_every_claim_open(browser: Browser) -> None:
    driver = browser()
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert by_id(driver, "C1-detail").is_displayed()
    pdf = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(pdf) > 50_000
