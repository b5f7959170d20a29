"""The plan of the house, held against the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from regraft._files import CACHE_KINDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "regraft"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports only what stands above it. The README's tree has the same order.
CELLAR = [
    "errors",
    "_console",
    "_files",
    "_cache",
    "_signals",
    "_processes",
    "_processor",
    "_documents",
    "_claims",
    "_places",
    "_registry",
    "_address",
    "_http",
    "_fetch",
    "_inflate",
    "_tar",
    "_zip",
    "_unpack",
    "_lbfgs",
    "_tfrecord",
    "_tensorboard",
    "_channels_first",
    "_tensorflow",
    "_arguments",
    "_levels",
    "_entry",
    "_values",
    "config",
]
WALK = [
    "images",
    "sources",
    "dataset",
    "quotas",
    "unlabelled",
    "splitting",
    "backbones",
    "_compiled",
    "probe",
    "engine",
    "accelerator",
    "_feature_parts",
    "computing",
    "features",
    "distortion",
    "selection",
    "quantisation",
    "duplicates",
    "heads",
    "calibration",
    "evaluation",
    "paired",
    "card",
    "run_folder",
    "classifier",
    "prediction",
    "answer_files",
    "training",
    "activations",
    "keras_backend",
    "optimisation",
    "plots",
    "augmentation",
    "thawing",
    "begun",
    "finetuning",
    "following",
    "trials",
    "sweeping",
    "exporters",
    "asking",
    "exporting",
    "audit",
    "shards",
    "information",
]
SURFACE = [
    "_graph",
    "_preset",
    "_int8",
    "_export",
    "_trial",
    "_measure",
    "_print",
    "_options",
    "cli",
    "compat",
    "__main__",
]
ORDER = [*CELLAR, *WALK, *SURFACE]


def module(path: Path) -> str:
    """The room a file belongs to: a folder of modules is one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms a file imports, for its types alone included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "regraft":
            names = [node.module or ""] if node.module != "regraft" else [f"regraft.{a.name}" for a in node.names]
            found |= {name.split(".")[1] for name in names}
    return found


@pytest.mark.parametrize("path", [f for f in FILES if f.name != "__init__.py" or f.parent != PACKAGE], ids=str)
def test_imports_flow_one_way(path: Path) -> None:
    place = ORDER.index(module(path))
    below = {name for name in imported(path) if ORDER.index(name) > place}
    assert not below, f"{path.name} imports {below}, which stand below it"


def test_no_import_of_our_own_hides_in_a_function() -> None:
    for path in FILES:
        if path in (PACKAGE / "cli.py", PACKAGE / "__init__.py"):
            continue  # the two doors, where what is heavy is imported late
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                hidden = [n for n in ast.walk(node) if isinstance(n, ast.ImportFrom) and "regraft" in (n.module or "")]
                assert not hidden, f"{path.name}: {node.name} hides an import"


def test_files_keep_their_size() -> None:
    sizes = {path: path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert max(sizes.values()) <= 400, max(sizes, key=lambda p: sizes[p])


def test_functions_fit_on_a_screen() -> None:
    lengths, parameters = [], []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                has_doc = ast.get_docstring(node) is not None and len(node.body) > 1
                start = node.body[1 if has_doc else 0].lineno
                lengths.append((node.end_lineno or start) - start + 1)
                parameters.append(
                    len([a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")])
                )
    lengths.sort()
    parameters.sort()
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[int(0.9 * len(lengths))] <= 30
    assert parameters[int(0.9 * len(parameters))] <= 4


@pytest.mark.parametrize("name", WALK)
def test_each_room_of_the_walk_says_what_it_is(name: str) -> None:
    """What comes in, what goes out, why it exists, and the one thing that would surprise you."""
    path = PACKAGE / f"{name}.py"
    text = (path if path.exists() else PACKAGE / name / "__init__.py").read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text)) or ""
    for word in ("In: ", "Out: ", "Why: ", "Surprise: "):
        assert word in doc, f"{name} does not say {word!r}"


def test_one_module_reads_the_environment() -> None:
    """In its own code: the program beside an export, which is text here, sets what TensorFlow logs."""
    readers = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                readers.add(path.name)
    assert readers == {"_files.py"}


def test_nothing_runs_data_as_code() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(eval|exec)\(|pickle\.loads?\(|shell=True", text), path
        assert "import pickle" not in text or path.name == "_torch_file.py"


def test_the_readme_draws_the_tree_that_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme.partition("src/regraft/\n")[2].partition("```")[0]
    drawn = [line.split()[0] for line in tree.splitlines() if line.strip() and not line.strip().startswith("—")]
    there = {str(p.relative_to(PACKAGE)) for p in FILES}
    assert sorted(drawn) == sorted(there)
    rooms = list(dict.fromkeys(Path(name).parts[0].removesuffix(".py") for name in drawn))
    assert rooms == ["__init__", *ORDER]


def test_the_cache_holds_no_other_kinds_than_are_listed() -> None:
    """`regraft info cache` counts and clears the kinds of `CacheKind` alone."""
    for path in FILES:
        found = re.findall(r"cache_folder\(\) / \"(\w+)\"", path.read_text(encoding="utf-8"))
        assert set(found) <= set(CACHE_KINDS), path
