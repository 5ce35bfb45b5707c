"""What TLS allows on a wire, as a grammar: written from the standards, and not from the table of ``tls_states``.

``>`` is what the client sends and ``<`` what the server sends. ``=`` is what the last message decides.
"""

from __future__ import annotations

from meshtls.wire.side import Side
from meshtls.wire.tls_states import Event, Step
from tests.support.languages import Language, any_of, beginnings, either, prefixes, read, sequence, shuffle

__all__ = ["CONNECTION", "STEPS"]

E = Event
_WORDS = {
    "CH": E.CLIENT_HELLO,
    "HelloRequest": E.HELLO_REQUEST,
    "HRR": E.HELLO_RETRY_REQUEST,
    "SH": E.SERVER_HELLO,
    "EE": E.ENCRYPTED_EXTENSIONS,
    "CR": E.CERTIFICATE_REQUEST,
    "CT": E.CERTIFICATE,
    "Status": E.CERTIFICATE_STATUS,
    "SKE": E.SERVER_KEY_EXCHANGE,
    "Done": E.SERVER_HELLO_DONE,
    "CKE": E.CLIENT_KEY_EXCHANGE,
    "CV": E.CERTIFICATE_VERIFY,
    "EOED": E.END_OF_EARLY_DATA,
    "Ticket": E.NEW_SESSION_TICKET,
    "ccs": E.CHANGE_CIPHER_SPEC,
    "Fin": E.FINISHED,
    "KeyUpdate": E.KEY_UPDATE,
    "data": E.APPLICATION_DATA,
    "enc": E.ENCRYPTED,
    "encalert": E.ENCRYPTED_ALERT,
    "noreneg": E.NO_RENEGOTIATION,
    "warn": E.WARNING,
    "fatal": E.FATAL,
    "close": E.CLOSE_NOTIFY,
    "end": E.END,
    "reset": E.RESET,
    "unknown": E.UNKNOWN,
    "=1.2": E.CHOOSES_1_2,
    "=resumed": E.RESUMES_1_2,
    "=1.3": E.CHOOSES_1_3,
    "=psk": E.ACCEPTS_PSK,
    "=early": E.OFFERS_EARLY_DATA,
    "=accepts": E.ACCEPTS_EARLY_DATA,
    "=empty": E.IS_EMPTY,
}
#: Each symbol of the grammar, and the step that it is.
STEPS: dict[str, Step] = {
    f"{arrow}{word}": (side, event)
    for word, event in _WORDS.items()
    for arrow, side in ((">", Side.CLIENT), ("<", Side.SERVER))
}


class _Names(dict[str, Language]):
    """Names that texts may use, each defined by the ones before it."""

    def add(self, **texts: str) -> None:
        for name, text in texts.items():
            self[name] = read(text, self)


N = _Names()
N["ANY_C"] = any_of(" ".join(one for one in STEPS if one[0] == ">" and one != ">unknown"))
N["ANY_S"] = any_of(" ".join(one for one in STEPS if one[0] == "<" and one != "<unknown"))
N.add(
    # Once a side has ended the connection it is TCP's; the other side may not know yet.
    OVER_C="(>end | >reset | ANY_S)*",
    OVER_S="(<end | <reset | ANY_C)*",
    OVER="(>end | >reset | <end | <reset)*",
    W="(>warn | <warn)",
    # How a handshake is given up (RFC 8446, section 6; RFC 5246, section 7.2), or cut off.
    GIVEN_UP="(>fatal | >close | >end | >reset) OVER_C | (<fatal | <close | <end | <reset) OVER_S",
    BROKEN="(>fatal | >end | >reset) OVER_C | (<fatal | <end | <reset) OVER_S",
    # After one side's close_notify the other one closes, or fails to.
    S_ENDS="<close OVER | (<fatal | <end | <reset) OVER_S | >reset OVER_C",
    C_ENDS=">close OVER | (>fatal | >end | >reset) OVER_C | <reset OVER_S",
)

# Without keys: TCP tells more than TLS.
N.add(
    HIDDEN_C="(>data | >enc | >encalert | >ccs)",
    HIDDEN_S="(<data | <enc | <encalert | <ccs)",
    C_GONE=">end (>end | >reset | HIDDEN_S)* (<end OVER | <reset OVER_S)",
    S_GONE="<end (<end | <reset | HIDDEN_C)* (>end OVER | >reset OVER_C)",
    GONE="C_GONE | S_GONE | >reset OVER_C | <reset OVER_S",
    CCS="(>ccs | <ccs)",
    C_ALERT="(>fatal | >close) OVER_C",
    HIDDEN_12="(HIDDEN_C | HIDDEN_S)* GONE",
    HIDDEN_13="""(CCS | <enc | >warn)* (C_ALERT | (>end | >reset) OVER_C | (<end | <reset) OVER_S
        | >enc (CCS | >enc)* (GONE | <enc (CCS | >enc | <enc)* GONE))""",
    HIDDEN_EARLY="(CCS | <enc | >enc | >warn)* (C_ALERT | GONE)",
)

