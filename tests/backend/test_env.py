"""Reading settings from the environment."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from backend.env import Env


def test_booleans_have_words_and_nothing_else() -> None:
    env = Env({"A": "true", "B": " No ", "C": "", "D": "ture"})
    assert env.boolean("A", default=False) is True
    assert env.boolean("B", default=True) is False
    assert env.boolean("C", default=True) is True
    assert env.boolean("MISSING", default=True) is True
    with pytest.raises(ImproperlyConfigured, match=r"D='ture' is not a boolean: use true or false"):
        env.boolean("D", default=False)


def test_numbers_are_whole_and_large_enough() -> None:
    env = Env({"A": "60", "B": "1.5", "C": "-1", "D": " "})
    assert env.integer("A", default=1) == 60
    assert env.integer("D", default=7) == 7
    for name, words in (("B", "not a whole number"), ("C", "too small: at least 0")):
        with pytest.raises(ImproperlyConfigured, match=words):
            env.integer(name, default=1)


def test_choices_are_named_when_one_is_wrong() -> None:
    assert Env({"LOG_LEVEL": "debug"}).choice("LOG_LEVEL", "INFO", {"DEBUG", "INFO"}) == "DEBUG"
    with pytest.raises(ImproperlyConfigured, match="'LOUD' is not one of DEBUG, INFO"):
        Env({"LOG_LEVEL": "LOUD"}).choice("LOG_LEVEL", "INFO", {"DEBUG", "INFO"})


def test_lists_are_split_at_commas() -> None:
    assert Env({"HOSTS": " a.example, ,b.example,"}).listing("HOSTS") == ["a.example", "b.example"]
    assert Env({}).listing("HOSTS") == []
