"""``meshtls authority``: the authorities of the servers, and their rotation by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.output import Output, Record
from meshtls.cli.records import moment
from meshtls.scalars import count_of
from meshtls.serverapi.values import AuthorityStatus

__all__ = ["authority"]

_NAMED = 8

_jwt = click.option("--jwt", is_flag=True, help="The authorities that sign JWT-SVIDs, not X509-SVIDs.")
_which = click.argument("wanted", metavar="[ID]", default="")
_force = click.option("--force", is_flag=True, help="Even where agents or SVIDs in use would suffer.")


@click.group()
def authority() -> None:
    """The authorities that sign: one is active, the next one prepared; those before are old until nothing needs them.

    To replace one in use: prepare, activate as soon as every agent has confirmed the new bundle, taint the old one so
    that its SVIDs are replaced, and revoke it once nothing hangs on it. Without any command, the server does the first
    two by the clock, and an old authority leaves after its last SVID.

    An ID is as `show` prints it; its beginning is enough, if no other authority's begins so. Without an ID, the only
    authority that can take the step is meant.

    Below an upstream authority the roots are that one's: prepare has it sign a new CA for this server, and what is
    tainted or revoked there is so here.
    """


@authority.command()
@_jwt
@server_options
def show(access: ServerAccess, out: Output, jwt: bool) -> None:
    """Show the authorities of all servers, what hangs on each, and when it can be revoked."""
    found = [one for one in access.ask(lambda api: api.authorities()) if one.kind == _kind(jwt)]
    if out.as_json:
        out.records("authorities", [_record(one) for one in found])
        return
    out.record({}, text="\n\n".join(map(_text, found)))


@authority.command()
@_jwt
@server_options
def prepare(access: ServerAccess, out: Output, jwt: bool) -> None:
    """Make the next authority, and put it in the bundle. It does not sign yet."""
    _tell(out, access.ask(lambda api: api.prepare_authority(_kind(jwt))))


@authority.command()
@_which
@_jwt
@_force
@server_options
def activate(access: ServerAccess, out: Output, wanted: str, jwt: bool, force: bool) -> None:
    """Sign with the prepared authority from now on. The active one becomes old.

    ID: that of the prepared one, or its beginning; it is not needed. This is refused while an agent has not confirmed
    the bundle with it.
    """
    _tell(out, access.ask(lambda api: api.activate_authority(_kind(jwt), wanted, force=force)))


@authority.command()
@_which
@_jwt
@server_options
def taint(access: ServerAccess, out: Output, wanted: str, jwt: bool) -> None:
    """Have every SVID of an old authority replaced within seconds. It stays in the bundle until it is revoked.

    ID: that of the authority in `show`, or its beginning; without it, the only old one.
    """
    _tell(out, access.ask(lambda api: api.taint_authority(_kind(jwt), wanted)))


@authority.command()
@_which
@_jwt
@_force
@server_options
def revoke(access: ServerAccess, out: Output, wanted: str, jwt: bool, force: bool) -> None:
    """Take an authority out of the bundle, and delete its key: peers refuse its SVIDs from now on.

    This is refused while SVIDs in use hang on it. ID: that of the
    authority in `show`, or its beginning; without it, the only old or tainted one. A prepared one needs its ID.
    """
    _tell(out, access.ask(lambda api: api.revoke_authority(_kind(jwt), wanted, force=force)))


def _kind(jwt: bool) -> str:
    return "jwt" if jwt else "x509"


def _tell(out: Output, one: AuthorityStatus) -> None:
    out.record(_record(one), text=_text(one))


def _record(one: AuthorityStatus) -> Record:
    return {
        "id": one.id,
        "kind": one.kind,
        "state": one.state,
        "server_id": one.server_id,
        "created_at": _moment(one.created_at),
        "changed_at": _moment(one.changed_at),
        "ends_at": moment(one.ends_at),
        "leaves_at": moment(one.leaves_at),
        "svids_in_use": sum(held.count for held in one.holders),
        "holders": [
            {
                "agent_id": str(held.agent_id) if held.agent_id else None,
                "count": held.count,
                "cas_of_servers_below": held.cas,
                "until": moment(held.until),
            }
            for held in one.holders
        ],
        "waiting_for": list(map(str, one.waiting_for)),
        "revocable_at": _moment(one.revocable_at),
    }


def _text(one: AuthorityStatus) -> str:
    lines = [f"{one.state:<10}{one.id}"]
    since = f" since {moment(one.changed_at)}" if one.changed_at else ""
    lines.append(f"  {one.state.lower()}{since}, {_place(one)}")
    if one.state == "PREPARED":
        lines.append(f"  ends {moment(one.ends_at)}")
        if one.waiting_for:
            lines.append(f"  waits for {count_of(len(one.waiting_for), 'agent')} to confirm the bundle with it:")
            lines += _some([str(name) for name in one.waiting_for])
        else:
            lines.append("  every agent has confirmed the bundle with it: it can be activated")
    elif one.state in ("ACTIVE", "OLD", "TAINTED"):
        lines.append(f"  {'ends' if one.state == 'ACTIVE' else 'leaves the bundle'} {moment(one.leaves_at)}")
        count = sum(held.count for held in one.holders)
        lines.append(f"  {count or 'no'} {'SVID' if count == 1 else 'SVIDs'} in use hang{'s' * (count == 1)} on it")
        if cas := sum(held.cas for held in one.holders):
            # Their leaves are on record with those servers only.
            counted = "1 is the CA of a server below" if cas == 1 else f"{cas} are CAs of servers below"
            lines.append(f"  {counted}; what {'it has' if cas == 1 else 'they have'} signed is not counted here")
        if one.state != "ACTIVE":
            lines += _some(
                [f"{held.count} of {held.agent_id or 'no agent (minted, or a server)'}" for held in one.holders]
            )
            lines.append(f"  {_when_revocable(one)}")
    return "\n".join(lines)


def _place(one: AuthorityStatus) -> str:
    if one.server_id == "upstream":
        return "upstream of the servers here" if one.kind == "x509" else "of a server upstream"
    return "of a server downstream" if one.server_id == "downstream" else f"on server {one.server_id}"


def _when_revocable(one: AuthorityStatus) -> str:
    if one.holders:
        sooner = "or as soon as they are replaced" if one.state == "TAINTED" else "sooner if it is tainted first"
        return f"revoking it is safe from {_moment(one.revocable_at)} on, {sooner}"
    if one.revocable_at and one.revocable_at > datetime.now(UTC):
        return f"revoking it is safe from {moment(one.revocable_at)} on, when workloads have settled"
    return "revoking it is safe now"


def _some(names: Sequence[str]) -> list[str]:
    more = [f"    and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return [*(f"    {name}" for name in names[:_NAMED]), *more]


def _moment(when: datetime | None) -> str | None:
    return moment(when) if when else None
