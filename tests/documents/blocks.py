"""The blocks of the documents, and the commands, links and names in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

from typer.main import get_command

from activarium.flows.cli import app

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
HELP = "--help"
"""Stands for a page: the examples in the commands' help."""

FENCE = re.compile(r"^( *)(`{3,}|~{3,})\s*([\w+-]*).*$")
MARK = re.compile(r"^\s*<!-- (not run|run by): (.+?) -->\s*$")
BOLD = re.compile(r"\[bold\](activarium .+?)\[/\]", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$")
NAMED = re.compile(r"^# ([\w-]+\.(?:py|yaml|csv))$")
SHELLS = {"sh", "bash", "shell"}
LANGUAGES = SHELLS | {"python", "sql", "yaml"}
"""What is run or checked."""
PLAIN = {"", "text", "json", "csv", "ini", "toml", "dockerfile", "html", "mermaid"}
"""What is shown only."""


@dataclass(frozen=True)
class Block:
    """A fenced block, and the mark before it that says why it is not run here, or where it is."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    reason: str = ""

    def __str__(self) -> str:
        """Where it stands; of the help, the command that it is of."""
        return (
            f"{self.text.split()[1]}:{self.page}"
            if self.page == HELP
            else f"{self.page}:{self.line}"
        )

    @property
    def is_run(self) -> bool:
        return not self.mark and self.language in SHELLS | {"python", "sql"}

    @property
    def file(self) -> str | None:
        """The file that the first line names, as which the rest is to be saved."""
        found = NAMED.match(self.text.partition("\n")[0])
        return found[1] if found else None


def text_of(page: Path | str) -> str:
    return (REPOSITORY / page).read_text("utf-8")


def blocks_of(page: str, text: str) -> list[Block]:
    """Return the fenced blocks of a page; an unclosed one ends with the page."""
    found: list[Block] = []
    lines = iter(enumerate(text.split("\n"), 1))
    mark: tuple[str, str] = ("", "")
    for number, line in lines:
        opened = FENCE.match(line)
        if opened is None:
            if line.strip():
                seen = MARK.match(line)
                mark = (seen[1], seen[2]) if seen else ("", "")
            continue
        inside: list[str] = []
        for _, each in lines:
            if re.fullmatch(rf" *{re.escape(opened[2][0])}{{{len(opened[2])},}} *", each):
                break
            inside.append(each)
        body = dedent("\n".join(inside))
        found.append(Block(page, number, opened[3].lower(), body, *mark))
        mark = ("", "")
    return found


@cache
def documented() -> tuple[Block, ...]:
    """Return the blocks of all pages, then the examples of each command's help as one block."""
    found = []
    for path in PAGES:
        page = path.relative_to(REPOSITORY).as_posix()
        found += blocks_of(page, path.read_text("utf-8"))
    for place, command in enumerate(commands().values(), 1):
        lines = [" ".join(each.split()) for each in BOLD.findall(command.help or "")]
        found.append(Block(HELP, place, "sh", "\n".join(lines)))
    return tuple(found)


@cache
def commands():
    """Return the commands of the command line by name, in the order of the help."""
    return dict(get_command(app).commands)


def command_lines(text: str) -> list[str]:
    """Return the lines of a shell block that do something, continued ones as one."""
    joined = text.replace("\\\n", " ").split("\n")
    return [line.strip() for line in joined if line.strip() and not line.strip().startswith("#")]


def is_plain(line: str) -> bool:
    """Whether a line calls one program, with nothing of the shell but words, quotes and globs."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    operators = any(word and set(word) <= set("();<>|&") for word in words)
    return not operators and words[0] in {"activarium", "make"} and not re.search(r"\$[({\w]", line)


def is_script(block: Block) -> bool:
    """Whether a block needs a shell as a whole, because lines depend on the shell's state."""
    return "<<" in block.text or not all(is_plain(line) for line in command_lines(block.text))


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    names = set()
    is_code = False
    for line in text.split("\n"):
        is_code ^= bool(FENCE.match(line))
        heading = None if is_code else HEADING.match(line)
        if heading is None:
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names
