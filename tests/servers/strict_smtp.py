"""A strict SMTP server for tests: STARTTLS, then AUTH (user u, password p); replies chosen by the recipient's address.

usage: strict_smtp.py PORT CERT KEY [RECORDS]      (needs aiosmtpd); prints one JSON line a message taken
bounce550*@ is answered with 550, defer451*@ with 451. With RECORDS, a JSON file of TXT records by name, it looks at the signatures (needs
dkimpy): `dkim` says whether that of the message holds, `changed` whether it does with one byte of the body changed.
"""
import json
import signal
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

REPLIES = {"bounce550": "550 5.1.1 no such user", "defer451": "451 4.7.1 come back later"}


class Taker:
    async def handle_RCPT(self, server, session, envelope, address, options):
        for prefix, reply in REPLIES.items():
            if address.lower().startswith(prefix):
                return reply
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server, session, envelope):
        said = {"tls": session.ssl is not None, "bytes": len(envelope.content)}
        if records:
            head, _, body = envelope.content.partition(b"\r\n\r\n")
            changed = head + b"\r\n\r\n" + body.replace(b"e", b"a", 1)
            said |= {"mail": envelope.content.decode("latin-1"), "dkim": holds(envelope.content), "changed": holds(changed)}
        print(json.dumps(said), flush=True)
        return "250 2.0.0 taken"


def holds(mail):
    import dkim
    return dkim.verify(mail, dnsfunc=lambda name, timeout=5: records.get(name.decode().rstrip(".")))


def check(server, session, envelope, mechanism, data):
    good = data.login == b"u" and data.password == b"p"
    return AuthResult(success=good, handled=good)


port, cert, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
records = {}
if len(sys.argv) > 4:
    with open(sys.argv[4]) as file:
        records = {name: text.encode() for name, text in json.load(file).items()}
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
controller = Controller(Taker(), hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True,
                        authenticator=check, auth_required=True, auth_require_tls=True)
controller.start()
signal.pause()
