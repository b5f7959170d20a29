"""Write docs/reference/ from help texts, tables and docstrings: ``python docs/reference.py [--check]``."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from regraft.reporting.documents import DOCUMENTS

FOLDER = Path(__file__).parent / "reference"


def command_line() -> str:
    """The page of ``regraft``."""
    from regraft.cli.verbs import VERBS

    verbs = list(VERBS)
    parts = ["# Command line", "", "Made by `python docs/reference.py` from `--help`; not to be edited.", ""]
    for verb in ("", *verbs):
        parts += [f"## regraft {verb}".rstrip(), "", "```", _help(verb).strip(), "```", ""]
    return "\n".join(parts)


def old_commands() -> str:
    """The page of the classic commands: every flag with its default."""
    from regraft.compat import COMMANDS

    parts = [
        "# Old commands",
        "",
        "Made by `python docs/reference.py` from their tables of flags; not to be edited.",
        "",
    ]
    for name in COMMANDS:
        module = import_module(f"regraft.compat.{name}")
        rows = [
            f"| `--{flag.name}` | `{flag.default!r}` | {flag.does}{'; ' if flag.changed else ''}{flag.changed} |"
            for flag in module.FLAGS
        ]
        about = (module.__doc__ or "").splitlines()[0].replace("``", "`")
        parts += [f"## regraft-{name.replace('_', '-')}", "", about, "", "| flag | default | here |", "|---|---|---|"]
        parts += [*rows, ""]
    return "\n".join(parts)


def schema_file(command: str) -> str:
    """The name of the file of a command's schema."""
    return f"{re.sub('[ -]+', '-', command.lower())}.json"


def schema_of(command: str) -> str:
    """The JSON Schema of what ``--json`` prints."""
    from regraft.foundation.records import json_schema

    schema = {"title": f"regraft {command} --json", **json_schema(DOCUMENTS[command])}
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


def python_api() -> str:
    """The page of the public names. Sphinx fills in their signatures and docstrings (autodoc)."""
    import regraft

    found = {name: getattr(regraft, name) for name in regraft.__all__ if name != "__version__"}
    functions = {name: each for name, each in found.items() if inspect.isfunction(each)}
    errors = {name: each for name, each in found.items() if inspect.isclass(each) and issubclass(each, Exception)}
    classes = {name: each for name, each in found.items() if name not in functions and name not in errors}
    parts = ["# Python", "", "Made by `python docs/reference.py` from the docstrings; not to be edited.", ""]
    parts += [
        "These are the public names. Each is imported when it is first used: `import regraft` loads no framework.",
        "Signatures and whole docstrings are on the site that `scripts/docs` builds, and in `help(regraft.train)`.",
        "",
    ]
    for title, kind, members in (
        ("Functions", "autofunction", functions),
        ("Classes", "autoclass", classes),
        ("Errors", "autoexception", errors),
    ):
        parts += [f"## {title}", "", "| name | what it is |", "|---|---|"]
        parts += [f"| `regraft.{name}` | {_first_line(each)} |" for name, each in members.items()]
        parts += ["", "```{eval-rst}"]
        for name in members:
            parts += [f".. {kind}:: regraft.{name}", *(["   :members:"] if kind == "autoclass" else []), ""]
        parts += ["```", ""]
    return "\n".join(parts)


