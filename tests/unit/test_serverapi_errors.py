"""The exceptions of the server API's calls are translated to our errors."""

from __future__ import annotations

import pytest

from meshtls.errors import LocalIdentityError
from meshtls.serverapi.channels import our_errors
from meshtls.tls.failures import NoIdentityError


def test_a_channel_without_an_identity_of_its_own_does_not_blame_the_server() -> None:
    with pytest.raises(LocalIdentityError, match="^the SVID of this agent has expired$"), our_errors():
        raise NoIdentityError(LocalIdentityError("the SVID of this agent has expired"))
