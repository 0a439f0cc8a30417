import pytest

from ensembler.reporting.tables import Table, duration, html_of, number


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_a_duration_is_told_in_the_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_a_figure_that_there_is_none_of_is_a_dash():
    assert [number(v) for v in (0.123456, None, float("nan"), float("inf"))] == [
        "0.1235",
        "-",
        "-",
        "-",
    ]


TABLE = Table(
    "a < b",
    ("name", "score", "rows"),
    (("first", 0.12345, 7), ("<second>", None, 0)),
    notes=("one & two",),
    best=(1,),
)


def test_cells_are_text_counts_and_figures():
    assert TABLE.texts() == [["first", "0.1235", "7"], ["<second>", "-", "0"]]


def test_a_notebook_shows_the_same_cells_and_no_markup_of_names():
    html = TABLE._repr_html_()
    assert "<caption>a &lt; b</caption>" in html
    assert "<tr><td>first</td><td>0.1235</td><td>7</td></tr>" in html
    assert '<tr style="font-weight: bold"><td>&lt;second&gt;</td><td>-</td>' in html
    assert html.endswith("<p>one &amp; two</p>")
    assert html_of([TABLE, TABLE]) == html + html
