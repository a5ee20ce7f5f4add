"""YAML of any kind is a value or one line: no key twice, no flood of aliases, no endless file."""

from __future__ import annotations

from pathlib import Path

import pytest

from activarium.flows.yaml_files import MOST_BYTES, parse_yaml, read_settings
from activarium.schemas.errors import UserError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "in line 5, column 5: more than 20,000 values"),
        ("a: 1\nb: 2\na: 3\n", "in line 3, column 1: the key 'a' is there twice"),
        ("a: {b: 1, c: 2, b: 3}", "in line 1, column 17: the key 'b' is there twice"),
        ("a: &a [*a]", "an alias that holds itself"),
        ("a: &a {b: *a}", "an alias that holds itself"),
        ("[" * 5_000, "too deep"),
        ("a: " + "1" * 5_000, "5000 digits"),
        ("a: 2024-13-45", "month must be in 1"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: *b", "undefined alias"),
        ("? [1]\n: 2", "unhashable key"),
        ("a: '", "in line 1"),
        ("a: \0", "special characters are not allowed"),
        ("\t- a", "cannot start any token"),
    ],
)
def test_parse_yaml__what_no_configuration_holds_is_one_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_yaml(text, where="file")
    line = str(caught.value)
    assert line.startswith("file is not valid YAML")
    assert len(line) < 400
    assert line.isprintable()


def test_parse_yaml__aliases_and_merges_are_taken():
    text = """
    base: &base {x: 1, y: 2}
    inner: {deep: &deep {<<: *base, y: 3}}
    both: {<<: *deep, x: 4}
    twice: [*base, *base]
    """
    found = parse_yaml(text, where="file")
    assert found["both"] == {"x": 4, "y": 3}
    assert found["inner"] == {"deep": {"x": 1, "y": 3}}
    assert found["twice"] == [{"x": 1, "y": 2}] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "byte 0 is no UTF-8"),
        (b"# " + b"x" * MOST_BYTES, "at most 1 MiB, it is longer"),
        (b"", "expected settings such as"),
        (b"- a", "expected settings such as"),
        (b"x" * 1_000, "expected settings such as"),
    ],
)
def test_read_settings__files_of_other_kinds_are_one_line(tmp_path, content, message):
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_settings(file)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("path", ["/dev/zero", "/", "a" * 300, "a\0b", "/dev/null", "/etc/hosts/x"])
def test_read_settings__what_is_no_file_is_one_line(path):
    with pytest.raises(UserError) as caught:
        read_settings(Path(path))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_read_settings__a_mark_of_byte_order_is_no_letter(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert read_settings(file) == {"name": "a"}
