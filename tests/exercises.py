"""What the check of every Your-turn cell owes its reader."""


def broken(*arguments):
    """Raise an error with two lines, as a reader's function may."""
    raise KeyError("a\nb")


NONSENSE = (lambda *a: None, lambda *a: ..., broken, lambda *a: [], lambda *a: "x", 3, lambda: 1)


def assert_verdict(check, answer, verdict, hint, capsys):
    """`check(answer)` prints one line, which starts with the `verdict` and holds the `hint`."""
    check(answer)
    out = capsys.readouterr().out
    assert out.startswith(f"{verdict}:") and out.count("\n") == 1, out
    assert hint in out


def assert_never_raises(check, capsys, values=()):
    """A stub, an error, nonsense, and functions that return one of `values` get `not yet` in one line."""
    for answer in [*NONSENSE, *(lambda *a, value=value: value for value in values)]:
        assert_verdict(check, answer, "not yet", "", capsys)
