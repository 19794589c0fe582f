"""The package and the help are there at once: nothing heavy is loaded for them."""

import json
import subprocess
import sys

import pytest

import bbnn_uq
from bbnn_uq.cli import app

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
HEAVY = ("torch", "matplotlib", "seaborn", "sklearn", "scipy", "numpy", "pandas")


def loaded_after(code):
    """Top-level modules that a fresh interpreter has loaded after ``code``."""
    report = "import json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_after("import bbnn_uq")
    assert "bbnn_uq" in loaded
    assert not loaded & {*HEAVY, "typer", "click", "rich"}


def test_help_loads_nothing_heavy():
    code = (
        f"COMMANDS = {COMMANDS}"
        + """
from bbnn_uq.cli import main
for arguments in (["--help"], ["--version"], *([c, "--help"] for c in COMMANDS)):
    try:
        main(arguments)
    except SystemExit as stopped:
        assert not stopped.code
"""
    )
    loaded = loaded_after(code)
    assert "typer" in loaded
    assert not loaded & set(HEAVY)


def test_commands_that_draw_nothing_load_no_matplotlib(here):
    code = """
from bbnn_uq.cli import main
try:
    main(["inspect", "run/posterior.safetensors"])
except SystemExit as stopped:
    assert not stopped.code
"""
    loaded = loaded_after(code)
    assert "torch" in loaded
    assert not loaded & {"matplotlib", "seaborn", "pandas"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_that_begins_with_its_name(command, run):
    outcome = run(command, "--help")
    assert outcome.status == 0
    assert f"Example: bbnn-uq {command} " in " ".join(outcome.out.split())
    assert max(len(line) for line in outcome.out.splitlines()) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_help_cuts_nothing_off(command, run):
    assert "…" not in run(command, "--help").out.replace("cuda, …", "")


def test_the_version_is_the_packages(run):
    outcome = run("--version")
    assert (outcome.status, outcome.out) == (0, f"bbnn-uq {bbnn_uq.__version__}\n")


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "bbnn_uq", "demo", "--no-such"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("bbnn-uq: error: No such option")
