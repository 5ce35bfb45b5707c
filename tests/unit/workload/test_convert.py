"""Messages of the Workload API are converted to our objects and back, or refused as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import InvalidSvidError, LocalIdentityError
from meshtls.proto import workload_pb as pb
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.jwt import JwtSvid, sign
from meshtls.workload.convert import x509_bundles, x509_bundles_message, x509_context, x509_context_message
from meshtls.workload.convert_jwt import (
    jwt_bundles,
    jwt_bundles_message,
    jwt_svids,
    jwt_svids_message,
    validated,
    validated_message,
)
from tests.support.authority import context_for, make_authority, svid_for
from tests.support.certs import NOW, key

OURS, PARTNER = make_authority(), make_authority("partner.test")
OURSELVES, PARTNERS = (TrustBundle(one.trust_domain, one.bundle.x509_authorities) for one in (OURS, PARTNER))
OURS_JWT, PARTNERS_JWT = (TrustBundle(one.trust_domain, (), {"k": key().public_key()}) for one in (OURS, PARTNER))
WEB = SpiffeId.parse("spiffe://example.org/web")


def good_message() -> pb.X509SVIDResponse:
    return x509_context_message(context_for(OURS, "/web", federated=[PARTNER.bundle]))


class TestX509:
    def test_a_context_survives_the_wire_with_its_keys_hints_and_federated_bundles(self) -> None:
        svids = (replace(svid_for(OURS, "/web"), hint="internal"), svid_for(OURS, "/web2"))
        context = X509Context(7, svids, BundleSet([OURS.bundle, PARTNER.bundle]))
        wire = x509_context_message(context).SerializeToString()
        back = x509_context(pb.X509SVIDResponse.FromString(wire), 7)
        assert back == replace(context, bundles=back.bundles)
        assert {b.trust_domain: b.x509_authorities for b in back.bundles} == {
            b.trust_domain: b.x509_authorities for b in context.bundles
        }
        assert [svid.key_der() for svid in back.svids] == [svid.key_der() for svid in svids]

    def test_the_first_of_several_svids_with_one_hint_is_kept(self) -> None:
        hints = {"/a": "x", "/b": "x", "/c": "", "/d": ""}
        svids = tuple(replace(svid_for(OURS, path), hint=hint) for path, hint in hints.items())
        message = x509_context_message(X509Context(1, svids, BundleSet([OURS.bundle])))
        assert [svid.spiffe_id.path for svid in x509_context(message, 1).svids] == ["/a", "/c", "/d"]

    def test_no_federated_bundle_takes_the_place_of_our_own(self) -> None:
        message = good_message()
        message.federated_bundles["spiffe://example.org"] = PARTNER.bundle.to_der()
        own = x509_context(message, 1).bundles[OURS.trust_domain]
        assert own.x509_authorities == OURS.bundle.x509_authorities

    def test_a_response_without_svid_says_that_none_was_issued(self) -> None:
        with pytest.raises(LocalIdentityError) as raised:
            x509_context(pb.X509SVIDResponse(), 1)
        assert str(raised.value) == ("the Workload API sent no X509-SVID: no identity was issued to this process")

    def test_a_context_without_its_own_bundle_is_not_sent(self) -> None:
        context = replace(context_for(OURS, "/web"), bundles=BundleSet([PARTNER.bundle]))
        with pytest.raises(LocalIdentityError) as raised:
            x509_context_message(context)
        assert str(raised.value) == f"X509-SVID {WEB}: no bundle of its own trust domain to send with it"

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda m: spoil_svid(m, spiffe_id="web"), "X509-SVID 'web' of the Workload API: SPIFFE ID 'web':"),
            (lambda m: spoil_svid(m, spiffe_id="spiffe://example.org/db"),
             f"X509-SVID 'spiffe://example.org/db' of the Workload API: its certificate says {WEB}"),
            (lambda m: spoil_svid(m, x509_svid=b""), "X509-SVID: wanted at least the leaf certificate, got an empty"),
            (lambda m: spoil_svid(m, x509_svid=b"\x30\x05"),
             f"X509-SVID '{WEB}' of the Workload API: byte 0 of the DER: the SEQUENCE there is cut off"),
            (lambda m: spoil_svid(m, x509_svid=b"\x30\x00"),
             f"X509-SVID '{WEB}' of the Workload API: certificate 0 of the chain is no X.509 certificate"),
            (lambda m: spoil_svid(m, x509_svid=OURS.bundle.to_der()), "our own certificate "),
            (lambda m: spoil_svid(m, x509_svid_key=b"junk"), f"X509-SVID '{WEB}' of the Workload API: "),
            (lambda m: spoil_svid(m, x509_svid_key=encrypted()), f"X509-SVID '{WEB}' of the Workload API: "),
            (lambda m: spoil_svid(m, x509_svid_key=edwards()),
             f"X509-SVID '{WEB}' of the Workload API: wanted an EC or RSA key, got Ed25519PrivateKey"),
            (lambda m: spoil_svid(m, x509_svid_key=svid_for(OURS, "/web").key_der()),
             f"X509-SVID {WEB}: the private key does not belong to the certificate"),
        ],
    )  # fmt: skip
    def test_a_response_with_a_spoilt_default_svid_is_refused_whole(
        self, spoil: Callable[[pb.X509SVIDResponse], object], message: str
    ) -> None:
        response = good_message()
        assert x509_context(response, 1).svid.spiffe_id == WEB
        spoil(response)
        with pytest.raises(LocalIdentityError) as raised:
            x509_context(response, 1)
        assert str(raised.value).startswith(message)

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda m: spoil_svid(m, bundle=b""),
             f"X509-SVID '{WEB}' of the Workload API: it came without a bundle;"
             " no peer of its trust domain is trusted"),
            (lambda m: spoil_svid(m, bundle=OURS.bundle.to_der()[:-1]),
             "X.509 bundle of example.org of the Workload API: byte 0 of the DER: the SEQUENCE there is cut off or has"
             " no length; no peer of example.org is trusted until a readable one arrives"),
            (lambda m: spoil_svid(m, bundle=b"\x30\x00"),
             "SPIFFE bundle of trust domain example.org: left out an X.509 authority: error parsing asn1 value"),
        ],
    )  # fmt: skip
    def test_an_unusable_own_bundle_ends_trust_in_our_domain_only(
        self, spoil: Callable[[pb.X509SVIDResponse], object], message: str
    ) -> None:
        response = good_message()
        good = x509_context(response, 1)
        assert good.unusable == ()
        spoil(response)
        spoilt = x509_context(response, 1)
        assert spoilt.svids == good.svids
        assert spoilt.bundles == BundleSet([TrustBundle(OURS.trust_domain), PARTNERS])
        [line] = spoilt.unusable
        assert line.startswith(message)

    @pytest.mark.parametrize(
        ("ders", "kept", "message"),
        [
            (b"x", (), "X.509 bundle of partner.test of the Workload API: byte 0 of the DER: wanted the start"),
            (b"\x30\x00", (), "SPIFFE bundle of trust domain partner.test: left out an X.509 authority: error parsing"),
            (b"\x30\x00" + PARTNER.bundle.to_der(), PARTNERS.x509_authorities,
             "SPIFFE bundle of trust domain partner.test: left out an X.509 authority: error parsing"),
            (PARTNER.bundle.to_der() + b"\x30\x00", PARTNERS.x509_authorities,
             "SPIFFE bundle of trust domain partner.test: left out an X.509 authority: error parsing"),
            (PARTNER.bundle.to_der() + b"\x30\x05", (),
             "X.509 bundle of partner.test of the Workload API: byte "),
        ],
    )  # fmt: skip
    def test_a_partners_bundle_that_cannot_be_used_costs_that_partner_only(
        self, ders: bytes, kept: tuple[x509.Certificate, ...], message: str
    ) -> None:
        response, alone = good_message(), x509_bundles_message(BundleSet([OURS.bundle, PARTNER.bundle]))
        response.federated_bundles["spiffe://partner.test"] = alone.bundles["spiffe://partner.test"] = ders
        for bundles, unusable in (
            ((context := x509_context(response, 1)).bundles, context.unusable),
            ((only := x509_bundles(alone)), only.unusable),
        ):
            assert bundles == BundleSet([OURSELVES, replace(PARTNERS, x509_authorities=kept)])
            [line] = unusable
            assert line.startswith(message)

    def test_the_default_svids_bundle_counts_for_our_own_trust_domain(self) -> None:
        message = good_message()
        message.svids.add().CopyFrom(x509_context_message(context_for(OURS, "/web2")).svids[0])
        message.svids[1].bundle = PARTNER.bundle.to_der()
        context = x509_context(message, 1)
        assert len(context.svids) == 2
        assert context.bundles[OURS.trust_domain] == OURSELVES

    def test_a_bundle_under_an_invalid_trust_domain_is_left_out(self) -> None:
        message = good_message()
        message.federated_bundles["spiffe://"] = PARTNER.bundle.to_der()
        context = x509_context(message, 1)
        assert context.bundles == x509_context(good_message(), 1).bundles
        [line] = context.unusable
        assert line.startswith("bundle of the Workload API: trust domain '': wanted one or more of")

    def test_a_federated_bundle_under_an_id_of_ours_does_not_take_the_place_of_our_own(self) -> None:
        message = good_message()
        for name in (str(WEB), "spiffe://example.org", "EXAMPLE.ORG"):
            message.federated_bundles[name] = PARTNER.bundle.to_der()
        assert x509_context(message, 1).bundles[OURS.trust_domain].x509_authorities == OURS.bundle.x509_authorities

    def test_a_further_unusable_svid_is_left_out_and_its_bundle_is_kept(self) -> None:
        message = good_message()
        other = x509_context_message(context_for(PARTNER, "/odd")).svids[0]
        del message.federated_bundles["spiffe://partner.test"]
        message.svids.add().CopyFrom(other)
        assert [str(svid.spiffe_id) for svid in x509_context(message, 1).svids] == [str(WEB), other.spiffe_id]
        message.svids[1].x509_svid_key = edwards()
        context = x509_context(message, 1)
        assert [svid.spiffe_id for svid in context.svids] == [WEB]
        assert context.unusable == (
            "X509-SVID 'spiffe://partner.test/odd' of the Workload API: wanted an EC or RSA key, got Ed25519PrivateKey;"
            " it is left out",
        )
        assert context.bundles == x509_context(good_message(), 1).bundles

    def test_bundles_alone_survive_the_wire(self) -> None:
        bundles = BundleSet([OURS.bundle, PARTNER.bundle])
        back = x509_bundles(x509_bundles_message(bundles))
        assert {b.trust_domain: b.x509_authorities for b in back} == {
            b.trust_domain: b.x509_authorities for b in bundles
        }


class TestJwt:
    def test_bundles_keep_their_jwt_keys_and_nothing_else(self) -> None:
        bundle = TrustBundle(OURS.trust_domain, OURS.bundle.x509_authorities, {"k1": key().public_key()}, 3, 60)
        message = jwt_bundles_message(BundleSet([bundle]))
        assert b"x5c" not in message.bundles["spiffe://example.org"]
        wanted = BundleSet([replace(bundle, x509_authorities=())])
        assert jwt_bundles(message) == wanted
        message.bundles["spiffe://example.org"] = bundle.to_jwks().encode()
        assert jwt_bundles(message) == wanted

    @pytest.mark.parametrize(("use", "taken"), [({}, ["k1"]), ({"use": "sig"}, ["k1"]), ({"use": "enc"}, [])])
    def test_a_jwt_key_without_use_is_accepted(self, use: dict[str, str], taken: list[str]) -> None:
        bundle = TrustBundle(OURS.trust_domain, jwt_authorities={"k1": key().public_key()})
        [one] = json.loads(bundle.to_jwks())["keys"]
        assert one.pop("use") == "jwt-svid"
        document = json.dumps({"keys": [one | use]}).encode()
        [read] = jwt_bundles(pb.JWTBundlesResponse(bundles={"spiffe://example.org": document}))
        assert list(read.jwt_authorities) == taken

    @pytest.mark.parametrize("document", [b"{}", b"", b"\xff", b'{"keys": [], "spiffe_sequence": -1}'])
    def test_an_invalid_document_costs_its_own_trust_domain_only(self, document: bytes) -> None:
        good = jwt_bundles_message(BundleSet([OURS_JWT, PARTNERS_JWT]))
        assert jwt_bundles(good) == BundleSet([OURS_JWT, PARTNERS_JWT])
        good.bundles["spiffe://partner.test"] = document
        bundles = jwt_bundles(good)
        assert bundles == BundleSet([OURS_JWT, TrustBundle(PARTNER.trust_domain)])
        [line] = bundles.unusable
        assert line.startswith("SPIFFE bundle of trust domain partner.test: wanted ")
        assert line.endswith("; no peer of partner.test is trusted until a readable one arrives")

    def test_a_key_that_cannot_be_used_costs_itself_only(self) -> None:
        good = jwt_bundles_message(BundleSet([OURS_JWT, PARTNERS_JWT]))
        document = json.loads(good.bundles["spiffe://partner.test"])
        document["keys"].insert(0, document["keys"][0] | {"x": "AAAA", "kid": "off the curve"})
        good.bundles["spiffe://partner.test"] = json.dumps(document).encode()
        bundles = jwt_bundles(good)
        assert bundles == BundleSet([OURS_JWT, PARTNERS_JWT])
        assert len(bundles.unusable) == 1

    def test_tokens_survive_the_wire(self) -> None:
        svid = replace(token("db", "mail"), hint="internal")
        assert jwt_svids(jwt_svids_message([svid]), ["mail"]) == (svid,)

    @pytest.mark.parametrize(
        ("svid", "audience", "message"),
        [
            ({"svid": "junk"}, ["db"], f"JWT-SVID '{WEB}' of the Workload API: JWT-SVID: wanted a JWS in compact form"),
            ({"spiffe_id": "spiffe://example.org/db"}, ["db"],
             f"JWT-SVID 'spiffe://example.org/db' of the Workload API: its token says {WEB}"),
            ({}, ["db", "x"], f"JWT-SVID '{WEB}' of the Workload API: asked for audience 'x', got 'db'"),
        ],
    )  # fmt: skip
    def test_a_token_other_than_the_requested_one_is_refused(
        self, svid: dict[str, str], audience: list[str], message: str
    ) -> None:
        good = {"spiffe_id": str(WEB), "svid": token("db").token}
        assert jwt_svids(pb.JWTSVIDResponse(svids=[pb.JWTSVID(**good)]), ["db"])[0].spiffe_id == WEB
        with pytest.raises(LocalIdentityError) as raised:
            jwt_svids(pb.JWTSVIDResponse(svids=[pb.JWTSVID(**good | svid)]), audience)
        assert str(raised.value).startswith(message)

    def test_an_empty_response_is_refused(self) -> None:
        with pytest.raises(LocalIdentityError, match="the Workload API sent no JWT-SVID"):
            jwt_svids(pb.JWTSVIDResponse(), ["db"])

    def test_a_verdict_carries_the_claims(self) -> None:
        svid = token("db")
        message = validated_message(svid)
        assert validated(message, svid.token) == svid
        assert (message.claims["sub"], message.claims["exp"]) == (str(WEB), svid.expiry.timestamp())

    @pytest.mark.parametrize(
        ("claim", "carried"),
        [
            (10**300, True),
            (10**400, False),
            ("\u00e9", True),
            ("\ud800", False),
            ([["x"]], True),
            ({"\ud800": 1}, False),
        ],
    )
    def test_a_verdict_carries_claims_that_fit_and_no_others(self, claim: object, carried: bool) -> None:
        svid = token("db")
        extended = replace(svid, claims={**svid.claims, "extra": claim})
        if carried:
            assert "extra" in validated_message(extended).claims
            return
        with pytest.raises(InvalidSvidError, match=f"^JWT-SVID of {WEB}: wanted claims that JSON can carry: "):
            validated_message(extended)

    def test_a_verdict_about_another_identity_is_refused(self) -> None:
        message = pb.ValidateJWTSVIDResponse(spiffe_id="spiffe://example.org/db")
        with pytest.raises(LocalIdentityError) as raised:
            validated(message, token("db").token)
        assert str(raised.value) == (
            f"the Workload API accepted a token of {WEB} as one of 'spiffe://example.org/db'; it is not used"
        )

    def test_a_verdict_about_junk_is_refused(self) -> None:
        with pytest.raises(LocalIdentityError, match="^the Workload API accepted an invalid token: JWT-SVID"):
            validated(pb.ValidateJWTSVIDResponse(spiffe_id=str(WEB)), "junk")


def token(*audience: str) -> JwtSvid:
    return sign(WEB, audience, key=key(), key_id="k1", now=NOW, ttl=timedelta(minutes=5))


def spoil_svid(message: pb.X509SVIDResponse, **fields: str | bytes) -> None:
    for name, value in fields.items():
        setattr(message.svids[0], name, value)


def encrypted() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )


def edwards() -> bytes:
    return ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
