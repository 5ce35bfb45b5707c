"""What a program of somebody's uses runs on asyncio's loop and on uvloop."""

from tests.support.loops import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
