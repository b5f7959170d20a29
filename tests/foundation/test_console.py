from __future__ import annotations

from regraft.foundation import console


def test_what_is_printed_stays_on_its_line() -> None:
    assert console.printable("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert console.printable("강아지 🐶") == "강아지 🐶"
    assert console.printable(b"\xff".decode("utf-8", "surrogateescape")) == "\\udcff"


def test_a_library_is_silent(capfd) -> None:  # type: ignore[no-untyped-def]
    console.note("note")
    with console.progress("work", 10) as advance:
        advance(10)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
