"""The library's tests run on asyncio's loop and on uvloop, as users' programs do."""

from tests.support.loops import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