# TLS 1.2 (RFC 5246, section 7.3), after the ServerHello. HR: a client in a handshake ignores these (section 7.4.1.1).
N.add(
    HR="(<HelloRequest | W)*",
    SERVER_PART="HR <CT HR (<Status HR)? (<SKE HR)?",
    ASKED="<CR HR <Done HR >CT HR (>CKE HR >CV | >=empty HR >CKE) HR",
    NOT_ASKED="<Done HR >CKE HR",
    KEYS="SERVER_PART (ASKED | NOT_ASKED) >ccs",
    FALSE_START="(>data | W)*",  # RFC 7918
    FALSE_START_HR="(>data | <HelloRequest | W)*",
    C_FINISHES="HR (>Fin | >enc)",
    S_AGREES="FALSE_START_HR (<Ticket FALSE_START_HR)? <ccs",  # RFC 5077, section 3.3
    S_FINISHES="FALSE_START (<Fin | <enc)",
    FULL_12="KEYS C_FINISHES S_AGREES S_FINISHES",
    RESUMES="HR (<Ticket HR)? <ccs",
    S_FIRST="W* (<Fin | <enc)",
    C_SECOND="HR (>Fin | >enc)",
    ABBREVIATED="RESUMES S_FIRST HR >ccs C_SECOND",
)
_after_client_keys = read("C_FINISHES S_AGREES S_FINISHES", N)
_after_client_keys_resumed = read("C_SECOND", N)
_after_server_keys = read("S_FINISHES", N)
_after_server_keys_resumed = read("S_FIRST HR >ccs C_SECOND", N)
#: A handshake in which an alert comes that can't be read, since its sender has keys.
N["ALERTS_FULL"] = either(
    sequence(read("KEYS", N), prefixes(_after_client_keys), read(">encalert HIDDEN_12", N)),
    sequence(read("KEYS C_FINISHES S_AGREES", N), prefixes(_after_server_keys), read("<encalert HIDDEN_12", N)),
)
N["ALERTS_ABBREVIATED"] = either(
    sequence(read("RESUMES", N), prefixes(_after_server_keys_resumed), read("<encalert HIDDEN_12", N)),
    sequence(
        read("RESUMES S_FIRST HR >ccs", N),
        prefixes(_after_client_keys_resumed),
        read(">encalert HIDDEN_12", N),
    ),
)
N.add(
    # A server that does not return the client's session ID may still resume, by a ticket.
    CHOICE_12="<=1.2 (FULL_12 | ABBREVIATED) | <=resumed ABBREVIATED",
    CHOICE_12_ALERTS="<=1.2 (ALERTS_FULL | ALERTS_ABBREVIATED) | <=resumed ALERTS_ABBREVIATED",
    D12="(>data | <data | W)",
    # Another handshake within the connection (RFC 5246, sections 7.4.1.1 and 7.4.1.2), mostly refused (section 7.2.2).
    MEANWHILE="(D12 | <HelloRequest)*",
    WANTED="<HelloRequest MEANWHILE",
    BEGUN="WANTED? >CH MEANWHILE",
    AGAIN="<SH W* CHOICE_12",
    OPEN_12="(D12 | WANTED >noreneg | BEGUN (<noreneg | AGAIN))*",
    CLOSED_12=""">close (>end | <data | <HelloRequest | <noreneg | <warn)* S_ENDS
        | <close (<end | >data | >CH | >noreneg | >warn)* C_ENDS""",
    UNREADABLE="(>enc | <enc | >encalert | <encalert) HIDDEN_12",
)
_open_12 = N["OPEN_12"]
N["AFTER_12"] = either(
    sequence(prefixes(_open_12), N["BROKEN"]),
    read("OPEN_12 WANTED? (CLOSED_12 | UNREADABLE)", N),
    read("OPEN_12 BEGUN (UNREADABLE | GIVEN_UP)", N),
    sequence(read("OPEN_12 BEGUN", N), beginnings(N["AGAIN"]), N["GIVEN_UP"]),
    read("OPEN_12 BEGUN <SH W* CHOICE_12_ALERTS", N),
)

# TLS 1.3 (RFC 8446, section 2), after the ServerHello. ChangeCipherSpec: section 5 and appendix D.4.
_LOOSE = read("(W | >ccs | <ccs)*", N)
_LOOSE_SKIPPING = read("(W | >ccs | <ccs | >data)*", N)
_HALF = read("(W | >ccs | <data | <KeyUpdate)*", N)


def _during(text: str, loose: Language) -> Language:
    return shuffle(read(text, N), loose)


