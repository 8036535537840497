"""What a process has read once is not asked for again, and it keeps only so much of it."""

from apps.promotions.remembered import Remembered, forget


class Asked:
    """Finds the square of a number, and keeps what it was asked for."""

    def __init__(self):
        self.keys = []

    def __call__(self, keys):
        self.keys.append(keys)
        return {key: key * key for key in keys}


def test_each_key_is_asked_for_once():
    remembered, find = Remembered(limit=10), Asked()
    assert remembered.look_up([1, 2, 1], find) == {1: 1, 2: 4}
    assert remembered.look_up([2, 3], find) == {2: 4, 3: 9}
    assert find.keys == [[1, 2], [3]]


def test_nothing_is_asked_where_all_is_known():
    remembered, find = Remembered(limit=10), Asked()
    assert remembered.look_up([], find) == {}
    remembered.look_up([1], find)
    assert remembered.look_up([1], find) == {1: 1}
    assert find.keys == [[1]]


def test_what_is_not_found_is_asked_for_again():
    remembered = Remembered(limit=10)
    assert remembered.look_up([1], lambda keys: {}) == {}
    assert remembered.look_up([1], Asked()) == {1: 1}


def test_beyond_the_limit_it_begins_anew():
    remembered, find = Remembered(limit=3), Asked()
    remembered.look_up([1, 2], find)
    assert remembered.look_up([1, 3, 4], find) == {1: 1, 3: 9, 4: 16}
    assert remembered.look_up([3, 4], find) == {3: 9, 4: 16}
    assert find.keys == [[1, 2], [3, 4]]
    remembered.look_up([1], find)
    assert find.keys[-1] == [1]


def test_it_can_forget():
    remembered, find = Remembered(limit=10), Asked()
    remembered.look_up([1], find)
    forget()
    remembered.look_up([1], find)
    assert find.keys == [[1], [1]]
