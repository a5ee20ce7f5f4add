"""Pages as files: what is the same is left, and a page of another kind is not lost."""

from __future__ import annotations

import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.reporting.page_files import KINDS, replace_page

HEAD = '<meta name="activarium-page" content="{}">'


def test_replace_page__what_is_the_same_is_not_written_anew(tmp_path):
    path = tmp_path / "page.html"
    assert replace_page(path, "one").made
    assert not replace_page(path, "one").made
    assert replace_page(path, "two").made


@pytest.mark.parametrize(("now", "is_told"), [("a b", False), ("b c", False), ("c", True)])
def test_replace_page__a_page_of_other_recordings_is_told(tmp_path, now, is_told):
    path = tmp_path / "page.html"
    head = HEAD.format("a recording") + '<meta name="activarium-recordings" content="{}">'
    assert not replace_page(path, head.format("a b")).notices
    told = replace_page(path, head.format(now) + "changed").notices
    assert told == ((f"{path} was the page of a and is now that of c",) if is_told else ())


@pytest.mark.parametrize("old", [*KINDS.values(), None])
@pytest.mark.parametrize("new", KINDS.values())
def test_replace_page__a_page_of_another_kind_is_not_written_over(tmp_path, old, new):
    path = tmp_path / "page.html"
    before = "of an earlier version" if old is None else HEAD.format(old)
    replace_page(path, before)
    if old in {new, None}:
        assert replace_page(path, HEAD.format(new) + "changed").made
        return
    written = path.read_bytes()
    with pytest.raises(UserError, match=f"page.html is the page of {old}, .* give it another name"):
        replace_page(path, HEAD.format(new))
    assert path.read_bytes() == written