N["LOOSE"], N["LOOSE_SKIPPING"], N["HALF"] = _LOOSE, _LOOSE_SKIPPING, _HALF
N.add(
    # Section 4.6.1: tickets before the client's Finished, if it needs no Certificate.
    HALF_NOT_ASKED="(W | >ccs | <data | <KeyUpdate | <Ticket)*",
    HALF_SKIPPING="(W | >ccs | <data | <KeyUpdate | >data)*",
    HALF_NOT_ASKED_SKIPPING="(W | >ccs | <data | <KeyUpdate | <Ticket | >data)*",
    SKIPPING_HIDDEN="(W | CCS | >data | >enc)*",
)
N["S_PLAIN"] = _during("<EE <CT <CV", _LOOSE)
N["S_ASKS"] = _during("<EE <CR <CT <CV", _LOOSE)
N["S_PLAIN_SKIPPING"] = _during("<CT <CV", _LOOSE_SKIPPING)
N["S_ASKS_SKIPPING"] = _during("<CR <CT <CV", _LOOSE_SKIPPING)
N["C_ANSWERS"] = _during(">CT (>=empty | >CV)", _HALF)
N["C_PROVES"] = _during("(>=empty | >CV)", _HALF)
N.add(
    FULL_13="<=1.3 (S_PLAIN <Fin HALF_NOT_ASKED >Fin | S_ASKS <Fin C_ANSWERS >Fin)",
    PSK_13="<=psk LOOSE <EE LOOSE <Fin HALF_NOT_ASKED >Fin",
    # Section 4.2.10: what the server does not accept it skips.
    SKIPPED_13="""<=1.3 SKIPPING_HIDDEN <EE (S_PLAIN_SKIPPING <Fin HALF_NOT_ASKED_SKIPPING >Fin
        | S_ASKS_SKIPPING <Fin HALF_SKIPPING >CT C_PROVES >Fin)""",
    EARLY_13="""<=psk SKIPPING_HIDDEN <EE LOOSE_SKIPPING (<Fin HALF_NOT_ASKED_SKIPPING >Fin
        | <=accepts LOOSE_SKIPPING <Fin HALF_NOT_ASKED_SKIPPING >EOED HALF_NOT_ASKED >Fin)""",
    HIDES="(<=1.3 | <=psk) LOOSE <enc HIDDEN_13",
    HIDES_EARLY="(<=1.3 | <=psk) SKIPPING_HIDDEN <enc HIDDEN_EARLY",
    # Before the server's choice.
    RETRY="<HRR (W | CCS)* >CH (W | CCS)* <SH W*",
    RETRY_SKIPPING="<HRR (W | CCS | >data | >enc)* >CH (W | CCS)* <SH W*",
    EARLY="W* >=early (W | >ccs | >data | >enc)*",
    TO_13="W* <SH W* (FULL_13 | PSK_13) | W* RETRY (FULL_13 | PSK_13)",
    TO_13_EARLY="EARLY (<SH W* (SKIPPED_13 | EARLY_13) | RETRY_SKIPPING (FULL_13 | PSK_13))",
    # Appendix D.3: early data to a server of TLS 1.2 fails.
    TO_12_EARLY="""EARLY <SH W* (<=1.2 | <=resumed) (W | >data | >ccs | <HelloRequest | <CT | <Status | <SKE | <CR
        | <Done | <Ticket | <ccs | <Fin)*""",
    TO_12="W* <SH W* CHOICE_12",
    # An open connection: sections 4.6 and 6.1.
    D13_S="(<data | <KeyUpdate | <Ticket | W)*",
    D13="(>data | >KeyUpdate | <data | <KeyUpdate | <Ticket | W)*",
    LATE="<CR D13",
    LATE_CT="LATE >CT D13_S",
    LATE_PROOF="LATE_CT (>=empty | >CV) D13_S",
    OPEN_13="(D13 | LATE_PROOF >Fin)*",
    CLOSED_BY_C=">close (>end | <data | <KeyUpdate | <Ticket | <CR | <warn)* S_ENDS",
    CLOSED_BY_S="<close (<end | >data | >KeyUpdate | >warn)* C_ENDS",
    CLOSED_BY_S_LATE="<close (<end | >data | >KeyUpdate | >warn | >CT | >=empty | >CV | >Fin)* C_ENDS",
    CLOSED_13="""OPEN_13 (CLOSED_BY_C | CLOSED_BY_S)
        | OPEN_13 (LATE | LATE_CT | LATE_PROOF) (CLOSED_BY_C | CLOSED_BY_S_LATE)""",
)
N["AFTER_13"] = either(N["CLOSED_13"], sequence(prefixes(N["OPEN_13"]), N["BROKEN"]))
_handshakes = read("TO_12 | TO_13 | TO_13_EARLY", N)

#: All that TLS allows on a connection, from its first byte to its end.
CONNECTION: Language = either(
    read("(>end | >reset) OVER_C | (<fatal | <close | <end | <reset) OVER_S", N),
    sequence(read(">CH", N), beginnings(_handshakes), N["GIVEN_UP"]),
    read(">CH TO_12_EARLY GIVEN_UP", N),
    read(">CH (TO_13 | TO_13_EARLY) AFTER_13", N),
    read(">CH TO_12 AFTER_12", N),
    read(">CH W* <SH W* CHOICE_12_ALERTS", N),
    read(">CH (W* <SH W* | W* RETRY | EARLY RETRY_SKIPPING) HIDES", N),
    read(">CH EARLY <SH W* HIDES_EARLY", N),
)
