"""The header x-forwarded-for: which client it names, and what the app gets of it. Pure.

As in Envoy with ``use_remote_address`` and ``xff_num_trusted_hops``, but where it names no client: Envoy then takes the
address of the connection, which is a proxy's, and a policy may well allow those.
"""

from __future__ import annotations

from ipaddress import ip_address

from meshtls.wire.http_rules import spellings

__all__ = ["HEADER", "UNKNOWN", "appended", "client_of"]

HEADER = "x-forwarded-for"
_SPELLINGS = spellings(HEADER)
#: Stands for an address that is not known: no policy allows it, and each that denies by address denies it.
UNKNOWN = ""

Headers = tuple[tuple[str, str], ...]


def client_of(headers: Headers, proxies: int) -> str:
    """The address that the outermost of ``proxies`` trusted ones noted: the N-th from the right, over all lines.

    UNKNOWN if there are fewer, or if that one is anything but an address without a port, brackets and zone.
    """
    entries = ",".join([value for name, value in headers if name == HEADER]).rsplit(",", proxies)
    if len(entries) < proxies:
        return UNKNOWN
    text = entries[-proxies].strip(" \t")
    try:
        return UNKNOWN if "%" in text else str(ip_address(text))
    except ValueError:
        return UNKNOWN


def appended(headers: Headers, host: str) -> Headers:
    """The headers for the app: one line, which ends with the address that the connection came from.

    Lines whose name has an underscore for a dash are left out: WSGI and CGI take it for the dash.
    """
    came = [value for name, value in headers if name == HEADER]
    others = tuple([one for one in headers if one[0] not in _SPELLINGS])
    # An empty line counts as an entry, as in client_of; of lines that are all empty nothing is kept.
    before = [",".join(came)] if any(came) else []
    return (*others, (HEADER, ", ".join([*before, host or "unknown"])))
