"""The plan of the house, held against the code."""

from __future__ import annotations

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path
from pkgutil import resolve_name

import pytest

from regraft.foundation.files import CACHE_KINDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "regraft"
FILES = sorted(PACKAGE.rglob("*.py"))

# A folder imports only from folders that stand above it. docs/explanation/architecture.md has the same order.
ORDER = [
    "errors",
    "foundation",
    "drawing",
    "config",
    "downloads",
    "photos",
    "data_sets",
    "label_tools",
    "backbones",
    "engines",
    "features",
    "sharding",
    "distributed",
    "heads",
    "classifiers",
    "exploring",
    "training",
    "finetuning",
    "sweeping",
    "exporting",
    "predicting",
    "reporting",
    "serving",
    "local_page",
    "cli",
    "compat",
    "__main__",
]
LINES = 1850
"""The most lines of code, without blank lines, comments and docstrings, of a folder with all that is in it."""

WALK = [
    "photos/images",
    "photos/sources/base",
    "photos/dataset",
    "photos/quotas",
    "photos/unlabelled",
    "photos/splitting",
    "features/duplicates",
    "label_tools/label_files",
    "label_tools/writing",
    "label_tools/corrections",
    "label_tools/correction_table",
    "backbones/base",
    "engines/compiled",
    "engines/probe",
    "engines/openvino",
    "engines/jax",
    "engines/int8",
    "engines/keras_backend",
    "features/parts",
    "engines/workers",
    "engines/last_maps",
    "features/computing",
    "features/elsewhere",
    "features/features",
    "sharding",
    "distributed/recipes",
    "distributed/storage",
    "distributed/node",
    "distributed/crew",
    "distributed/shards",
    "distributed/sessions",
    "distributed/cluster",
    "features/neighbours",
    "features/distorted_views",
    "features/backbone_choice",
    "heads/base",
    "classifiers/predictor",
    "classifiers/calibration",
    "classifiers/evaluation",
    "classifiers/paired_evaluation",
    "classifiers/metrics",
    "classifiers/model_card",
    "classifiers/run_folder",
    "classifiers/held_out",
    "classifiers/classifier",
    "classifiers/prediction",
    "classifiers/answer_files",
    "exploring/activation_maps",
    "exploring/auditing",
    "exploring/embedding",
    "exploring/similarity",
    "exploring/active_learning",
    "exploring/next_photos",
    "exploring/domain_classifier",
    "exploring/photo_drift",
    "training/folding",
    "training/keeping",
    "training/preparation",
    "training/cross_validation",
    "training/own_answers",
    "training/updating",
    "training/training",
    "finetuning/activations",
    "finetuning/training_loop",
    "finetuning/augmentation",
    "finetuning/thawed_network",
    "finetuning/begun",
    "finetuning/starting_point",
    "finetuning/history_plot",
    "finetuning/finetuning",
    "finetuning/watching",
    "sweeping/trials",
    "sweeping/sweeping",
    "exporting/formats/base",
    "exporting/companions",
    "exporting/exporting",
    "predicting",
    "reporting/documents",
    "reporting/pictures",
    "reporting/projection",
    "reporting/report_facts",
    "reporting/verdict",
    "reporting/run_comparison",
    "reporting/changed_photos",
    "reporting/page_data",
    "reporting/report_table",
    "reporting/html_pages",
    "reporting/report_building",
    "reporting/check_page",
    "reporting/displays",
    "reporting/projector",
    "reporting/plots",
    "serving/answering",
    "serving/batching",
    "serving/loading",
    "serving/models",
    "serving/reloading",
    "serving/limits",
    "serving/uploads",
    "serving/openapi",
    "serving/metrics",
    "serving/service",
    "serving/security",
    "serving/access_log",
    "serving/envelope",
    "serving/protocols/open_inference",
    "serving/protocols/tensorflow_serving",
    "serving/app",
    "serving/connections",
    "serving/listening",
    "serving/running",
    "serving/server",
    "local_page/side_work",
    "local_page/thumbnails",
    "local_page/explaining",
    "local_page/try_routes",
    "local_page/project",
    "local_page/project_training",
    "local_page/project_routes",
    "local_page/correcting",
    "local_page/run_reports",
    "local_page/retraining",
    "local_page/suggesting",
    "local_page/label_routes",
    "local_page/page_routes",
    "local_page/pages",
    "cli/information",
]


