import pytest

from ensembler.predictions import chunks
from ensembler.predictions.chunks import ChunkedLogits


@pytest.fixture(autouse=True)
def of_four_images(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 4)


def begin(tmp_path):
    return ChunkedLogits.open(tmp_path / "work" / "logits.npy", 2, (6, 5), 3)


def fill(found, start):
    found.array[:, start : found.starts[start]] = start + 1
    found.keep(start, 0.5)


def test_no_chunk_lies_in_two_parts(tmp_path):
    assert begin(tmp_path).starts == {0: 4, 4: 6, 6: 10, 10: 11}


def test_whole_chunks_are_there_when_it_is_opened_again(tmp_path):
    first = begin(tmp_path)
    fill(first, 0)
    fill(first, 6)
    again = begin(tmp_path)
    assert again.seconds == {0: 0.5, 6: 0.5}
    assert not again.is_whole
    assert (again.array[:, :4] == 1).all()
    fill(again, 4)
    fill(again, 10)
    assert begin(tmp_path).is_whole


def test_a_chunk_that_is_not_what_its_line_says_is_predicted_again(tmp_path):
    first = begin(tmp_path)
    fill(first, 0)
    fill(first, 4)
    first.array[1, 5, 2] = 99
    assert set(begin(tmp_path).seconds) == {0}


def test_a_line_cut_short_spoils_neither_those_before_it_nor_the_next(tmp_path):
    first = begin(tmp_path)
    fill(first, 0)
    with first.log_path.open("a") as log:
        log.write('{"row": 4, "sha')
    second = begin(tmp_path)
    assert set(second.seconds) == {0}
    fill(second, 6)
    assert set(begin(tmp_path).seconds) == {0, 6}


def test_lines_about_rows_that_no_chunk_begins_with_do_not_count(tmp_path):
    first = begin(tmp_path)
    first.log_path.write_text('{"row": 3, "sha256": "x"}\n[]\n{"seconds": 1}\n')
    assert begin(tmp_path).seconds == {}
