"""Settings, audit log."""

from urllib.parse import urlencode

from flask import g, request

from pixel import audit, pages
from pixel.access import enter
from pixel.settings import settings

MOST = 50


@settings.get("/settings/audit")
@enter("viewer")
def audit_log():
    """Who changed what, newest first."""
    action, before = request.args.get("action"), request.args.get("before", "")[:40]
    action = action if action in audit.ACTIONS else None
    found = audit.of(g.person.workspace_id, before or None, MOST + 1, action)
    entries = found[:MOST]
    older = {"action": action or "", "before": entries[-1].id} if len(found) > MOST else None
    return pages.page(
        "settings/audit.html", entries=entries, action=action, actions=_ACTIONS, before=before,
        older=older and f"?{urlencode(older)}",
    )  # fmt: skip


#: What people did with their own accounts is on the page of their account.
_ACTIONS = {
    name: words for name, words in audit.ACTIONS.items()
    if name.partition(".")[0] in ("workspace", "key", "website", "member", "support")
}  # fmt: skip
