"""Settings, members."""

from flask import g, request
from werkzeug.wrappers import Response

from pixel import access, errors, links, mail, members, pages
from pixel.access import enter
from pixel.foreign_text import plain_text
from pixel.settings import forms, settings


@settings.get("/settings/members")
@enter("viewer")
def all_members():
    """Who is in the workspace, and who is invited."""
    return _list(forms.Invite(formdata=None))


@settings.post("/settings/members")
@enter("admin")
def invite() -> pages.Page | Response:
    """Invite somebody. Without a mail server, show the link for the inviter to pass on."""
    form = forms.Invite()
    if not form.sent():
        return _list(form, 400)
    _refuse_beyond_own_role(form.role.data)
    workspace, email = g.person.workspace, members.address(form.email.data)
    try:
        if mail.configured():
            access.count_invitation(workspace.id)
        link = members.invite(workspace.id, workspace.name, email, form.role.data, **pages.actor())
    except ValueError as refusal:
        form.refuse("email", refusal)
        return _list(form, 400)
    except errors.RateLimitExceeded as refusal:
        g.entry.failed(refusal, refusal)
        form.refuse(None, refusal)
        return _list(form, 429, headers=refusal.headers)
    if link:
        # No redirect, because the link is shown once and stored nowhere.
        command = members.operator_command("create", email)
        return pages.page("settings/members/invited.html", email=email, invitation=link, command=command)
    return pages.done("/settings/members", f"{plain_text(email)} is sent a link by which to join, within 7 days.")


@settings.post("/settings/members/invitations/<link_id>/withdraw")
@enter("admin")
def withdraw(link_id):
    """End an invitation."""
    form = forms.Plain()
    if not form.sent():
        return _list(forms.Invite(formdata=None), 400, form)
    email = members.withdraw(g.person.workspace_id, link_id, **pages.actor())
    if email is None:
        raise errors.NotFound()
    return pages.done("/settings/members", f"The invitation of {plain_text(email)} is withdrawn.")


@settings.get("/settings/members/<user_id>")
@enter("admin")
def one_member(user_id):
    """Another role, or none."""
    member = _member(user_id)
    return _member_page(member, forms.Role(formdata=None, role=member.role))


@settings.post("/settings/members/<user_id>/role")
@enter("admin")
def change_role(user_id):
    """Give a member another role."""
    member, form = _member(user_id), forms.Role()
    if not form.sent():
        return _member_page(member, form, 400)
    _refuse_beyond_own_role(member.role, form.role.data)
    try:
        members.change_role(g.person.workspace_id, user_id, form.role.data, **pages.actor())
    except ValueError as refusal:
        form.refuse("role", refusal)
        return _member_page(member, form, 400)
    return pages.done("/settings/members", f"{plain_text(member.email)} is {form.role.data} now.")


@settings.post("/settings/members/<user_id>/remove")
@enter("admin")
def remove(user_id):
    """Take a member out of the workspace."""
    member = _member(user_id)
    _refuse_beyond_own_role(member.role)
    return _take_out(member, "/settings/members", f"{plain_text(member.email)} is no longer a member.")


@settings.get("/settings/members/leave")
@enter("viewer")
def ask_to_leave():
    """Ask once more."""
    return pages.page("settings/members/leave.html", form=forms.Plain())


@settings.post("/settings/members/leave")
@enter("viewer")
def leave():
    """Leave the workspace."""
    return _take_out(
        _member(g.person.id), "/account", f"You are no longer a member of {plain_text(g.person.workspace.name)}."
    )


def _take_out(member, address, words):
    leaves, form = request.path.endswith("/leave"), forms.Plain()
    if form.sent():
        try:
            members.remove(g.person.workspace_id, member.user_id, **pages.actor())
            return pages.done(address, words)
        except ValueError as refusal:
            form.refuse(None, refusal)
    if leaves:
        return pages.again("settings/members/leave.html", form=form)
    return _member_page(member, forms.Role(formdata=None, role=member.role), 400, form)


def _refuse_beyond_own_role(*roles):
    """Owners are made, changed and removed by owners only."""
    if "owner" in roles and not g.person.may("owner"):
        raise errors.InsufficientRole("Only an owner makes, changes or removes an owner.")


def _member(user_id):
    member = members.member(g.person.workspace_id, user_id)
    if member is None:
        raise errors.NotFound()
    return member


def _list(
    form: forms.Invite, status: int = 200, plain: forms.Plain | None = None, headers: dict[str, str] | tuple[()] = ()
) -> pages.Page:
    workspace_id = g.person.workspace_id
    return pages.page(
        "settings/members/list.html", status, headers, form=form, plain=plain, members=members.of(workspace_id),
        invitations=links.of(workspace_id), about=members.ROLES, mails=mail.configured(),
    )  # fmt: skip


def _member_page(member, form, status=200, plain=None):
    return pages.page(
        "settings/members/member.html", status, member=member, form=form, plain=plain, about=members.ROLES
    )
