"""What the README shows, run as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from bbnn_uq.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), {})
    assert "25,856 weights" in capsys.readouterr().out
    assert (tmp_path / "runs" / "python" / "report.html").is_file()


def test_commands_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("python")[0], "README.md", "exec"), {})  # writes what evaluate reads
    for script in blocks("bash"):
        for line in script.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "bbnn-uq"
            with pytest.raises(SystemExit) as stopped:
                main(arguments)
            assert stopped.value.code == 0, (line, capsys.readouterr().err)
    for folder in ("demo", "digits/ood", "digits/again", "mine"):
        assert (tmp_path / "runs" / folder / "report.html").is_file()


@pytest.mark.parametrize("target", re.findall(r"\]\(([\w/.-]+)\)", README))
def test_links_lead_somewhere(target):
    assert (Path(__file__).parent.parent / target).exists()
