from __future__ import annotations

from collections import OrderedDict

from meshtls.memo import Memo, keep_newest


def test_a_memo_returns_what_it_keeps_and_is_emptied_when_it_is_full() -> None:
    memo: Memo[str, int] = Memo(2)
    assert memo.keep("a", 1) == 1
    memo.keep("b", 2)
    assert dict(memo) == {"a": 1, "b": 2}
    memo.keep("c", 3)
    assert dict(memo) == {"c": 3}


def test_a_value_that_is_kept_again_is_the_newest_and_the_oldest_is_dropped() -> None:
    kept: OrderedDict[str, int] = OrderedDict()
    for key, value in (("a", 1), ("b", 2), ("a", 3)):
        keep_newest(kept, key, value, 2)
    assert list(kept.items()) == [("b", 2), ("a", 3)]
    keep_newest(kept, "c", 4, 2)
    assert list(kept.items()) == [("a", 3), ("c", 4)]
