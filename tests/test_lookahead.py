"""Jobs run ahead of their consumer by a bounded number, and their results come in order."""

from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaussad_cli.lookahead import Together, look_ahead


def done(value):
    future = Future()
    future.set_result(value)
    return future


@given(items=st.lists(st.integers(), max_size=12), ahead=st.integers(0, 15))
def test_every_item_comes_with_its_result_in_order(items, ahead):
    assert list(look_ahead(items, lambda item: done(2 * item), ahead)) == [(item, 2 * item) for item in items]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_no_more_jobs_than_allowed_are_under_way(ahead):
    submitted, taken, under_way = [], [], []

    def submit(item):
        submitted.append(item)
        under_way.append(len(submitted) - len(taken))
        return done(item)

    for item, _ in look_ahead(range(9), submit, ahead):
        assert len(submitted) == min(item + ahead + 1, 9)
        taken.append(item)
    assert max(under_way) == ahead + 1


def test_without_looking_ahead_an_item_is_asked_for_after_its_predecessors_result():
    events = []

    def items():
        for item in range(3):
            events.append(f"asked for {item}")
            yield item

    for item, _ in look_ahead(items(), done, 0):
        events.append(f"took {item}")
    assert events == ["asked for 0", "took 0", "asked for 1", "took 1", "asked for 2", "took 2"]


def test_what_a_job_raises_comes_in_the_place_of_its_result():
    results = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        for _, result in look_ahead([1, 2, 0, 4], lambda item: pool.submit(lambda: 4 // item), 2):
            results.append(result)
    assert results == [4, 2]


def test_several_jobs_together_are_one_job():
    assert Together([done(1), done(2)]).result() == [1, 2]
