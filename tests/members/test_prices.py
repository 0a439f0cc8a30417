"""Prices: what folds that were trained tell of later ones, and what is kept of them."""

import pytest

from ensembler.members.price_record import (
    MeasuredBlend,
    MeasuredFold,
    PriceFile,
    PriceRecord,
)
from ensembler.members.prices import (
    Price,
    PriceList,
    Seconds,
    Workload,
    price_of_folds,
    timed_price,
)


def fold(row=0.01, prediction=0.001, around=3.0):
    return MeasuredFold(row=row, prediction=prediction, around=around)


def test_a_fold_is_priced_in_proportion_to_epochs_rows_and_predictions():
    price = price_of_folds([fold(0.01), fold(0.01), fold(0.01)])
    work = Workload(epochs=10, rows=200, predictions=500)
    assert price.training(work).expected == pytest.approx(20.0)
    assert price.predicting(work).expected == pytest.approx(3.5)
    assert price.fold(work).expected == pytest.approx(23.5)
    assert price.source == "earlier folds"


def test_the_spread_is_at_least_fifteen_per_cent_and_what_was_seen():
    steady = price_of_folds([fold(), fold()])
    assert steady.off == (0.85, 1.15)
    shaky = price_of_folds([fold(row) for row in (0.005, 0.01, 0.01, 0.01, 0.02)])
    assert shaky.off[0] < 0.7
    assert shaky.off[1] > 1.5


def test_a_resumed_fold_says_nothing_of_what_is_around():
    price = price_of_folds([fold(around=None), fold(around=5.0)])
    assert price.around == 5.0


def test_timed_batches_are_less_certain_than_folds():
    low, high = timed_price(fold()).off
    assert low < 0.85
    assert high > 1.15


def test_seconds_add_up():
    assert Seconds(1, 0, 2) + Seconds(10, 5, 20) == Seconds(11, 5, 22)


def test_the_latest_folds_are_kept_by_machine_and_kind(tmp_path):
    file = PriceFile(tmp_path / "cache" / "prices.json")
    assert file.read() == PriceRecord()
    for n in range(25):
        file.update(lambda record, n=n: record.with_fold("here", "cnn", fold(row=n + 1.0)))
    file.update(lambda record: record.with_fold("there", "cnn", fold(row=99.0)))
    file.update(lambda record: record.with_flops("net", None))
    kept = file.read()
    assert [f.row for f in kept.folds["here"]["cnn"]] == [float(n) for n in range(6, 26)]
    assert [f.row for f in kept.folds["there"]["cnn"]] == [99.0]
    assert kept.flops == {"net": None}
    assert [path.name for path in file.path.parent.iterdir()] == ["prices.json"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"folds": 3}', '{"folds": {"a": {"b": [{}]}}}']
)
def test_an_altered_file_of_prices_is_no_foresight_and_no_error(tmp_path, content):
    path = tmp_path / "prices.json"
    path.write_text(content)
    assert PriceFile(path).read() == PriceRecord()
    PriceFile(path).update(lambda record: record.with_flops("net", 2.0))
    assert PriceFile(path).read().flops == {"net": 2.0}


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("content")
    file = PriceFile(tmp_path / "file" / "prices.json")
    file.update(lambda record: record.with_flops("net", 2.0))
    assert file.read() == PriceRecord()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "content"


def test_an_error_that_is_none_of_the_disk_is_not_passed_over(tmp_path):
    def fail(_record):
        raise ValueError("no price")

    with pytest.raises(ValueError, match="no price"):
        PriceFile(tmp_path / "prices.json").update(fail)


def test_a_blend_is_priced_by_those_of_about_its_size(tmp_path, monkeypatch):
    prices = PriceList(PriceFile(tmp_path / "prices.json"), "here")
    monkeypatch.setattr("ensembler.members.prices.cells_of", lambda _: 1000)
    supposed = prices.blending(None)
    assert supposed.high >= 4.0
    record = PriceRecord()
    for cells, seconds in ((1000, 3.0), (1000, 5.0), (1100, 4.0), (10**6, 500.0)):
        record = record.with_blend("here", MeasuredBlend(cells=cells, seconds=seconds))
    prices.record = record
    found = prices.blending(None)
    assert found.expected == pytest.approx(4.5, abs=1.0)
    assert found.high >= 2 * 5.0


def test_a_price_spreads_all_it_says():
    price = Price(0.1, 0.0, 0.0, "estimate", (0.5, 2.0))
    assert price.training(Workload(1, 10, 0)) == Seconds(1.0, 0.5, 2.0)
