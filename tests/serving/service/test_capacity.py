import time

import pytest

from glasshouse.serving.service.capacity import Capacity, Full


def test_capacity_is_released_whatever_happens() -> None:
    capacity = Capacity(3, 100)
    with pytest.raises(RuntimeError), capacity.enter() as slot:
        slot.grow(images=3, size=100)
        assert (capacity.images, capacity.bytes) == (3, 100)
        raise RuntimeError
    assert (capacity.images, capacity.bytes) == (0, 0)


def test_a_request_beyond_the_capacity_is_rejected_and_takes_nothing() -> None:
    capacity = Capacity(2, 100)
    with capacity.enter() as slot:
        assert capacity.images == 0
        with pytest.raises(Full):
            slot.grow(images=3)
        with pytest.raises(Full):
            slot.grow(size=101)
        slot.grow(images=2)
        with pytest.raises(Full) as full, capacity.enter():
            pass
        assert full.value.retry_after >= 1
        assert (capacity.images, capacity.bytes) == (2, 0)
    assert capacity.images == 0


def test_retry_after_follows_from_the_recent_throughput() -> None:
    capacity = Capacity(1000, 0)
    assert capacity.retry_after() == 1
    for _ in range(3):
        with capacity.enter() as slot:
            slot.grow(images=1)
    with capacity.enter():
        pass  # one without an image says nothing about the throughput
    capacity.images = 1000
    assert 1 <= capacity.retry_after() <= 60


def test_the_throughput_is_measured_from_the_first_of_the_recent_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    capacity = Capacity(100, 100)
    for moment in (0.0, 5.0):
        now[0] = moment
        with capacity.enter() as slot:
            slot.grow(images=4)
    now[0], capacity.images = 10.0, 8
    assert capacity.retry_after() == 10
