"""The administration commands: their effect on a server, their output, and their errors."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from meshtls.bundle import TrustBundle
from meshtls.spiffeid import TrustDomain
from tests.integration.cli.identity_site import AgentProcess, ServerProcess, Told, tell
from tests.integration.cli.processes import meshtls, started
from tests.support.agent import short_directory
from tests.support.authority import make_authority

NODE = "spiffe://example.org/node"
OF_ANOTHER_DOMAIN = ("--spiffe-id", "spiffe://other.org/x", "--parent-id", "spiffe://other.org/y")
UNKNOWN = "spiffe://example.org/meshtls/agent/join_token/unknown"


def created(server: ServerProcess, path: str, *more: str) -> dict[str, Any]:
    who = ("--spiffe-id", f"spiffe://example.org{path}", "--parent-id", NODE, "--selector", "unix:uid:1000")
    entry: dict[str, Any] = server.json("entry", "create", *who, *more)
    return entry


def test_an_entry_is_created_shown_counted_updated_and_deleted(server: ServerProcess) -> None:
    made = created(
        server,
        "/one",
        *("--selector", "unix:path:/bin/app", "--x509-svid-ttl", "2m", "--jwt-svid-ttl", "30"),
        *("--federates-with", "partner.test", "--dns", "one.example.org", "--hint", "first"),
        *("--admin", "--downstream", "--expires-at", "2035-01-31T13:00:00+01:00"),
    )
    revision, which = made["revision"], ("--entry-id", made["id"])
    assert made == {
        "id": made["id"],
        "spiffe_id": "spiffe://example.org/one",
        "parent_id": NODE,
        "selectors": ["unix:path:/bin/app", "unix:uid:1000"],
        "x509_svid_ttl": 120,
        "jwt_svid_ttl": 30,
        "federates_with": ["partner.test"],
        "dns_names": ["one.example.org"],
        "hint": "first",
        "admin": True,
        "downstream": True,
        "expires_at": "2035-01-31T12:00:00Z",
        "revision": revision,
    }
    assert server.json("entry", "show", *which) == {"entries": [made]}
    assert server.json("entry", "count", "--hint", "first") == {"count": 1}

    changes = ("--no-admin", "--hint", "second", "--clear", "dns", "--clear", "expires-at")
    changed = server.json("entry", "update", *which, *changes)
    told = {"admin": False, "hint": "second", "dns_names": [], "expires_at": None}
    assert changed == made | told | {"revision": changed["revision"]}
    assert changed["revision"] > revision

    assert server.json("entry", "delete", *which) == {"deleted": [made["id"]]}
    assert server.json("entry", "show", "--spiffe-id", "spiffe://example.org/one") == {"entries": []}


def test_entries_are_found_by_identity_parent_selector_and_hint(server: ServerProcess) -> None:
    made = [created(server, path, "--hint", path[1:], "--selector", "unix:gid:77") for path in ("/alpha", "/beta")]

    def found(*filters: str) -> list[str]:
        return [one["spiffe_id"].rpartition("/")[2] for one in server.json("entry", "show", *filters)["entries"]]

    assert found("--spiffe-id", "spiffe://example.org/alpha") == ["alpha"]
    assert found("--hint", "beta") == ["beta"]
    assert sorted(found("--parent-id", NODE, "--selector", "unix:gid:77")) == ["alpha", "beta"]
    assert found("--parent-id", NODE, "--selector", "unix:uid:1001") == []
    server.json("entry", "delete", *(word for one in made for word in ("--entry-id", one["id"])))


def test_text_output_has_a_line_for_each_set_field(server: ServerProcess) -> None:
    made = created(server, "/plain")

    shown = server.tell("entry", "show", "--entry-id", made["id"]).out

    assert shown == (
        f"id                      {made['id']}\n"
        "spiffe id               spiffe://example.org/plain\n"
        f"parent id               {NODE}\n"
        "selectors               unix:uid:1000\n"
        f"revision                {made['revision']}\n"
    )
    assert server.tell("entry", "count", "--spiffe-id", made["spiffe_id"]).out == "1\n"
    server.json("entry", "delete", "--entry-id", made["id"])
    assert server.tell("entry", "show", "--spiffe-id", made["spiffe_id"]).out == "no entries\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("entry", "show", "--entry-id", "none"), 1, "meshtls: entry none: no entry has this id\n"),
        (("entry", "delete", "--entry-id", "none"), 1, "meshtls: entry none: no entry has this id\n"),
        (("entry", "update", "--entry-id", "none"), 1, "meshtls: entry none: no entry has this id\n"),
        (
            ("entry", "create", "--spiffe-id", "spiffe://example.org/x", "--parent-id", NODE),
            2,
            "Error: Missing option '--selector'.\n",
        ),
        (
            ("entry", "create", "--spiffe-id", "example.org/x"),
            2,
            "Error: Invalid value for '--spiffe-id': SPIFFE ID 'example.org/x': wanted it to start with 'spiffe://'\n",
        ),
        (
            ("entry", "create", "--spiffe-id", NODE, "--parent-id", NODE, "--selector", "unix:uid:1"),
            2,
            f"Error: entry {NODE}: an entry can't be its own parent\n",
        ),
        (
            ("entry", "create", "--selector", "unix"),
            2,
            "Error: Invalid value for '--selector': selector 'unix:': wanted type:value, at most 1024 characters\n",
        ),
        (
            ("entry", "create", "--x509-svid-ttl", "1500ms"),
            2,
            "Error: Invalid value for '--x509-svid-ttl': wanted whole seconds, got '1500ms'\n",
        ),
        (
            ("entry", "create", "--expires-at", "tomorrow"),
            2,
            "Error: Invalid value for '--expires-at': wanted a time such as 2030-01-31T12:00:00Z,"
            " or seconds since 1970, got 'tomorrow'\n",
        ),
        (
            ("entry", "create", *OF_ANOTHER_DOMAIN, "--selector", "unix:uid:1"),
            1,
            "meshtls: spiffe://other.org/x: this server registers for example.org only\n",
        ),
        (("agents", "show", "--spiffe-id", UNKNOWN), 1, f"meshtls: agent {UNKNOWN}: no agent has this ID\n"),
        (
            ("bundle", "list", "--id", "nobody.test"),
            1,
            "meshtls: bundle of trust domain nobody.test: not found; see `meshtls bundle list`\n",
        ),
        (
            ("bundle", "set", "--id", "partner.test", "--path", "/nonexistent"),
            2,
            "meshtls: /nonexistent: wanted a bundle to read: No such file or directory\n",
        ),
        (
            ("jwt", "mint", "--spiffe-id", "spiffe://example.org/meshtls/server", "--audience", "a"),
            1,
            "meshtls: spiffe://example.org/meshtls/server: wanted a workload's ID;"
            " those below /meshtls/ are servers and agents\n",
        ),
        (
            ("token", "generate", "--spiffe-id", "spiffe://other.org/node"),
            1,
            "meshtls: spiffe://other.org/node: wanted a name in trust domain example.org\n",
        ),
        (("explain",), 2, "Error: wanted one of --pid and --uid; --gid goes with --uid\n"),
    ],
)
def test_impossible_requests_are_one_sentence_and_an_exit_code(
    server: ServerProcess, arguments: tuple[str, ...], code: int, message: str
) -> None:
    told = server.tell(*arguments)

    assert (told.code, told.out) == (code, "")
    assert told.err.endswith(message)
    assert told.err == message or code == 2  # before a usage error stands how the verb is used


def test_an_entry_that_is_there_already_is_a_conflict(server: ServerProcess) -> None:
    made = created(server, "/twice")
    who = ("--spiffe-id", "spiffe://example.org/twice", "--parent-id", NODE, "--selector", "unix:uid:1000")

    again = server.tell("entry", "create", *who)

    assert (again.code, again.out) == (1, "")
    assert again.err == (
        f"meshtls: entry spiffe://example.org/twice: entry {made['id']} already has this parent, ID and selectors;"
        " update that one\n"
    )
    server.json("entry", "delete", "--entry-id", made["id"])


def test_a_token_says_which_agent_it_makes_and_an_agent_is_shown_banned_and_evicted(server: ServerProcess) -> None:
    joined = server.json("token", "generate", "--ttl", "1h")
    assert set(joined) == {"token", "agent_id", "expires_at"}
    assert server.tell("token", "generate").out.splitlines()[0].startswith("token")
    with short_directory() as directory:
        (directory / "bundle.pem").write_text(server.tell("bundle", "show").out)
        file = write_agent(server, directory, joined["token"])
        with started("agent", "run", "--config", file) as process:
            process.line("ready: 0 entries", "stdout")
            shown = server.json("agents", "show", "--spiffe-id", joined["agent_id"])
            assert (shown["spiffe_id"], shown["attestation"], shown["banned"]) == (
                joined["agent_id"],
                "join_token",
                False,
            )
            assert shown in server.json("agents", "list")["agents"]
            assert shown not in server.json("agents", "list", "--banned")["agents"]
            banned = server.json("agents", "ban", "--spiffe-id", joined["agent_id"])
            assert banned == {"banned": joined["agent_id"]}
            [listed] = server.json("agents", "list", "--banned")["agents"]
            assert listed["banned"] is True
            assert server.json("agents", "evict", "--spiffe-id", joined["agent_id"]) == {"evicted": joined["agent_id"]}
            assert server.tell("agents", "show", "--spiffe-id", joined["agent_id"]).code == 1
            assert process.stop() == 0


def write_agent(server: ServerProcess, directory: Path, token: str) -> Path:
    host, port = server.said["address"].split(":")
    file = directory / "agent.yaml"
    file.write_text(
        f"trust_domain: example.org\nserver_address: {host}\nserver_port: {port}\njoin_token: {token}\n"
        f"attest_port: {server.said['attest_address'].split(':')[1]}\nlog_level: ERROR\n"
        f"trust_bundle_path: {directory / 'bundle.pem'}\nsocket_path: {directory / 'agent.sock'}\n"
        "key_manager: {memory: }\n"
    )
    return file


def test_the_servers_bundle_is_shown_as_pem_and_as_a_spiffe_bundle(server: ServerProcess) -> None:
    domain = TrustDomain("example.org")
    pem = TrustBundle.from_pem(domain, server.tell("bundle", "show").out.encode())
    document = TrustBundle.from_jwks(domain, server.tell("bundle", "show", "--format", "spiffe").out)

    assert pem.x509_authorities == document.x509_authorities
    assert len(document.jwt_authorities) == 1
    shown = server.json("bundle", "show")
    assert shown == {"trust_domain": "example.org", "bundle": json.loads(document.to_jwks())}


@pytest.mark.parametrize("form", ["pem", "spiffe"])
def test_a_partners_bundle_is_set_listed_and_deleted(server: ServerProcess, tmp_path: Path, form: str) -> None:
    bundle = make_authority("partner.test").bundle
    text = bundle.to_pem().decode() if form == "pem" else bundle.to_jwks()
    (tmp_path / "partner").write_text(text)
    named = ("--id", "partner.test")

    assert server.json("bundle", "set", *named, "--format", form, "--path", tmp_path / "partner") == {
        "set": "partner.test"
    }
    assert server.tell("bundle", "list", *named).out == f"partner.test\n{bundle.to_pem().decode()}"
    assert [one["trust_domain"] for one in server.json("bundle", "list")["bundles"]] == ["partner.test"]
    assert server.json("bundle", "delete", *named) == {"deleted": "partner.test"}
    assert server.tell("bundle", "list").out == "no bundles\n"


def test_a_bundle_is_read_from_standard_input_and_an_invalid_one_is_refused(server: ServerProcess) -> None:
    good = make_authority("partner.test").bundle.to_pem()

    refused = server.tell("bundle", "set", "--id", "partner.test", given=b"no certificate")
    taken = server.tell("bundle", "set", "--id", "partner.test", given=good)

    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(
        "meshtls: standard input: SPIFFE bundle of trust domain partner.test: wanted PEM certificates, got "
    )
    assert (taken.code, taken.out) == (0, "set                     partner.test\n")
    server.json("bundle", "delete", "--id", "partner.test")


def test_a_minted_x509_svid_is_printed_or_written_with_its_key_private(server: ServerProcess, tmp_path: Path) -> None:
    asked = ("x509", "mint", "--spiffe-id", "spiffe://example.org/batch", "--ttl", "5m", "--dns", "batch.example.org")

    printed = server.json(*asked)
    written = server.json(*asked, "--write", tmp_path / "svid")

    leaf = x509.load_pem_x509_certificate(printed["svid.pem"].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org/batch"]
    assert names.get_values_for_type(x509.DNSName) == ["batch.example.org"]
    key = load_pem_private_key(printed["key.pem"].encode(), None)
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key.public_key().public_bytes(*form) == leaf.public_key().public_bytes(*form)
    assert "key.pem" not in written
    assert written["files"] == [str(tmp_path / "svid" / name) for name in ("bundle.pem", "key.pem", "svid.pem")]
    assert stat.S_IMODE((tmp_path / "svid" / "key.pem").stat().st_mode) == 0o600


def test_a_minted_x509_svid_replaces_the_files_of_its_own_identity_and_no_other(
    server: ServerProcess, tmp_path: Path
) -> None:
    asked = ("x509", "mint", "--write", tmp_path, "--spiffe-id")
    first = server.json(*asked, "spiffe://example.org/batch")
    before = (tmp_path / "key.pem").read_bytes()

    other = server.tell(*asked, "spiffe://example.org/other")
    assert (other.code, other.out) == (2, "")
    assert other.err == (
        f"meshtls: {tmp_path}: has the SVID of spiffe://example.org/batch, which that of spiffe://example.org/other"
        f" would replace; write to another directory, or delete {tmp_path / 'svid.pem'} first\n"
    )
    assert (tmp_path / "key.pem").read_bytes() == before
    assert server.json(*asked, "spiffe://example.org/batch")["serial"] != first["serial"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_minted_x509_svid_with_a_shortened_life_gets_a_notice(server: ServerProcess, form: str) -> None:
    asked = ("x509", "mint", "--spiffe-id", "spiffe://example.org/batch", "--output", form, "--ttl")

    cut, whole = server.tell(*asked, "100h"), server.tell(*asked, "12h")

    assert (cut.code, whole.code, whole.err) == (0, 0, "")
    notice = json.loads(cut.err)["notice"] if form == "json" else cut.err.removeprefix("meshtls: ")
    assert notice.startswith("--ttl: requested 4 days, 4:00:00, got ")
    assert notice.rstrip().endswith(": no SVID outlives the server's own CA certificate (ca_ttl)")


@pytest.mark.parametrize("verb", ["create", "update"])
def test_an_entry_whose_end_is_past_is_refused(server: ServerProcess, verb: str) -> None:
    made = created(server, "/lasting")
    which = ("--entry-id", made["id"]) if verb == "update" else (*parented("/ended"), "--selector", "unix:uid:7")

    refused = server.tell("entry", verb, *which, "--expires-at", "2020-01-01T00:00:00Z")
    kept = server.json("entry", "show", "--entry-id", made["id"])["entries"]
    taken = server.json("entry", verb, *which, "--expires-at", "2100-01-01T00:00:00Z")

    assert (refused.code, refused.out) == (1, "")
    assert "expires_at: wanted a time in the future, as an expired entry is deleted at once" in refused.err
    assert kept == [made]
    assert taken["expires_at"] == "2100-01-01T00:00:00Z"
    server.json("entry", "delete", *(word for one in {made["id"], taken["id"]} for word in ("--entry-id", one)))


def test_a_minted_jwt_svid_is_printed_alone_for_scripts(server: ServerProcess) -> None:
    asked = ("jwt", "mint", "--spiffe-id", "spiffe://example.org/batch", "--audience", "db", "--audience", "web")

    token = server.tell(*asked).out
    told = server.json(*asked, "--ttl", "1m")

    assert token.count(".") == 2
    assert token.endswith("\n")
    assert (told["spiffe_id"], told["audience"]) == ("spiffe://example.org/batch", ["db", "web"])
    assert told["token"].count(".") == 2


def test_over_mutual_tls_an_identity_marked_admin_may_ask_and_another_may_not(
    server: ServerProcess, agent: AgentProcess
) -> None:
    over_tls = ("entry", "count", "--hint", "nobody's", "--server", server.said["address"])
    with agent.identity("/operator", "--admin"):
        allowed = agent.tell(*over_tls)
    with agent.identity("/somebody"):
        refused = agent.tell(*over_tls)

    assert (allowed.code, allowed.out) == (0, "0\n")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"meshtls: server {server.said['address']}: the server can't be reached: Connection lost; is the server"
        " running, and is the entry of this identity marked admin?"
        " If there are several identities, select one with --as\n"
    )


def test_the_named_identity_administers_and_the_other_is_refused(server: ServerProcess, agent: AgentProcess) -> None:
    over_tls = ("entry", "count", "--hint", "nobody's", "--server", server.said["address"])
    first, second = "spiffe://example.org/first", "spiffe://example.org/second"
    with agent.identity("/first"), agent.identity("/second", "--admin"):
        default = agent.tell(*over_tls)
        told = {name: agent.tell(*over_tls, "--as", name) for name in (first, second, "spiffe://example.org/third")}

    assert default.code == told[first].code == 1
    assert (told[second].code, told[second].out, told[second].err) == (0, "0\n", "")
    absent = told["spiffe://example.org/third"]
    assert (absent.code, absent.out) == (1, "")
    assert absent.err == (
        "meshtls: --as: wanted an SVID of spiffe://example.org/third, the Workload API gives this process"
        f" {first}, {second}; name one of these, or create an entry for it\n"
    )


def test_an_identity_option_is_refused_on_the_admin_socket(server: ServerProcess) -> None:
    told = server.tell("entry", "count", "--as", "spiffe://example.org/operator")

    assert (told.code, told.out) == (2, "")
    assert told.err.endswith(
        "Error: wanted --as together with --server: the admin socket identifies callers by their user\n"
    )


def test_an_absent_admin_socket_is_reported_with_its_path(tmp_path: Path) -> None:
    told = tell("entry", "count", "--socket", tmp_path / "admin.sock")

    assert (told.code, told.out) == (1, "")
    assert told.err == (
        f"meshtls: admin socket {tmp_path / 'admin.sock'}: the server can't be reached: No such file or"
        " directory; is the server running? Give its socket with --socket or MESHTLS_ADMIN_SOCKET\n"
    )


def test_the_admin_socket_is_taken_from_the_environment(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHTLS_ADMIN_SOCKET", server.said["socket"])

    assert tell("agents", "list").code == 0


def test_a_servers_file_is_validated_and_a_running_one_is_ready(server: ServerProcess, tmp_path: Path) -> None:
    valid = tell("server", "validate", "--config", server.config, "--output", "json").json
    assert (valid["trust_domain"], valid["node_attestors"]) == ("example.org", ["join_token"])
    assert (valid["default_x509_svid_ttl"], valid["notices"]) == (3600, [])
    ready = tell("server", "healthcheck", "--config", server.config)
    assert (ready.code, ready.out, ready.err) == (0, "ready\n", "")

    other = tmp_path / "other.yaml"
    other.write_text(f"trust_domain: example.org\ndata_dir: {tmp_path}\n")
    absent = tell("server", "healthcheck", "--config", other, "--output", "json")
    assert absent.code == 1
    assert absent.json == {
        "ready": False,
        "waiting_for": f"admin socket {tmp_path / 'admin.sock'}: the server can't be reached:"
        " No such file or directory",
    }


@pytest.mark.parametrize("verb", ["run", "validate", "healthcheck"])
@pytest.mark.parametrize("group", ["server", "agent"])
def test_a_missing_or_malformed_file_is_a_clear_error(tmp_path: Path, group: str, verb: str) -> None:
    absent, wrong = tmp_path / "absent.yaml", tmp_path / "wrong.yaml"
    wrong.write_text("colour: red\n")

    told = [tell(group, verb, "--config", file) for file in (absent, wrong)]

    assert [(one.code, one.out) for one in told] == [(2, ""), (2, "")]
    assert told[0].err == f"meshtls: {absent}: wanted a configuration file to read: No such file or directory\n"
    missing = ["trust_domain"] if group == "server" else ["trust_domain", "server_address", "trust_bundle_path"]
    for one in missing:
        assert f"meshtls: {wrong}, line 1: {one}: this key is required, and it is missing\n" in told[1].err
    assert f"meshtls: {wrong}, line 1: colour: unknown key; wanted one of trust_domain, " in told[1].err


def test_a_server_whose_data_directory_another_one_uses_says_so_and_ends(server: ServerProcess) -> None:
    done = meshtls("server", "run", "--config", server.config)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "another process uses it; stop that process or use another directory\n",
    )
    assert "Traceback" not in done.stderr


def test_explain_shows_the_entries_of_a_user_and_what_is_missing_for_others(
    server: ServerProcess, agent: AgentProcess
) -> None:
    uid = str(os.getuid())
    node = server.json(
        *("entry", "create", "--spiffe-id", NODE, "--parent-id", agent.spiffe_id),
        *("--selector", f"spiffe_id:{agent.spiffe_id}"),
    )
    exact = server.json("entry", "create", *parented("/exact"), "--selector", f"unix:uid:{uid}")
    near = server.json(
        "entry", "create", *parented("/near"), "--selector", f"unix:uid:{uid}", "--selector", "unix:path:/bin/app"
    )
    expired = server.json(
        *("entry", "create", *parented("/expired"), "--selector", f"unix:uid:{uid}", "--expires-at", "2000000000")
    )

    told = server.tell("explain", "--uid", uid, "--gid", "7")
    document = server.json("explain", "--pid", str(os.getpid()))

    assert told.code == 0
    served = f"served by {agent.spiffe_id}"
    assert f"\nidentities\n  spiffe://example.org/exact (entry {exact['id']}, parent {NODE}, {served})\n" in told.out
    assert f"near misses\n  spiffe://example.org/near: missing unix:path:/bin/app (entry {near['id']})\n" in told.out
    assert told.out.startswith("selectors\n  unix:gid:7\n")
    assert f"unix:uid:{uid}" in document["selectors"]
    assert [one["spiffe_id"] for one in document["matching"]] == [exact["spiffe_id"], expired["spiffe_id"]]
    assert [(one["id"], one["missing"]) for one in document["near"]] == [(near["id"], ["unix:path:/bin/app"])]
    ids = (word for one in (exact, near, expired, node) for word in ("--entry-id", one["id"]))
    server.json("entry", "delete", *ids)
    assert server.tell("explain", "--uid", uid).code == 1


def parented(path: str) -> tuple[str, ...]:
    return ("--spiffe-id", f"spiffe://example.org{path}", "--parent-id", NODE)


def test_explain_reports_no_match_for_an_entry_that_no_agent_reaches(server: ServerProcess) -> None:
    lost = server.json("entry", "create", *parented("/lost"), "--selector", "unix:uid:4242")

    told = server.tell("explain", "--uid", "4242", "--gid", "7")
    server.json("entry", "delete", "--entry-id", lost["id"])

    assert told.code == 1
    assert told.out.endswith(
        "no matching registration entry\nnear misses\n  spiffe://example.org/lost: no agent and no entry has the ID of"
        f" its parent {NODE} (entry {lost['id']})\n"
    )


def test_explain_takes_a_uid_without_a_name_and_says_that_its_group_is_unknown(server: ServerProcess) -> None:
    told = server.tell("explain", "--uid", "4242")

    assert told.out == "selectors\n  unix:uid:4242\nno matching registration entry\n"
    said = "uid 4242 has no account on this machine, so its group is unknown: use --gid to match group selectors"
    assert told.err == f"meshtls: {said}\n"
    in_json = server.tell("explain", "--uid", "4242", "--output", "json")
    assert json.loads(in_json.err) == {"notice": said}


def test_explain_for_one_agent_distinguishes_entries_of_others(server: ServerProcess, agent: AgentProcess) -> None:
    uid, other_agent = str(os.getuid()), "spiffe://example.org/meshtls/agent/join_token/other"
    lost = server.json(
        *("entry", "create", "--spiffe-id", "spiffe://example.org/elsewhere", "--parent-id", other_agent),
        *("--selector", f"unix:uid:{uid}"),
    )
    with agent.identity("/here"):
        found = server.json("explain", "--uid", uid, "--agent", agent.spiffe_id)
    server.json("entry", "delete", "--entry-id", lost["id"])
    # With --gid, since the user that runs the tests may have no name and so no group.
    unknown = server.tell("explain", "--uid", uid, "--gid", str(os.getgid()), "--agent", UNKNOWN)

    assert [(one["spiffe_id"], one["agents"]) for one in found["matching"]] == [
        ("spiffe://example.org/here", [agent.spiffe_id])
    ]
    assert [(one["spiffe_id"], one["obstacle"]) for one in found["unserved"]] == [
        ("spiffe://example.org/elsewhere", f"no agent has attested as {other_agent}")
    ]
    assert (unknown.code, unknown.err) == (1, f"meshtls: agent {UNKNOWN}: no agent has this ID\n")


def test_create_warns_of_entries_that_no_agent_can_serve_and_strict_refuses_them(
    server: ServerProcess, agent: AgentProcess
) -> None:
    lost = (*parented("/lost"), "--selector", "unix:uid:7", "--selector", "aws:id:1")
    good = ("--spiffe-id", "spiffe://example.org/good", "--parent-id", agent.spiffe_id, "--selector", "unix:uid:7")
    warnings = (
        "entry spiffe://example.org/lost: no agent can serve it yet: no agent and no entry has the ID of its parent"
        f" {NODE}",
        "entry spiffe://example.org/lost: no workload attestor produces the selector aws:id:1; known: unix:uid,",
    )

    refused = server.tell("entry", "create", "--strict", *lost)
    made = server.tell("entry", "create", *lost, "--output", "json")
    taken = server.tell("entry", "create", "--strict", *good, "--output", "json")
    server.json("entry", "delete", "--entry-id", made.json["id"], "--entry-id", taken.json["id"])

    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(
        f"meshtls: nothing was created, because of --strict:\n  {warnings[0]}\n  {warnings[1]}"
    )
    assert made.code == 0
    for line, warning in zip(made.err.splitlines(), warnings, strict=True):
        assert json.loads(line)["notice"].startswith(warning)
    assert (taken.code, taken.err) == (0, "")


def test_an_entry_that_federates_with_a_domain_without_a_bundle_is_created_with_a_notice(
    server: ServerProcess, agent: AgentProcess, tmp_path: Path
) -> None:
    new = (
        *("entry", "create", "--spiffe-id", "spiffe://example.org/federated", "--parent-id", agent.spiffe_id),
        *("--selector", "unix:uid:7", "--federates-with", "absent.test"),
    )
    lacks = (
        "entry spiffe://example.org/federated federates with absent.test, of which this server has no bundle: its"
        " workloads can't verify peers of absent.test; have it fetched with `meshtls federation create --trust-domain"
        " absent.test ...`, or set it with `meshtls bundle set --id absent.test ...`"
    )

    refused = server.tell(*new, "--strict")
    made = server.tell(*new, "--output", "json")
    key = made.json["id"]
    changed = server.tell("entry", "update", "--entry-id", key, "--federates-with", "absent.test")
    (tmp_path / "bundle.pem").write_bytes(make_authority("absent.test").bundle.to_pem())
    server.json("bundle", "set", "--id", "absent.test", "--path", tmp_path / "bundle.pem")
    quiet = server.tell("entry", "update", "--entry-id", key, "--federates-with", "absent.test")
    server.json("entry", "delete", "--entry-id", key)
    server.json("bundle", "delete", "--id", "absent.test")

    assert (refused.code, refused.err) == (1, f"meshtls: nothing was created, because of --strict:\n  {lacks}\n")
    assert (made.code, json.loads(made.err)) == (0, {"notice": lacks})
    assert (changed.code, changed.err) == (0, f"meshtls: {lacks}\n")
    assert (quiet.code, quiet.err) == (0, "")


@pytest.mark.parametrize(("form", "other"), [("pem", "spiffe"), ("spiffe", "pem")])
def test_a_bundle_in_the_other_form_is_refused_with_the_option_to_give(
    server: ServerProcess, tmp_path: Path, form: str, other: str
) -> None:
    bundle = make_authority("absent.test").bundle
    file = tmp_path / "bundle"
    file.write_bytes(bundle.to_pem() if other == "pem" else bundle.to_jwks().encode())
    relation = (
        *("federation", "create", "--trust-domain", "absent.test", "--bundle-endpoint-url", "https://127.0.0.1:1/"),
        *("--bundle-endpoint-profile", "https_web", "--trust-domain-bundle-path", file),
    )
    wanted = {"pem": "wanted PEM certificates, got JSON", "spiffe": "wanted a JSON object, got PEM"}[form]

    refused = server.tell("bundle", "set", "--id", "absent.test", "--path", file, "--format", form)
    related = server.tell(*relation, "--trust-domain-bundle-format", form)
    taken = server.tell("bundle", "set", "--id", "absent.test", "--path", file, "--format", other)
    server.json("bundle", "delete", "--id", "absent.test")

    said = f"meshtls: {file}: SPIFFE bundle of trust domain absent.test: {wanted}; give"
    assert (refused.code, refused.err) == (1, f"{said} --format {other}\n")
    assert (related.code, related.err) == (1, f"{said} --trust-domain-bundle-format {other}\n")
    assert (taken.code, taken.err) == (0, "")


def test_keys_of_a_bundle_that_can_not_be_used_get_a_notice_where_a_federation_begins(
    server: ServerProcess, tmp_path: Path
) -> None:
    document = json.loads(make_authority("absent.test").bundle.to_jwks())
    relation = (
        *("--trust-domain", "absent.test", "--bundle-endpoint-url", "https://127.0.0.1:1/"),
        *("--bundle-endpoint-profile", "https_web", "--trust-domain-bundle-path", tmp_path / "bundle.json"),
    )

    def told(verb: str, *more_keys: object) -> Told:
        (tmp_path / "bundle.json").write_text(json.dumps(document | {"keys": [*document["keys"], *more_keys]}))
        return server.tell("federation", verb, *relation)

    created = told("create", {"kty": "EC", "use": "x509-svid", "x5c": ["bm9uZQ=="]})
    updated = told("update", {"kty": "EC", "use": "x509-svid", "x5c": ["bm9uZQ=="]})
    quiet = told("update")
    server.json("federation", "delete", "--trust-domain", "absent.test")

    for one in (created, updated):
        assert one.code == 0
        assert one.err.startswith(
            "meshtls: SPIFFE bundle of trust domain absent.test: left out an X.509 authority: error parsing asn1 value"
        )
    assert (quiet.code, quiet.err) == (0, "")


class TestManyEntries:
    """``--data``: a file or standard input, each for itself or all or none."""

    @staticmethod
    def document(*paths: str, **more: object) -> bytes:
        made = [
            {"spiffe_id": f"spiffe://example.org{path}", "parent_id": NODE, "selectors": ["unix:uid:1"], **more}
            for path in paths
        ]
        return json.dumps({"entries": made}).encode()

    @staticmethod
    def paths(server: ServerProcess) -> list[str]:
        shown = server.json("entry", "show", "--parent-id", NODE)["entries"]
        return sorted(one["spiffe_id"].rpartition("/")[2] for one in shown)

    def test_entries_of_a_file_are_created_updated_by_the_export_and_deleted(
        self, server: ServerProcess, tmp_path: Path
    ) -> None:
        file = tmp_path / "entries.json"
        file.write_bytes(self.document("/m1", "/m2", "/m3"))
        created = server.json("entry", "create", "--data", file)
        assert [one["spiffe_id"].rpartition("/")[2] for one in created["created"]] == ["m1", "m2", "m3"]
        assert (created["failed"], self.paths(server)) == ([], ["m1", "m2", "m3"])

        export = server.json("entry", "show", "--parent-id", NODE)
        for one in export["entries"]:
            one["hint"] = "changed"
        told = server.tell("entry", "update", "--data", "-", given=json.dumps(export).encode())
        assert (told.code, told.out) == (0, "updated 3 of 3 entries\n")
        assert server.json("entry", "count", "--hint", "changed") == {"count": 3}

        told = server.tell("entry", "delete", "--data", "-", given=json.dumps(export).encode())
        assert (told.code, told.out) == (0, "deleted 3 of 3 entries\n")
        assert self.paths(server) == []

    def test_valid_entries_of_a_batch_are_created_beside_invalid_ones(self, server: ServerProcess) -> None:
        server.tell("entry", "create", "--data", "-", given=self.document("/m2"))
        given = self.document("/m1", "/m2", "/m3")

        told = server.tell("entry", "create", "--data", "-", "--output", "json", given=given)
        try:
            assert told.code == 1
            assert [one["spiffe_id"].rpartition("/")[2] for one in told.json["created"]] == ["m1", "m3"]
            [failed] = told.json["failed"]
            assert failed["entry"] == "entries[1] (spiffe://example.org/m2)"
            assert failed["message"].endswith("already has this parent, ID and selectors; update that one")
            assert self.paths(server) == ["m1", "m2", "m3"]
        finally:
            self.clear(server)

    @pytest.mark.parametrize("verb", ["create", "update", "delete"])
    def test_all_or_none_changes_nothing_when_one_change_fails(self, server: ServerProcess, verb: str) -> None:
        server.tell("entry", "create", "--data", "-", given=self.document("/m2"))
        [present] = server.json("entry", "show", "--parent-id", NODE)["entries"]
        given = {
            "create": self.document("/m1", "/m2"),
            "update": json.dumps([{"id": present["id"], "hint": "x"}, {"id": "none", "hint": "x"}]).encode(),
            "delete": json.dumps({"ids": [present["id"], "none"]}).encode(),
        }[verb]

        told = server.tell("entry", verb, "--data", "-", "--all-or-none", given=given)
        try:
            assert (told.code, told.out) == (1, "")
            assert server.json("entry", "show", "--parent-id", NODE) == {"entries": [present]}
        finally:
            self.clear(server)

    def test_an_update_of_an_outdated_revision_is_a_conflict(self, server: ServerProcess) -> None:
        server.tell("entry", "create", "--data", "-", given=self.document("/m1"))
        try:
            [old] = server.json("entry", "show", "--parent-id", NODE)["entries"]
            server.json("entry", "update", "--entry-id", old["id"], "--hint", "new")

            told = server.tell("entry", "update", "--data", "-", given=json.dumps([old]).encode())

            assert told.code == 1
            assert "read it again and repeat your change" in told.err
        finally:
            self.clear(server)

    @pytest.mark.parametrize(
        ("arguments", "given", "code", "message"),
        [
            (("create", "--data", "/nonexistent"), b"", 2, "meshtls: /nonexistent: wanted JSON to read: No such file"),
            (("create", "--data", "-"), b"[]", 2, "meshtls: -: wanted at least one entry, got none\n"),
            (("create", "--data", "-"), b"[{}]", 2, "meshtls: -: it can't be used:\n  [0]: wanted spiffe_id\n  [0]: w"),
            (("create", "--data", "-", "--hint", "x"), b"", 2, "wanted --data or the options of one entry, got both\n"),
            (("update", "--data", "-"), b"[{}]", 2, "[0]: wanted id, that of the entry to update\n"),
            (("update",), b"", 2, "Error: Missing option '--entry-id'.\n"),
            (("delete",), b"", 2, "Error: Missing option '--entry-id'.\n"),
            (
                ("delete", "--all-or-none", "--entry-id", "x"),
                b"",
                2,
                "Error: wanted --all-or-none together with --data\n",
            ),
            (
                ("create", "--data", "-"),
                b'[{"spiffe_id": "spiffe://a.org/x", "parent_id": "spiffe://b.org/y", "selectors": ["unix:uid:1"]}]',
                2,
                "[0]: entry spiffe://a.org/x: wanted a parent in the same trust domain, got spiffe://b.org/y\n",
            ),
        ],
    )
    def test_bad_input_is_one_sentence_and_an_exit_code(
        self, server: ServerProcess, arguments: tuple[str, ...], given: bytes, code: int, message: str
    ) -> None:
        told = server.tell("entry", *arguments, given=given)

        assert (told.code, told.out) == (code, "")
        assert message in told.err

    def clear(self, server: ServerProcess) -> None:
        shown = server.json("entry", "show", "--parent-id", NODE)
        server.tell("entry", "delete", "--data", "-", given=json.dumps(shown).encode())