def configuration() -> str:
    """The page of all options: the public dataclasses of regraft.config, in the groups of the command line's help."""
    import regraft

    parts = [
        "# Configuration",
        "",
        "Made by `python docs/reference.py` from `regraft.config`; not to be edited.",
        "",
        "An option has the same name and default everywhere: as a field of a dataclass in Python, as a key of a TOML",
        "file (`--config`), and as a flag, where `_` becomes `-`. Flags win over the file. Unknown keys and wrong",
        "types are errors. A file for `sweep` has the tables `[train]` and `[finetune]`, for what all trials share.",
        "",
    ]
    for name in (name for name in regraft.__all__ if name.endswith("Config")):
        config = getattr(regraft, name)
        parts += [f"## {name}", "", _first_line(config)]
        if shared := config is not regraft.FeatureConfig and issubclass(config, regraft.FeatureConfig):
            parts += ["", "It also has all options of `FeatureConfig`."]
        groups: dict[str, list[str]] = {}
        for field in fields(config):
            if not (shared and field.name in regraft.FeatureConfig.__dataclass_fields__):
                groups.setdefault(_heading(config, field.name), []).append(_row(config, field))
        for heading, rows in groups.items():
            parts += ["", f"### {name}: {heading}", "", "| option | meaning |", "|---|---|"]
            parts += rows
        parts += [""]
    parts += ["## Environment", "", "| variable | meaning |", "|---|---|"]
    parts += ["| `REGRAFT_CACHE` | the cache folder, in place of the one that the platform has for each user |"]
    parts += ["| `REGRAFT_CACHE_LIMIT` | the largest size of the cache, such as `20GB`; by default there is no limit |"]
    parts += ["| `REGRAFT_TOKEN` | the token of `regraft serve`, in place of `--token` |", ""]
    return "\n".join(parts)


def run_folder() -> str:
    """The page of the files in a run folder: the fields of `Layout` and its docstring."""
    from regraft.classifiers.run_folder import LAYOUT, SCHEMA, Layout

    about = inspect.getdoc(Layout) or ""
    listed = re.findall(r"^    ([\w, ]+): (.+(?:\n {8}.+)*)", about.partition("Attributes:")[2], re.MULTILINE)
    parts = [
        "# Run folder",
        "",
        "Made by `python docs/reference.py` from `regraft.classifiers.run_folder.Layout`; not to be edited.",
        "",
        f"A run folder is what `train` and `finetune` write. Its layout has the schema {SCHEMA}, which `manifest.json`",
        "names; older schemas are still read. Nothing in it is pickled. The folder can be moved and copied as a whole.",
        "",
        "| file or folder | what it holds |",
        "|---|---|",
    ]
    for names, meaning in listed:
        files = ", ".join(f"`{getattr(LAYOUT, name.strip())}`" for name in names.split(","))
        parts += [f"| {files} | {_code(' '.join(meaning.split()))} |"]
    return "\n".join([*parts, ""])


def _row(config: type[Any], field: Any) -> str:
    from regraft.cli.arguments import field_docs

    kind = str(field.type).removeprefix("Literal[").removesuffix("]").replace("'", "")
    kind = "quick, balanced, thorough" if kind == "Effort" else kind.replace(" | ", " or ")
    default = "none" if field.default is None else f"`{field.default!r}`".replace("'", '"')
    # Two columns fit a phone; four hid the meaning beyond its edge.
    return f"| `{field.name}`<br>{kind}<br>default {default} | {field_docs(config)[field.name]} |".replace("``", "`")


def _heading(config: type[Any], name: str) -> str:
    """The heading of the class that defines a field."""
    owner = next(base for base in config.__mro__ if name in vars(base).get("__annotations__", {}))
    return str(vars(owner)["heading"])


def _first_line(each: Any) -> str:
    return _code((inspect.getdoc(each) or "").partition("\n\n")[0].replace("\n", " "))


def _code(text: str) -> str:
    """Docstrings write code between two backticks, Markdown between one; a vertical line would end a cell."""
    return text.replace("``", "`").replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": command_line,
    "old-commands.md": old_commands,
    "python.md": python_api,
    "configuration.md": configuration,
    "run-folder.md": run_folder,
    **{f"schemas/{schema_file(name)}": partial(schema_of, name) for name in DOCUMENTS if name != "demo"},
}


def _help(verb: str) -> str:
    command = [sys.executable, "-m", "regraft", *([verb] if verb else []), "--help"]
    environment = {**os.environ, "COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def main() -> None:
    """Write the pages, or with ``--check`` only tell whether they are current."""
    (FOLDER / "schemas").mkdir(parents=True, exist_ok=True)
    for name, text in PAGES.items():
        path = FOLDER / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text(), encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text():
            sys.exit(f"{path} is not current; type: scripts/fix")


if __name__ == "__main__":
    main()
