from __future__ import annotations

from threading import Thread

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


def test_the_progress_of_one_thread_is_shown_elsewhere() -> None:
    told: list[tuple[str, object]] = []

    class Bar:
        task_ids = (0,)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            told.append(("end", None))

        def add_task(self, label: str, total: int | None, waits_for: str) -> int:
            told.append((label, total))
            return 0

        def update(self, _: int, **values: object) -> None:
            told.append(("update", values.get("advance", values.get("waits_for"))))

    def work() -> None:
        console.shown_by.set(Bar())
        with console.progress("photos", 3) as advance:
            advance(2)
            with console.waiting_for("the network"):
                advance()

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert told == [
        ("photos", 3),
        ("update", 2),
        ("update", "the network"),
        ("update", 1),
        ("update", ""),
        ("end", None),
    ]
    with console.progress("photos", 3) as advance:
        advance()
    assert len(told) == 6, "the other threads are not shown there"
