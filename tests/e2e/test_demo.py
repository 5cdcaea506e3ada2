"""The main job from end to end: files in; progress, notifications, hits, exports and flow out."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pysubs2
import pytest

from penstock.contracts.exports import Document

Demo = Callable[..., subprocess.CompletedProcess[str]]
SPEECH = Path(__file__).parents[3] / "shared" / "samples" / "jfk.wav"


def test_text_and_subtitles_are_parsed_indexed_exported_and_explained(
    demo: Demo, files: list[Path], tmp_path: Path
) -> None:
    result = demo(*files, "--query", "harvest rain")
    assert result.returncode == 0, result.stdout + result.stderr
    out = result.stdout
    for path in files:
        # which stages are seen is by chance: those that pass quickly are skipped
        assert re.search(rf"{path.name}: (parse|index|export) \d+ %", out), out
        assert f"{path.name}: completed 100 %" in out
        assert f"notification: {path.name} is ready" in out
    best = out.split("Search for 'harvest rain'\n")[1].splitlines()[0]
    assert "harvest.txt:1" in best
    exports = tmp_path / "exports"
    cues = pysubs2.load(str(exports / "harbour.srt.srt"))
    assert [(cue.start, cue.end) for cue in cues] == [(1000, 3500), (4000, 7250)]
    assert "Nine of them came home before the storm." in cues[1].plaintext
    document = msgspec.json.decode((exports / "harvest.txt.json").read_bytes(), type=Document)
    assert len(document.segments) == 2
    with (exports / "sailing.md.csv").open(newline="") as rows:
        assert any("bowline" in str(row) for row in csv.reader(rows))
    assert not (exports / "harvest.txt.srt").exists()
    for form in ("json", "txt", "csv"):
        assert f"exports/sailing.md.{form}  " in out
    flow = out.split("from its events\n")[1]
    names = ["progress.create", "jobs.enqueue", "jobs.queued", "jobs.started"]
    names += ["search.document_indexed", "exports.", "notifications.", "jobs.completed"]
    places = [flow.index(name) for name in names]
    assert places[:4] == sorted(places[:4]) and places[-1] == max(places)


def test_unchanged_files_come_from_the_cache_and_a_changed_one_is_done_again(
    demo: Demo, files: list[Path]
) -> None:
    assert demo(*files).returncode == 0
    again = demo(*files)
    assert again.returncode == 0
    assert again.stdout.count("from the cache") == len(files)
    assert "notification:" not in again.stdout
    files[1].write_text("The harvest was early after all.\n")
    changed = demo(*files, "--query", "harvest")
    assert changed.returncode == 0
    assert "harvest.txt: changed" in changed.stdout
    assert changed.stdout.count("from the cache") == len(files) - 1
    hits = changed.stdout.split("Search for 'harvest'\n")[1].split("\nExports")[0]
    assert "early after all" in hits
    assert "barn" not in hits, "what the earlier content said is gone"


def test_a_file_that_cannot_be_read_fails_alone_and_the_status_tells(
    demo: Demo, files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "broken.srt").write_text("1\nnot a time\ntext\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "folder.md").mkdir()
    wrong = ["missing.txt", "empty.txt", "broken.srt", "picture.png", "folder.md"]
    result = demo(files[1], *wrong)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    for name in wrong:
        (line,) = [x for x in result.stdout.splitlines() if x.startswith(f"{name}: failed: ")]
        assert name in line.removeprefix(f"{name}: failed: ")
    assert "harvest.txt: completed 100 %" in result.stdout
    assert (tmp_path / "exports/harvest.txt.json").stat().st_size > 0


def test_without_files_the_markdown_here_is_taken(demo: Demo, files: list[Path]) -> None:
    result = demo()
    assert result.returncode == 0
    assert "sailing.md: completed 100 %" in result.stdout
    assert "harvest.txt" not in result.stdout
    hits = result.stdout.split("Search for ")[1].splitlines()
    assert "sailing.md:" in hits[1]


def test_without_any_markdown_it_says_what_to_do(demo: Demo) -> None:
    result = demo()
    assert result.returncode == 1
    assert result.stderr.startswith("penstock: There is no Markdown file")


@pytest.mark.skipif(not SPEECH.exists(), reason="needs the recorded speech beside the repository")
def test_speech_is_transcribed_and_found(demo: Demo, files: list[Path], tmp_path: Path) -> None:
    result = demo(SPEECH, *files, "--query", "country")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"jfk\.wav: transcribe \d+ %", result.stdout)
    (exported,) = (tmp_path / "exports").rglob("jfk.wav*.json")
    document = msgspec.json.decode(exported.read_bytes(), type=Document)
    words = " ".join(segment.text for segment in document.segments)
    assert "what your country can do for you" in words
    assert all(segment.start is not None for segment in document.segments)
    best = result.stdout.split("Search for 'country'\n")[1].splitlines()[0]
    assert "jfk.wav at 0:" in best
    assert "country" in best
    (cues,) = (tmp_path / "exports").rglob("jfk.wav*.srt")
    assert 0 < pysubs2.load(str(cues))[-1].end <= 11_500
