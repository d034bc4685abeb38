"""The tree of errors, as the module docstring shows it."""

from __future__ import annotations

import inspect

from api_shared import errors


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    shown = []
    ancestors: list[str] = []
    for line in (inspect.getdoc(errors) or "").splitlines():
        indent, name = len(line) - len(line.lstrip()), line.strip()
        if indent and name:
            del ancestors[indent // 4 - 1 :]
            shown.append((name, ancestors[-1] if ancestors else "Exception"))
            ancestors.append(name)
    classes = [
        (each.__name__, ", ".join(base.__name__ for base in each.__bases__))
        for each in vars(errors).values()
        if inspect.isclass(each) and each.__module__ == errors.__name__
    ]
    assert shown == classes
    assert classes, "the module has errors"


def test_a_message_of_a_wrong_option_has_its_name_its_value_and_the_way_out() -> None:
    error = errors.InvalidOption("priority", 11, "must be a whole number from 0 to 10")
    assert str(error) == "priority=11: must be a whole number from 0 to 10"
