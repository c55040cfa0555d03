"""Mail: what is to be sent waits in a table, sealed, until the engine's process has handed it to the mail server."""

import base64
import hashlib
import json
import logging
import smtplib
import ssl
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid, parseaddr
from urllib.parse import unquote, urlsplit

from cryptography.fernet import Fernet, InvalidToken
from flask import current_app, render_template
from sqlalchemy import LargeBinary, String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from pixel import clock, ids
from pixel.database import Moment, db, transaction

#: How long to wait after the first, second ... attempt that failed; after the last the mail is given up.
RETRIES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 720))
#: How long a mail that is being sent is left to its sender, who may have died.
CLAIMED = timedelta(minutes=2)
#: How long it is known what was sent.
KEPT = timedelta(days=90)
_TIMEOUT_SECONDS = 10
_LOG = logging.getLogger("pixel.mail")


class Mail(db.Model):
    __tablename__ = "mails"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    recipient: Mapped[str] = mapped_column(String(254))
    template: Mapped[str] = mapped_column(String(40))
    #: Subject and text, which may hold a link that lets somebody in; None as soon as they are of no more use.
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    #: What makes this mail the only one of its kind.
    once: Mapped[str | None] = mapped_column(String(400), unique=True)
    created_at: Mapped[object] = mapped_column(Moment)
    #: When it is to be sent, or tried again; None when it is held, was sent or was given up.
    due_at: Mapped[object | None] = mapped_column(Moment, index=True)
    sent_at: Mapped[object | None] = mapped_column(Moment)
    tries: Mapped[int] = mapped_column(default=0)
    failure: Mapped[str | None] = mapped_column(String(300))


def configured():
    """Whether this server sends mail."""
    return bool(current_app.config["SMTP_URL"])


def post(
    session: Session, recipient: str, template: str, once: str | None = None, *, held: bool = False, **facts: object
) -> bool:
    """Within a transaction, queue a mail. Return False without SMTP_URL, where no mail is sent.

    `template` names a file of templates/mail, whose first line is the subject. Of mails with the same `once` only the
    first is sent. A held mail waits until its `due_at` is set.
    """
    if not configured():
        return False
    if once and session.scalar(select(Mail.id).filter_by(once=once)):
        return True
    text = render_template(f"mail/{template}.txt", **facts)
    first, _, body = text.partition("\n")
    now = clock.now()
    session.add(
        Mail(
            id=ids.in_time("mail_"),
            recipient=recipient,
            template=template,
            sealed=_lock().encrypt(json.dumps([first.removeprefix("Subject: "), body.strip() + "\n"]).encode()),
            once=once,
            created_at=now,
            due_at=None if held else now,
        )
    )
    return True


def list_held(template: str, session: Session | None = None) -> list[Mail]:
    """Return the held mails of a template. Pass the session of a transaction to change them."""
    # A mail that was sent or given up has no text any more.
    waiting = select(Mail).where(Mail.template == template, Mail.due_at.is_(None), Mail.sealed.is_not(None))
    return list((session or db.session).scalars(waiting))


def waiting() -> list[Mail]:
    """Return the newest mails that were not sent: held, due or given up."""
    found = select(Mail).where(Mail.sent_at.is_(None)).order_by(Mail.id.desc()).limit(100)
    return list(db.session.scalars(found))


def send_due(most=20):
    """Hand what is due to the mail server, oldest first. When the server is away, the rest waits."""
    if not configured():
        return
    due = select(Mail.id).where(Mail.due_at <= clock.now()).order_by(Mail.due_at).limit(most)
    for mail_id in db.session.scalars(due).all():
        mail = _claim(mail_id)
        if mail is not None and not _try(mail):
            break


def sweep():
    """Forget what was sent or given up long ago."""
    with transaction() as session:
        session.execute(delete(Mail).where(Mail.created_at < clock.now() - KEPT))


