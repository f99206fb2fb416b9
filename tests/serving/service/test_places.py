import pytest

from glasshouse.serving.service.capacity import Capacity, Full


def test_places_are_given_back_whatever_happens() -> None:
    places = Capacity(3, 100)
    with pytest.raises(RuntimeError), places.enter() as place:
        place.grow(images=2, size=100)
        assert (places.images, places.bytes) == (3, 100)
        raise RuntimeError
    assert (places.images, places.bytes) == (0, 0)


def test_one_more_is_refused_and_takes_nothing() -> None:
    places = Capacity(2, 100)
    with places.enter() as place:
        with pytest.raises(Full):
            place.grow(images=2)
        with pytest.raises(Full):
            place.grow(size=101)
        place.grow(images=1)
        with pytest.raises(Full) as full, places.enter():
            pass
        assert full.value.retry_after >= 1
        assert (places.images, places.bytes) == (2, 0)
    assert places.images == 0


def test_the_wait_follows_from_the_speed_of_late() -> None:
    places = Capacity(1000, 0)
    assert places.retry_after() == 1
    for _ in range(3):
        with places.enter():
            pass
    places.images = 1000
    assert 1 <= places.retry_after() <= 60
