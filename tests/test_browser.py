"""The report in a real browser: `pytest -m browser`, with Chromium and the extra `browser`."""

import shutil
from pathlib import Path

import pytest
from report_study import make_record, study_keys, write_features, write_study

from twostage_jax.report import write_report
from twostage_jax.report.results import read_results
from twostage_jax.study.figure_data import choose_images, write_figure_data

pytestmark = pytest.mark.browser

KEYS = study_keys(("linear", "half_minority"), (1.0, 2.0, 10.0), folds=3)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, small_image_set) -> Path:
    folder = write_study(tmp_path_factory.mktemp("study"), KEYS, [make_record(k) for k in KEYS])
    write_features(folder, KEYS[-1])
    settings_hash = read_results(folder).description.settings_hash
    write_figure_data(folder, choose_images(small_image_set, settings_hash, (0, 1)))
    return write_report(folder)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The system's; without one, the browser that Playwright has installed.
        system = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=system, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, page_file):
    """Opens the page at a width; returns it, the console's messages and the requested URLs."""
    pages = []

    def open_page(width=1280):
        page = browser.new_page(viewport={"width": width, "height": 800})
        pages.append(page)
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        return page, said, asked

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_opens_without_errors_or_network_and_fits_the_width(open_page, page_file, width):
    page, said, asked = open_page(width)
    page.wait_for_load_state("networkidle")
    for summary in page.locator("summary").all():
        summary.click()
    assert said == []
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file")] == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.locator("figure img").evaluate_all("all => all.map(i => i.naturalWidth)")
    assert len(drawn) == 19
    assert all(drawn)
    assert page_file.stat().st_size < 5e6


def column(page, table, index):
    return page.locator(f"#table-{table} tbody tr td:nth-child({index})").all_inner_texts()


def test_a_click_sorts_and_another_turns_round(open_page):
    page, said, _ = open_page()
    before = column(page, "table2", 2)
    head = page.locator("#table-table2 th").nth(1)
    head.get_by_role("button").click()
    up = column(page, "table2", 2)
    assert head.get_attribute("aria-sort") == "ascending"
    assert up == sorted(before, key=lambda text: float(text.split()[0])) != before
    head.get_by_role("button").click()
    assert column(page, "table2", 2) == up[::-1]
    # By name; the order before is not alphabetical.
    page.locator("#table-table2 th").first.get_by_role("button").click()
    names = column(page, "table2", 1)
    assert names == sorted(names, key=str.lower)
    assert names != up
    assert said == []


def test_keys_sort_as_clicks_do_and_what_is_absent_stands_last(open_page):
    page, said, _ = open_page()
    page.evaluate(
        """() => {
          const rows = document.querySelector("#table-table2").tBodies[0].rows;
          rows[0].cells[1].textContent = "-";
          rows[2].cells[1].textContent = "1,000.5 (1.00)";
          rows[3].cells[0].textContent = "-";
        }"""
    )
    head = page.locator("#table-table2 th").nth(1)
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, "table2", 2)[-2:] == ["1,000.5 (1.00)", "-"]
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert [column(page, "table2", 2)[i] for i in (0, -1)] == ["1,000.5 (1.00)", "-"]
    for _ in range(2):
        page.locator("#table-table2 th").first.get_by_role("button").click()
        assert column(page, "table2", 1)[-1] == "-"
    assert said == []


def test_long_tables_are_filtered_by_words(open_page):
    page, said, _ = open_page()
    page.locator("#data-nemenyi summary").click()
    box = page.locator("#data-nemenyi").get_by_role("searchbox", name="Rows with")
    rows = page.locator("#table-nemenyi tbody tr:visible")
    every = rows.count()
    assert every > 12
    box.fill("RUS avacc")
    texts = rows.all_inner_texts()
    assert 0 < len(texts) < every
    assert all("RUS" in text and "AvAcc" in text for text in texts)
    assert page.locator("#data-nemenyi output").inner_text() == f"{len(texts)} of {every}"
    page.locator("#table-nemenyi th").nth(2).get_by_role("button").click()
    assert sorted(rows.all_inner_texts()) == sorted(texts), "sorting shows no other rows"
    box.fill("no such row")
    assert rows.count() == 0
    box.fill("")
    assert rows.count() == every
    # Short tables and the confusion matrix have no box.
    assert page.locator("#data-table2 input, #confusion input").count() == 0
    assert said == []


def test_without_scripts_all_tables_are_there(browser, page_file):
    page = browser.new_page(java_script_enabled=False)
    page.goto(page_file.as_uri())
    assert page.locator("#table-table2 tbody tr").count() == 9
    assert page.locator("#table-confusion tbody tr").count() == 8
    assert page.locator("input").count() == 0, "no box that does nothing"
    page.locator("#data-nemenyi summary").click()
    assert page.locator("#table-nemenyi").is_visible()
    page.close()


def choose(page, name, label):
    page.locator(f'select[name="{name}"]').select_option(label=label)


def matrix(page):
    cells = page.locator("#table-confusion tbody td.number").all_inner_texts()
    return list(map(int, cells))


def test_the_reader_chooses_a_confusion_matrix(open_page, page_file):
    page, said, _ = open_page()
    results = read_results(page_file.parents[1])
    matrices = {"imbalanced": results.imbalanced.matrices, "balanced": results.balanced.matrices}

    def expected(test, approach, scenario, ratio, folds=range(3)):
        keys = [key for key in matrices[test] if key.fold in folds]
        wanted = (approach, scenario, ratio)
        own = [k for k in keys if (k.approach, k.scenario, k.ratio) == wanted]
        return sum(matrices[test][key] for key in own).ravel().tolist()

    assert matrix(page) == expected("imbalanced", "ts_smote_rus", "linear", 2.0)
    choose(page, "approach", label="FS ROS")
    assert matrix(page) == expected("imbalanced", "fs_ros", "linear", 2.0)
    choose(page, "cell", label="half minority, ratio 10")
    assert matrix(page) == expected("imbalanced", "fs_ros", "half_minority", 10.0)
    choose(page, "fold", label="2")
    choose(page, "test", label="balanced")
    assert matrix(page) == expected("balanced", "fs_ros", "half_minority", 10.0, [2])
    title = page.locator("#confusion-title").inner_text()
    assert title == "FS ROS, half minority, ratio 10, fold 2, balanced test fold"
    assert "training images" in column(page, "confusion", 1)[0]
    # After a new choice, sorted rows are in the order of the classes again.
    page.locator("#table-confusion th").nth(3).get_by_role("button").click()
    choose(page, "approach", label="Baseline")
    assert matrix(page) == expected("balanced", "baseline", "half_minority", 10.0, [2])
    assert said == []


def test_a_choice_that_an_approach_lacks_falls_back(open_page):
    """Only the baseline is trained on the balanced partition."""
    page, said, _ = open_page()
    choose(page, "approach", label="Baseline")
    choose(page, "cell", label="original, ratio 1")
    choose(page, "approach", label="IS RUS")
    shown = page.locator("#confusion-title").inner_text()
    assert shown == "IS RUS, linear, ratio 2, all folds, imbalanced test fold"
    assert said == []


def test_on_paper_nothing_is_cut(open_page, tmp_path):
    page, _, _ = open_page()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 1000})  # A4 less its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    assert not page.locator(".choices").is_visible()
    assert page.locator("#table-confusion").is_visible()
    assert len(page.pdf(format="A4")) > 10_000