def _claim(mail_id):
    """Have a due mail for this sender alone; None when another was quicker, in whatever process or server."""
    now = clock.now()
    with transaction() as session:
        mail = session.get(Mail, mail_id)
        if mail is None or mail.due_at is None or mail.due_at > now:
            return None
        mail.due_at = now + CLAIMED
    return mail


def _try(mail):
    """Attempt one mail. Returns whether the server was there."""
    try:
        _send(mail)
    except smtplib.SMTPRecipientsRefused as refused:
        codes = [code for code, _ in refused.recipients.values()]
        _failed(mail, f"recipient refused ({', '.join(map(str, codes))})", for_good=min(codes) >= 500)
    except smtplib.SMTPResponseException as refused:
        _failed(mail, f"{type(refused).__name__} ({refused.smtp_code})", for_good=False)
        return not isinstance(refused, (smtplib.SMTPAuthenticationError, smtplib.SMTPConnectError))
    except (OSError, smtplib.SMTPException) as away:
        _failed(mail, type(away).__name__, for_good=False)
        return False
    except InvalidToken:
        _failed(mail, "SECRET_KEY has changed since", for_good=True)
    else:
        _note(mail, sent_at=clock.now(), due_at=None, sealed=None, failure=None, tries=mail.tries + 1)
    return True


def _send(mail: Mail) -> None:
    """Send a mail to its recipient and nobody else. Raise SMTPRecipientsRefused, SMTPException or OSError."""
    subject, body = json.loads(_lock().decrypt(mail.sealed))
    sender = current_app.config["MAIL_FROM"]
    # This policy refuses a line break in any header, whatever a name holds.
    message = EmailMessage(policy=SMTP)
    message["From"], message["Subject"] = sender, subject
    try:
        message["To"] = mail.recipient
    except Exception:
        # The parser raises errors of many kinds. A mail that cannot be built must not be tried for ever.
        raise _no_such_recipient(mail.recipient) from None
    message["Date"] = formatdate(mail.created_at.timestamp())
    # The same at each attempt, so that a mail that came twice is known to be one.
    message["Message-ID"] = f"<{mail.id}@{parseaddr(sender)[1].partition('@')[2] or make_msgid()}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body)
    with _server() as server:
        if not (mail.recipient.isascii() or server.has_extn("smtputf8")):
            raise _no_such_recipient(mail.recipient)
        server.send_message(message, to_addrs=[mail.recipient])


def _no_such_recipient(recipient: str) -> smtplib.SMTPRecipientsRefused:
    return smtplib.SMTPRecipientsRefused({recipient: (553, b"")})


def _server():
    """A connection to the mail server, encrypted wherever that can be had, and always for a password."""
    url, context = urlsplit(current_app.config["SMTP_URL"]), ssl.create_default_context()
    if url.scheme == "smtps":
        server = smtplib.SMTP_SSL(url.hostname, url.port or 465, timeout=_TIMEOUT_SECONDS, context=context)
    else:
        server = smtplib.SMTP(url.hostname, url.port or 25, timeout=_TIMEOUT_SECONDS)
    try:
        server.ehlo()
        if url.scheme == "smtp" and server.has_extn("starttls"):
            server.starttls(context=context)
            server.ehlo()
        elif url.scheme == "smtp" and url.username:
            raise smtplib.SMTPNotSupportedError("The mail server offers no STARTTLS, so it gets no password.")
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))
    except BaseException:
        server.close()
        raise
    return server


def _failed(mail, failure, for_good):
    tries = mail.tries + 1
    again = None if for_good or tries > len(RETRIES) else clock.now() + RETRIES[tries - 1]
    # The server's own words may repeat what was sent, so only their kind is told.
    _LOG.warning("mail %s failed: %s", mail.id, failure)
    _note(mail, tries=tries, failure=failure, due_at=again, **({} if again else {"sealed": None}))


def _note(mail, **values):
    with transaction() as session:
        row = session.get_one(Mail, mail.id)
        for name, value in values.items():
            setattr(row, name, value)


def _lock():
    key = hashlib.sha256(b"mail\0" + current_app.config["SECRET_KEY"].encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))
