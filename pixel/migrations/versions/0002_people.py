"""Sessions, one-time links, keys that are shown once, websites that are removed."""

import sqlalchemy as sa
from alembic import op

revision = "0002_people"
down_revision = "0001_control_data"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("workspace_id", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("network", sa.String(length=45), nullable=False),
        sa.Column("user_agent", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id_users"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_sessions_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("hash", name=op.f("uq_sessions_hash")),
    )
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"])
    op.create_table(
        "links",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=10), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("workspace_id", sa.String(length=40), nullable=True),
        sa.Column("role", sa.String(length=10), nullable=True),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_links_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_links")),
        sa.UniqueConstraint("hash", name=op.f("uq_links_hash")),
    )
    op.create_index(op.f("ix_links_email"), "links", ["email"])
    op.create_index(op.f("ix_links_workspace_id"), "links", ["workspace_id"])
    with op.batch_alter_table("api_keys") as keys:
        keys.add_column(sa.Column("form", sa.String(length=40), nullable=True))
        keys.add_column(sa.Column("sealed", sa.LargeBinary(), nullable=True))
        keys.create_unique_constraint(op.f("uq_api_keys_form"), ["form"])
    with op.batch_alter_table("websites") as websites:
        websites.add_column(sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("audit") as audit:
        audit.alter_column("workspace_id", existing_type=sa.String(length=40), nullable=True)
        audit.create_index(op.f("ix_audit_subject"), ["subject"])


def downgrade():
    op.execute("DELETE FROM audit WHERE workspace_id IS NULL")
    with op.batch_alter_table("audit") as audit:
        audit.drop_index(op.f("ix_audit_subject"))
        audit.alter_column("workspace_id", existing_type=sa.String(length=40), nullable=False)
    with op.batch_alter_table("websites") as websites:
        websites.drop_column("removed_at")
    with op.batch_alter_table("api_keys") as keys:
        keys.drop_constraint(op.f("uq_api_keys_form"), type_="unique")
        keys.drop_column("sealed")
        keys.drop_column("form")
    op.drop_table("links")
    op.drop_table("sessions")
