"""The sidecars on the loop that a process of their own gives them, whose epoll the relays share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from meshtls.sidecar.loop import run, selector_of
from tests.integration.sidecar import test_bytes, test_lifetimes, test_nothing_lost, test_resumption

SCENARIOS: list[Callable[[], Coroutine[Any, Any, None]]] = [
    test_bytes.test_64_mib_go_both_ways_at_once_and_the_half_close_ends_them,
    test_bytes.test_200_connections_at_once_each_get_their_own_bytes,
    test_bytes.test_a_reader_that_stops_stops_its_writer,
    test_bytes.test_a_tls_peer_that_is_cut_off_resets_the_app_instead_of_ending_it,
    test_lifetimes.test_drain_stops_accepting_and_waits_for_connections_to_end,
    test_lifetimes.test_a_connection_on_which_nothing_moves_is_closed_at_the_idle_timeout,
    test_lifetimes.test_a_policy_change_closes_the_connection_that_it_forbids_and_no_other,
    test_nothing_lost.test_after_the_client_s_half_close_the_app_goes_on,
    test_nothing_lost.test_a_client_that_resets_is_no_clean_end_for_the_app,
    test_nothing_lost.test_bytes_keep_flowing_while_identities_rotate_and_policies_change,
    test_resumption.test_connections_after_the_first_are_resumed,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__.removeprefix("test_"))
def test_there_as_elsewhere(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        assert selector_of(asyncio.get_running_loop()) is not None
        await scenario()

    run(main())
