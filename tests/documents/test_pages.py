"""What pages say without running: links, names of commands, settings, columns and files, YAML."""

from __future__ import annotations

import re
import shlex
from collections import Counter

import pytest
import yaml

from activarium.flows.configuration import load_run_config
from activarium.flows.demo import DEMO
from activarium.schemas.config import RunConfig
from activarium.schemas.documentation import SECTIONS
from activarium.schemas.tables import TABLES

from .blocks import (
    LANGUAGES,
    LINK,
    PAGES,
    PLAIN,
    REPOSITORY,
    SHELLS,
    anchors,
    blocks_of,
    command_lines,
    commands,
    documented,
    is_plain,
    text_of,
)

NOT_RUN = {"CONTRIBUTING.md": 1, "README.md": 1, "docs/gpu.md": 6}
"""How many blocks of each page are marked as not run: a new one is to be noticed here."""

NAMES = [path.relative_to(REPOSITORY).as_posix() for path in PAGES]
pages = pytest.mark.parametrize("name", NAMES)
MAKE = re.compile(r"^\s*make ([a-z][\w-]*)", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
PLACE = re.compile(r"(?:docs|examples|benchmarks|tests|flows|tasks|schemas)/[\w./*-]*\w")


def prose(name: str) -> str:
    """A page without its blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)


def code_of(name: str) -> list[str]:
    """What a page quotes as code within lines."""
    return CODE.findall(prose(name))


def check_call(words: list[str], *, whole: bool) -> None:
    """Check that a command and its options exist and, of a whole line, that its values can be."""
    command = commands()[words[0]]
    if whole:
        command.make_context(words[0], [*words[1:]])
        return
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    given = {word.partition("=")[0] for word in words if re.match(r"-[-a-z]", word)}
    assert given <= known | {"--help", "-h"}, f"{words[0]} has no {', '.join(given - known)}"


def test_blocks__are_of_languages_that_are_known():
    other = {str(each): each.language for each in documented()}
    assert not {k: v for k, v in other.items() if v not in LANGUAGES | PLAIN}


def test_marks__are_counted():
    found = Counter(each.page for each in documented() if each.mark == "not run")
    assert dict(found) == NOT_RUN


def test_marks__name_tests_that_exist():
    named = [each for each in documented() if each.mark == "run by"]
    missing = [f"{each}: {each.reason}" for each in named if not is_test(each.reason)]
    assert not missing


def is_test(reason: str) -> bool:
    file, _, name = reason.split(maxsplit=1)[0].rstrip(",;").partition("::")
    path = REPOSITORY / file
    return file.startswith("tests/") and path.is_file() and name in path.read_text("utf-8")


def test_marks__stand_before_blocks():
    marks = re.compile(r"<!-- (?:not run|run by)\b")
    for name in NAMES:
        seen = len(marks.findall(text_of(name)))
        assert seen == sum(1 for each in blocks_of(name, text_of(name)) if each.mark), name


def test_make__targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    shells = [each for each in documented() if each.language in SHELLS]
    asked = {target for each in shells for target in MAKE.findall(each.text)}
    quoted = [code for name in NAMES for code in code_of(name)]
    asked |= {code.split()[1] for code in quoted if re.match(r"make [a-z]", code)}
    assert len(asked) > 5
    assert asked <= targets


@pages
def test_commands__that_are_named_have_these_options(name):
    for code in code_of(name):
        words = code.split()
        # Not of `activarium --version` and `activarium COMMAND`.
        if words[0] == "activarium" and len(words) > 1 and re.fullmatch(r"[a-z]+", words[1]):
            check_call(words[1:], whole=False)


@pages
def test_programs__that_are_named_have_these_options(name):
    lines = [
        line for each in documented() if each.page == name for line in command_lines(each.text)
    ]
    for code in [*code_of(name), *lines]:
        found = re.search(r"\bpython (benchmarks/\w+\.py|docs/\w+\.py)(.*)", code)
        options = re.findall(r"(?<!\S)--[\w-]+", found[2].partition("#")[0]) if found else ()
        for option in options:
            assert f'"{option}"' in text_of(found[1]), f"{found[1]} has no {option}"


def test_commands__that_are_not_run_could_be():
    lines = [
        line
        for each in documented()
        if each.mark == "not run" and each.language in SHELLS
        for line in command_lines(each.text)
        if line.startswith("activarium") and is_plain(line)
    ]
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        check_call(words[1:], whole=True)


@pytest.mark.parametrize(
    "block", [each for each in documented() if each.language == "yaml" and not each.mark], ids=str
)
def test_yaml__is_a_configuration(block, tmp_path):
    settings = yaml.safe_load(block.text)
    assert isinstance(settings, dict)
    settings.setdefault("test_set", {"source": "digits"})
    if settings.get("model", {}).get("weights", "trained") == "trained":
        settings.setdefault("training", {})
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
    load_run_config(file, cwd=tmp_path)


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "examples").glob("*.yaml")), ids=lambda f: f.name
)
def test_examples__are_configurations(file):
    assert load_run_config(file, cwd=REPOSITORY).name


def test_examples__digits_is_the_demo():
    assert load_run_config(REPOSITORY / "examples/digits.yaml", cwd=REPOSITORY) == DEMO


@pages
def test_links__lead_to_files_and_headings(name):
    folder = (REPOSITORY / name).parent
    for address in LINK.findall(prose(name)):
        if re.match(r"[a-z]+:", address):
            continue
        file, _, anchor = address.partition("#")
        path = folder / file if file else REPOSITORY / name
        assert path.exists(), f"{address}: no such file"
        if anchor:
            assert anchor in anchors(path.read_text("utf-8")), f"{address}: no such heading"


@pages
def test_names__of_settings_and_columns_exist(name):
    if name == "CHANGELOG.md":  # it tells of what was
        return
    known = {section: set(model.model_fields) for section, model in SECTIONS.items()}
    known |= {
        name: {"recording", *(each.name for each in table.columns)}
        for name, table in TABLES.items()
    }
    for code in code_of(name):
        found = re.fullmatch(r"(\w+)\.(\w+)(?:[:=] ?\S+)?", code)
        if found and found[1] in known and found[2] not in {"zip", "tar", "json"}:
            assert found[2] in known[found[1]], f"`{code}`: no such setting or column"


@pages
def test_names__of_files_exist(name):
    if name == "CHANGELOG.md":  # it tells of what was
        return
    for place in PLACE.findall(text_of(name)):
        options = (place, f"docs/{place}", f"tasks/{place}", f"{place}.py", f"tasks/{place}.py")
        found = any(list(REPOSITORY.glob(each)) for each in options)
        assert found, f"{place}: no such file"


def test_run_config__has_the_documented_sections():
    assert set(SECTIONS) | {"name", "controls"} == set(RunConfig.model_fields)


def test_environment__variables_are_all_told():
    code = "".join(
        path.read_text("utf-8")
        for folder in ("flows", "tasks", "schemas")
        for path in (REPOSITORY / folder).rglob("*.py")
    )
    named = set(re.findall(r"\bACTIVARIUM_[A-Z0-9_]+\b", code))
    assert named
    assert named == set(re.findall(r"\bACTIVARIUM_[A-Z0-9_]+\b", text_of("docs/questions.md")))


EXAMPLE = """
# A page of `code`: it's (new)

```sh
activarium list # ``` inside
```
<!-- not run: why -->

~~~~yaml
```
## no heading
~~~~
  <!-- run by: tests/x.py -->
  ```python
  if True:
      pass
  ```
## Twice
## Twice
```sql
SELECT 1
"""


def test_blocks__of_a_page_are_found():
    found = blocks_of("page", EXAMPLE)
    assert [(each.line, each.language, each.mark) for each in found] == [
        (4, "sh", ""),
        (9, "yaml", "not run"),
        (14, "python", "run by"),
        (20, "sql", ""),
    ]
    assert found[1].text == "```\n## no heading"
    assert found[2].text == "if True:\n    pass"
    assert found[2].reason == "tests/x.py"


def test_anchors__are_those_of_github():
    text = "# A page of `code`: it's (new)\n```sh\n# no heading\n```\n## Twice\n## Twice\n### [a](b.md) c_d-e"
    assert anchors(text) == {"a-page-of-code-its-new", "twice", "twice-1", "a-c_d-e"}


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("activarium list --json  # all of them", True),
        ("activarium embed x --layer 'layer4.*'", True),
        ('activarium query "SELECT a > 1 | b; -- c"', True),
        ("activarium list | head", False),
        ("activarium list && activarium verify", False),
        ("activarium query $SQL", False),
        ("ROOT=x activarium list", False),
        ("cd atlas", False),
    ],
)
def test_lines__that_need_a_shell_are_told(line, plain):
    assert is_plain(line) is plain
