"""Everything that the engine is held to step by step, over many more random cases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factory import (
    test_exactness,
    test_pool_exactness,
    test_prefix_exactness,
    test_ranks,
    test_schedule_exactness,
    test_speculation_exactness,
    test_together_exactness,
)
from tests.factory.side_by_side import Case

Check = Callable[[Case], None]

EVERYTHING: dict[str, tuple[st.SearchStrategy[Case], Check]] = {
    "policies": (test_exactness.cases(), test_exactness.assert_same),
    "prefixes": (test_prefix_exactness.cases(), test_exactness.assert_same),
    "prompts alone": (test_pool_exactness.cases("prompts"), test_exactness.assert_same),
    "decoding alone": (test_pool_exactness.cases("decodes"), test_exactness.assert_same),
    "orders": (test_schedule_exactness.cases(), test_exactness.assert_same),
    "orders, memory short": (test_schedule_exactness.tight_cases(), test_exactness.assert_same),
    "orders, prefixes": (test_schedule_exactness.cases(hashed=True), test_exactness.assert_same),
    "ranks": (test_ranks.ranked(), test_ranks.assert_same),
    "drafts": (test_speculation_exactness.drafted(), test_speculation_exactness.assert_same),
    "drafts, orders, memory short": (
        test_together_exactness.short_and_drafted(),
        test_speculation_exactness.assert_same,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", EVERYTHING)
def test_macro_steps_equal_single_steps(what: str) -> None:
    strategy, check = EVERYTHING[what]

    @settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def holds(case: Case) -> None:
        check(case)

    holds()
