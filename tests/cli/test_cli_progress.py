"""Progress: on a terminal of any width, in colours or without, and nothing anywhere else."""

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from bbnn_uq import _progress
from bbnn_uq._progress import progress_bar, rate
from bbnn_uq.inference.engine import Engine

CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def terminal(monkeypatch):
    """What is written to a terminal of some width."""

    def of(width, **options):
        stream = io.StringIO()

        def console(**_):
            return Console(file=stream, force_terminal=True, width=width, **options)

        monkeypatch.setattr(_progress, "Console", console)
        return stream

    return of


def shown(stream):
    """Lines as they are seen, without codes."""
    return [line for line in re.split(r"[\r\n]", CODES.sub("", stream.getvalue())) if line.strip()]


@pytest.mark.parametrize("width", [30, 40, 79, 80, 120])
def test_lines_fit_and_say_how_far_it_is(width, terminal):
    stream = terminal(width)
    with progress_bar("far (2 of 3)", 200, enabled=True, unit="epochs") as advance:
        advance(50, "")
        advance(50, "loss 0.123")
    lines = shown(stream)
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "far (2 of 3)" in lines[-1]
    assert "50%" in lines[-1].replace(" ", "")
    if width >= 120:
        assert "epochs/s" in lines[-1]
        assert "loss 0.123" in lines[-1]


def test_what_was_done_before_is_shown(terminal):
    stream = terminal(120)
    with progress_bar("set", 100, enabled=True, unit="steps", done=90) as advance:
        advance(5, "")
    assert "95%" in shown(stream)[-1].replace(" ", "")


def test_no_colours_where_none_are_wanted(monkeypatch, terminal):
    def colours(stream):
        with progress_bar("set", 2, enabled=True) as advance:
            advance(1, "")
        return re.findall(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38;)[0-9;]*m", stream.getvalue())

    monkeypatch.setenv("TERM", "xterm-256color")
    assert colours(terminal(100))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours(terminal(100))


def test_nothing_in_a_pipe_and_nothing_when_quiet(capsys, terminal):
    with progress_bar("set", 2, enabled=True) as advance:  # pytest's stderr is no terminal
        advance(1, "note")
    assert capsys.readouterr() == ("", "")
    stream = terminal(80)
    with progress_bar("set", 2, enabled=False) as advance:
        advance(1, "note")
    assert CODES.sub("", stream.getvalue()).strip() == ""


def test_names_from_files_are_plain(terminal):
    stream = terminal(100)
    with progress_bar("[red]a\x1b[31m", 2, enabled=True) as advance:
        advance(1, "[b]")
    assert "[red]a�[31m" in CODES.sub("", stream.getvalue())
    assert Text("[b]").plain in CODES.sub("", stream.getvalue())


@pytest.mark.parametrize(
    ("speed", "text"),
    [
        (None, ""),
        (0.0, ""),
        (0.25, "4.0 s per epoch"),
        (2.0, "2.0 epochs/s"),
        (1500.0, "1.5k epochs/s"),
        (2e6, "2.0M epochs/s"),
        (3e9, "3.0G epochs/s"),
    ],
)
def test_rates(speed, text):
    assert rate(speed, "epochs") == text
    assert rate(2.0, "") == "2.0/s"


@pytest.mark.usefixtures("undrawn")
def test_ood_says_which_set_of_how_many(here, ood, monkeypatch):
    titles = []
    original = Engine.run

    def run(self, *arguments, **options):
        titles.append(options["progress"])
        return original(self, *arguments, **options)

    monkeypatch.setattr(Engine, "run", run)
    assert ood().status == 0
    assert titles == ["data (1 of 3)", "data, mode (2 of 3)", "far (3 of 3)"]
    titles.clear()
    assert ood(quiet=True).status == 0
    assert titles == [False, False, False]


def test_the_bar_counts_inputs_times_networks(here, predict, monkeypatch):
    seen = {"done": 0}

    class Bar:
        def __init__(self, title, total, *, enabled, unit, done):
            seen.update(title=title, total=total, unit=unit, before=done)

        def __enter__(self):
            return lambda steps, _: seen.update(done=seen["done"] + steps)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("bbnn_uq.inference.engine.progress_bar", Bar)
    assert predict().status == 0
    assert seen == {
        "title": "data", "total": 240, "done": 240, "before": 0, "unit": "inputs × networks",
    }  # fmt: skip
