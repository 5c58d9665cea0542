"""What the docs say is there: tests, commands, pages and their headings."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import pytest
from support import Box

from tmuxevolve.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
FENCE = re.compile(r"^( *)```(\w*).*?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
# A command as it is typed: behind a prompt, another program, a path or `ExecStart=`; as code in
# prose, too. `tmuxevolve: ...` and `tmuxevolve 0.1.0` are what it prints, and behind pipx's inject
# it is a package.
TYPED = re.compile(r"(?:^|[\s/(])(?<!inject )tmuxevolve (?=[-a-z])(.*)")
PROSE = re.compile(r"`tmuxevolve ([-a-z][^`]*)`")
NEXT = re.compile(r"[|;&]+")
ENDS = {">", ">>", "<", "(", ")"}


NAMES = main.list_commands(click.Context(main))


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_test_that_a_promise_names_exists() -> None:
    text = (DOCS / "reliability.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    files = set(re.findall(r"`(test_\w+\.py)`", text))
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 25
    assert {name for name in named if f"def {name}(" not in written} == set()
    assert {name for name in files if not (ROOT / "tests" / name).exists()} == set()


def shown(text: str) -> Iterator[str]:
    """Give the words behind each `tmuxevolve` of a page."""
    for fence in FENCE.finditer(text):
        if fence[2] in {"console", "sh", "bash", "ini", "text", ""}:
            commands = NEXT.sub("\n", fence[3].replace("\\\n", " ")).splitlines()
            yield from (found[1] for line in commands if (found := TYPED.search(line)))
    yield from PROSE.findall(FENCE.sub("", text))


def mistake(words: str) -> str | None:
    """Return what click says against a command; it is not run."""
    lexer = shlex.shlex(words, posix=True, punctuation_chars=True)
    lexer.wordchars += "$*{}[]:@!,%^"
    args = list(lexer)
    name, *rest = args[: next((n for n, word in enumerate(args) if word in ENDS), len(args))]
    group = click.Context(main, **main.context_settings)
    command = main if name.startswith("-") else main.get_command(group, name)
    if command is None:
        return f"no command {name}"
    try:
        command.make_context(name, [name, *rest] if command is main else rest, parent=group)
    except click.exceptions.Exit:
        return None
    except click.ClickException as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_every_command_that_is_shown_exists(path: Path) -> None:
    wrong = {words: said for words in shown(path.read_text()) if (said := mistake(words))}
    assert wrong == {}


def test_commands_that_do_not_exist_are_found() -> None:
    page = (
        "```console\n$ tmuxevolve fly 2   # up\ntmuxevolve: no such thing\ntmuxevolve 0.1.0\n"
        "$ ~/.local/bin/tmuxevolve stop --soft | cat\n$ cd && tmuxevolve status --json | jq\n```\n"
        "`tmuxevolve start --gpu 0` and `tmuxevolve start --gpus 0,2` or `tmuxevolve COMMAND`\n"
    )
    assert [words.split()[0] for words in shown(page)] == [
        "fly",
        "stop",
        "status",
        "start",
        "start",
    ]
    said = [mistake(words) for words in shown(page)]
    assert [what is None for what in said] == [False, False, True, False, True]


LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?)(?: *\{ *#([-\w]+) *\})?$", re.MULTILINE)


@cache
def hooks() -> ModuleType:
    """Return what writes the reference when the site is built."""
    spec = importlib.util.spec_from_file_location("mkdocs_hooks", ROOT / "mkdocs_hooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_each_command_says_of_itself(box: Box) -> None:
    place = hooks().PLACE
    assert (DOCS / "reference.md").read_text().count(place) == 1
    page = hooks().on_page_markdown(place)
    for name in NAMES:
        assert f"### tmuxevolve {name} {{ #{name} }}" in page
        text = box.cli(name, "--help", env={"COLUMNS": "200"}).stdout
        assert text.replace("python -m tmuxevolve", "tmuxevolve", 1) in page


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return what a link to a page may have behind its #."""
    text = FENCE.sub("", path.read_text())
    found = {given or slug(title) for title, given in HEADING.findall(text)}
    return frozenset(found | {*NAMES} if hooks().PLACE in text else found)


def slug(title: str) -> str:
    """Return a heading's anchor, as Markdown's toc and GitHub make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_links_lead_somewhere(path: Path) -> None:
    """Those of README.md too, which mkdocs does not see."""
    for link in LINK.findall(FENCE.sub("", path.read_text())):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": ([-\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
