"""The order of the chosen images, and the permuted classes beside it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from activarium.tasks.analysis.chosen_images import arrange_images, load_choice

NAMES = ("ant", "bee", "cat")


def arranged(label, *, chosen=None, names=None, seed=0):
    label = np.asarray(label)
    chosen = np.ones(len(label), bool) if chosen is None else np.asarray(chosen)
    names = [f"{row:04d}" for row in range(len(label))] if names is None else names
    return arrange_images(chosen, label, names, NAMES, seed=seed)


def test_arrange_images__by_class_then_id_and_unlabelled_last():
    found = arranged([1, -1, 0, 1, 0, -1], names=["f", "e", "d", "c", "b", "a"])
    assert found.row.tolist() == [4, 2, 3, 0, 5, 1]
    assert found.code.tolist() == [0, 0, 1, 1]
    assert found.labelled == 4
    # Among the labelled by id: b, c, d, f.
    assert found.place.tolist() == [0, 2, 1, 3]


def test_arrange_images__leaves_out_what_is_not_chosen():
    found = arranged([0, 1, 2, 1], chosen=[True, False, True, True])
    assert found.row.tolist() == [0, 3, 2]
    assert found.code.tolist() == [0, 1, 2]
    assert found.place.tolist() == [0, 2, 1]


def test_arrange_images__without_labels_nothing_is_permuted():
    found = arranged([-1, -1], names=["b", "a"])
    assert found.row.tolist() == [1, 0]
    assert (found.code.size, found.place.size, found.shuffled.size) == (0, 0, 0)


@given(
    label=st.lists(st.integers(-1, 2), min_size=1, max_size=40),
    seed=st.integers(0, 5),
    order=st.randoms(use_true_random=False),
)
def test_arrange_images__order_of_the_recording_plays_no_part(label, seed, order):
    names = [f"{row:04d}" for row in range(len(label))]
    moved = list(range(len(label)))
    order.shuffle(moved)
    first = arranged(label, seed=seed)
    second = arranged([label[row] for row in moved], names=[names[row] for row in moved], seed=seed)
    assert [names[row] for row in first.row] == [names[moved[row]] for row in second.row]
    for field in ("code", "place", "shuffled"):
        assert getattr(first, field).tolist() == getattr(second, field).tolist(), field


@given(label=st.lists(st.integers(-1, 2), min_size=1, max_size=40), codes=st.permutations(range(3)))
def test_arrange_images__relabelled_classes_are_permuted_alike(label, codes):
    label = np.array(label)
    renamed = np.array([*codes, -1])[label]
    first, second = arranged(label), arranged(renamed)

    def by_row(found):
        return dict(zip(found.row[: found.labelled].tolist(), found.shuffled.tolist(), strict=True))

    assert {row: codes[code] for row, code in by_row(first).items()} == by_row(second)
    assert sorted(first.shuffled.tolist()) == first.code.tolist()


@given(label=st.lists(st.integers(0, 2), min_size=1, max_size=30), more=st.integers(1, 5))
def test_arrange_images__unlabelled_images_change_no_permutation(label, more):
    alone = arranged(label)
    beside = arranged([*label, *[-1] * more])
    assert alone.shuffled.tolist() == beside.shuffled.tolist()
    assert alone.place.tolist() == beside.place.tolist()


def test_load_choice__equals_what_was_saved(tmp_path):
    saved = arranged([1, -1, 0, 1], seed=3)
    saved.save(tmp_path / "choice.npz")
    found = load_choice(tmp_path / "choice.npz")
    assert found.class_names == NAMES
    for field in ("row", "code", "place", "shuffled"):
        one, other = getattr(found, field), getattr(saved, field)
        assert one.tolist() == other.tolist(), field
        assert one.dtype == other.dtype == np.int64


def test_load_choice__keeps_names_of_any_letters_and_none(tmp_path):
    for names in ((), ("", "naïve", "猫", "a\nb", "blank ")):
        found = arrange_images(np.ones(1, bool), np.array([-1]), ["x"], names, seed=0)
        found.save(tmp_path / "choice.npz")
        assert load_choice(tmp_path / "choice.npz").class_names == names
