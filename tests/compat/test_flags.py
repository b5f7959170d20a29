"""Every flag of the old programs, from the tables that parse them: accepted, and with an effect or an honest word."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from regraft.compat import COMMANDS
from regraft.compat._flags import Flag, parse_flags
from tests.compat.conftest import Old

ROOT = Path(__file__).parents[2]

HUB = """
    image_dir output_graph intermediate_output_graphs_dir intermediate_store_frequency output_labels summaries_dir
    how_many_training_steps learning_rate testing_percentage validation_percentage eval_step_interval train_batch_size
    test_batch_size validation_batch_size print_misclassified_test_images bottleneck_dir final_tensor_name
    flip_left_right random_crop random_scale random_brightness tfhub_module saved_model_dir logging_verbosity
    checkpoint_path
"""
POETS = "model_dir architecture"
INPUTS = "data_dir batch_size image_size num_preprocess_threads num_readers input_queue_memory_factor subset"
GRAPH = "labels input_height input_width input_mean input_std input_layer output_layer"
OLD = {
    "retrain": HUB + POETS,
    "label_image": f"image graph {GRAPH}",
    "evaluate_graph": "",
    "quantize_graph": """
        input output output_node_names mode bitdepth print_nodes test_input_dims strip_redundant_quantization
        quantized_input quantized_input_min quantized_input_max quantized_fallback_min quantized_fallback_max
    """,
    "build_image_data": """
        train_directory validation_directory output_directory train_shards validation_shards num_threads labels_file
    """,
    "inception_train": f"""
        {INPUTS} train_dir max_steps num_gpus log_device_placement fine_tune pretrained_model_checkpoint_path
        initial_learning_rate num_epochs_per_decay learning_rate_decay_factor
    """,
    "inception_eval": f"{INPUTS} eval_dir checkpoint_dir eval_interval_secs run_once num_examples",
    "make_image_classifier": """
        image_dir tfhub_module image_size saved_model_dir tflite_output_file labels_output_file summaries_dir
        assert_accuracy_at_least train_epochs do_fine_tuning batch_size learning_rate momentum dropout_rate
        set_memory_growth l1_regularizer l2_regularizer label_smoothing validation_split do_data_augmentation
        rotation_range horizontal_flip width_shift_range height_shift_range shear_range zoom_range
        distribution_strategy use_tf_data_input
    """,
}
"""What each program had; retrain.py is that of TensorFlow Hub and that of TensorFlow for Poets."""
OURS = {
    "retrain": "image_size",
    "evaluate_graph": f"image_dir checkpoint_path {GRAPH}",
    "quantize_graph": "checkpoint_path",
    "inception_train": "architecture",
}
"""What they lacked: the folder and the sizes were written into the code, and so was the network."""


def flags_of(name: str) -> tuple[Flag, ...]:
    return tuple(import_module(f"regraft.compat.{name}").FLAGS)


def test_there_is_a_command_for_each_program() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    wanted = {f"regraft-{name.replace('_', '-')}": f"regraft.compat.{name}:main" for name in COMMANDS}
    assert scripts == {"regraft": "regraft.__main__:main", **wanted}
    assert set(COMMANDS) == set(OLD)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_has_every_flag_of_the_old_program(name: str) -> None:
    flags = [flag.name for flag in flags_of(name)]
    assert len(flags) == len(set(flags))
    assert set(flags) == {*OLD[name].split(), *OURS.get(name, "").split()}


@pytest.mark.parametrize(
    ("name", "flag"), [pytest.param(n, f, id=f"{n}-{f.name}") for n in COMMANDS for f in flags_of(n)]
)
def test_each_flag_is_accepted_and_says_what_it_does(name: str, flag: Flag, caplog: pytest.LogCaptureFixture) -> None:
    value = "" if isinstance(flag.default, bool) else f"={flag.default}"
    found = parse_flags("old", "", [flag], [f"--{flag.name}{value}"])
    assert getattr(found, flag.name) == (True if isinstance(flag.default, bool) else flag.default)
    assert flag.does != "nothing" or flag.changed, "a flag without an effect must say so"
    assert (flag.changed in caplog.text) if flag.changed else not caplog.text
    source = (ROOT / "src" / "regraft" / "compat" / f"{name}.py").read_text(encoding="utf-8")
    graph = (ROOT / "src" / "regraft" / "compat" / "_foreign.py").read_text(encoding="utf-8")
    used = f"options.{flag.name}" in source + graph
    assert used != (flag.does == "nothing"), "a flag with an effect is one that the code reads"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_flag_and_a_mistyped_one_is_told(name: str, old: Old) -> None:
    printed = old(name, "--help").stdout
    assert all(f"--{flag.name}" in printed for flag in flags_of(name))
    some = flags_of(name)[0].name
    graph = ("graph",) if name == "evaluate_graph" else ()
    assert f"did you mean --{some}?" in old(name, *graph, f"--{some}x=1", code=2).stderr


@pytest.mark.parametrize("page", ["docs/how-to/old-commands.md", "docs/explanation/five-posts.md"])
def test_what_pages_show_is_what_there_is(page: str) -> None:
    shell = "".join(re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL))
    shown = re.findall(r"^regraft-(\S+)(.*)$", shell.replace("\\\n", ""), re.MULTILINE)
    assert shown
    for name, rest in shown:
        known = {flag.name for flag in flags_of(name.replace("-", "_"))}
        assert set(re.findall(r"--(\w+)", rest)) <= known, f"{page} shows regraft-{name}{rest}"
