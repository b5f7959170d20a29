from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from regraft.cli.arguments import UsageError, Verb, field_docs, given, parse


@dataclass(frozen=True)
class Base:
    loud: bool = False
    """Say more."""


@dataclass(frozen=True)
class Options(Base):
    count: int = 3
    """How many,
    all told: 100 %."""

    kind: Literal["a", "b"] = "a"
    """Which."""

    out: Path | None = None
    """Where to."""

    share: float = 0.5
    """How much."""

    brief: bool = field(default=False, metadata={"short": "-b"})
    """Say less."""

    name: tuple[str, ...] = field(default=(), metadata={"metavar": "NAME=PATH"})
    """One more."""


VERBS = {
    "act": Verb(
        run="builtins:int",
        example="prog act x",
        about="""Do it.

        At length and
        in paragraphs: ~/.local/share/bash-completion""",
        positionals=(("what", "things", "+"),),
        options=(f"{__name__}:Options",),
    )
}


def read(*tokens: str) -> Any:
    return parse("prog", "A program.", lambda: "1.2", VERBS, tokens)[1]


def test_a_flag_of_several_texts_may_be_given_several_times() -> None:
    assert given(read("act", "x", "--name", "a=b", "--name=c=d"), Options) == {"name": ("a=b", "c=d")}
    with pytest.raises(UsageError, match="--name"):
        given(read("act", "x", "--name", "a", "--name", "\udc80"), Options)
    with pytest.raises(UsageError, match="empty"):
        read("act", "x", "--name", "")


def test_flags_are_fields_and_only_those_given_are_told() -> None:
    found = read("act", "x", "y", "--count", "5", "--out", "a b", "--loud")
    assert found.what == ["x", "y"]
    assert given(found, Options) == {"count": 5, "out": Path("a b"), "loud": True}
    assert given(read("act", "x"), Options) == {}


@pytest.mark.parametrize("value", ["-1", "-.5", "-1..1"])
def test_a_value_may_begin_with_a_minus(value: str) -> None:
    assert given(read("act", "x", "--out", value), Options) == {"out": Path(value)}


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["atc", "x"], "unknown command 'atc': did you mean 'act'?"),
        (["act"], "WHAT"),
        (["act", "x", "--count", "many"], "invalid int value: 'many'"),
        (["act", "x", "--kind", "c"], "there is a, b"),
        (["act", "x", "--coun", "1"], "unknown flag --coun: did you mean --count? type: prog act --help"),
        (["act", "--coun=1"], "unknown flag --coun: did you mean --count?"),
        (["act", "x", "--zzz"], "unknown flag --zzz; type: prog act --help"),
        (["--loud", "act", "x"], "--loud stands after act, as in: prog act … --loud"),
        (["--zzz"], "unknown flag --zzz; type: prog --help"),
        (["act", ""], "argument WHAT: an empty text; wanted a path or a name"),
        (["act", "x", "--out", ""], "argument --out: an empty text"),
        (["act", "x", "--share", "nan"], "argument --share: nan is no finite number"),
    ],
)
def test_what_is_not_understood_is_a_usage_error(tokens: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(*tokens)
    assert message in str(raised.value)


def test_no_arguments_print_help_and_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        read()
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "COMMAND" in err


def test_what_begins_with_a_dash_can_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read("act", "-", "--", "-x.jpg", "--loud").what == ["-", "-x.jpg", "--loud"]
    assert read("act", "x", "--count", "-5").count == -5
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-x.jpg").touch()
    with pytest.raises(UsageError, match=r"unknown flag -x.jpg; the file of that name is typed ./-x.jpg"):
        read("act", "-x.jpg")


def test_a_flag_may_have_a_short_form() -> None:
    assert given(read("act", "x", "-b"), Options) == {"brief": True}


def test_help_is_made_from_the_doc_strings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    with pytest.raises(SystemExit):
        read("act", "--help")
    shown = capsys.readouterr().out
    assert "\nDo it.\n\nAt length and in paragraphs:\n~/.local/share/bash-completion\n\n" in shown
    text = " ".join(shown.split())
    for part in ("How many, all told: 100 %. [default: 3]", "--kind a|b", "Say more."):
        assert part in text
    assert field_docs(Options)["loud"] == "Say more."