def room(path: Path) -> str:
    """The folder at the top of the package, or the module there, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[tuple[str, str]]:
    """The modules of ours and names that a file imports, for its types alone included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "regraft":
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def rooms_used(path: Path) -> set[str]:
    """The rooms that a file imports from, without its own; the public names have none."""
    parts = [[*module.split("."), name][1] for module, name in imported(path)]
    return {part for part in parts if part in ORDER} - {room(path)}


INNER = [f for f in FILES if f != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", INNER, ids=str)
def test_imports_flow_one_way(path: Path) -> None:
    place = ORDER.index(room(path))
    below = {name for name in rooms_used(path) if ORDER.index(name) > place}
    assert not below, f"{path.name} imports {below}, which stand below it"


@pytest.mark.parametrize("path", INNER, ids=str)
def test_no_folder_imports_what_is_private_to_another(path: Path) -> None:
    for module, name in imported(path):
        if module.split(".")[1:2] != [room(path)]:
            private = [part for part in (*module.split("."), name) if re.match(r"_[^_]", part)]
            assert not private, f"{path.name} imports {module}.{name}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Neither rooms, which the order rules out, nor modules of one room."""
    names = {".".join(("regraft", *f.relative_to(PACKAGE).with_suffix("").parts)): f for f in FILES}
    graph = {}
    for name, path in names.items():
        to = {f"{module}.{what}" if f"{module}.{what}" in names else module for module, what in imported(path)}
        graph[name] = to & set(names)
    TopologicalSorter(graph).prepare()


def test_the_package_stays_one_that_can_be_surveyed() -> None:
    rooms = {room(path) for path in FILES}
    assert len(rooms) <= 28
    sizes = Counter[str]()
    for path in FILES:
        sizes[room(path)] += lines_of_code(path)
    assert max(sizes.values()) < LINES, sizes.most_common(1)


def lines_of_code(path: Path) -> int:
    """Lines that hold code: neither blank, nor comments, nor docstrings."""
    text = path.read_text(encoding="utf-8")
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docs |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    blank = {i for i, line in enumerate(text.splitlines(), 1) if not line.strip() or line.strip().startswith("#")}
    return len(set(range(1, text.count("\n") + 1)) - docs - blank)


def test_no_import_of_our_own_hides_in_a_function() -> None:
    for path in FILES:
        if path == PACKAGE / "__init__.py":
            continue  # it imports each public name when the name is first used
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
    doc = ast.get_docstring(ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))) or ""
    for word in ("In: ", "Out: ", "Why: ", "Surprise: "):
        assert word in doc, f"{name} does not say {word!r}"


def test_one_module_reads_the_environment() -> None:
    """In its own code: the program beside an export, which is text here, sets what TensorFlow logs."""
    readers = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                readers.add(path.name)
    assert readers == {"files.py"}


def test_nothing_runs_data_as_code() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(eval|exec)\(|pickle\.loads?\(|shell=True", text), path
        assert "import pickle" not in text or path.name == "torch_file.py"


PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")


def test_the_page_draws_the_tree_that_is_there() -> None:
    tree = PAGE.partition("src/regraft/\n")[2].partition("```")[0]
    drawn, at = [], [""]
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        at = [*at[:depth], name]
        if not name.endswith("/"):
            drawn.append("".join(at))
    there = {str(p.relative_to(PACKAGE)) for p in FILES if p.name != "__init__.py"} | {"__init__.py"}
    assert sorted(drawn) == sorted(there)
    assert list(dict.fromkeys(Path(name).parts[0].removesuffix(".py") for name in drawn)) == ["__init__", *ORDER]


def test_the_page_tells_what_imports_what() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert list(told) == ORDER
    for name, cell in told.items():
        used: set[str] = set().union(*(rooms_used(path) for path in INNER if room(path) == name))
        assert re.findall(r"`(\w+)`", cell) == [other for other in ORDER if other in used], name


def test_the_way_of_one_photo_names_what_is_there() -> None:
    way = PAGE.partition("## One photo's way")[2].partition("## The folders")[0]
    names = re.findall(r"`(regraft(?:\.\w+)+)`", way)
    assert len(names) > 10
    for name in names:
        assert resolves(name), name


def resolves(name: str) -> bool:
    """Whether a name is that of a module, of something in a module, or of a method."""
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_cache_holds_no_other_kinds_than_are_listed() -> None:
    """`regraft info cache` counts and clears the kinds of `CacheKind` alone."""
    for path in FILES:
        found = re.findall(r"cache_folder\(\) / \"(\w+)\"", path.read_text(encoding="utf-8"))
        assert set(found) <= set(CACHE_KINDS), path
