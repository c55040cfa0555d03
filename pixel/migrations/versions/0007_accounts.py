"""Proven e-mail addresses, links that prove one, and the networks that people sign in from."""

import sqlalchemy as sa
from alembic import op

revision = "0007_accounts"
down_revision = "0006_claims"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE users SET verified_at = created_at WHERE password_hash IS NOT NULL")
    # An invitation may have been shown to the inviter, so no earlier invitation proves an address.
    op.add_column("links", sa.Column("proves_address", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(sa.text("UPDATE links SET proves_address = :yes WHERE purpose <> 'invite'").bindparams(yes=True))
    op.create_table(
        "known_networks",
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_known_networks_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "hash", name=op.f("pk_known_networks")),
    )
    op.drop_column("sessions", "network")


def downgrade() -> None:
    op.add_column("sessions", sa.Column("network", sa.String(length=45), nullable=False, server_default=""))
    op.drop_table("known_networks")
    # The earlier version lets every link set a password.
    op.execute(sa.text("DELETE FROM links WHERE proves_address = :no").bindparams(no=False))
    op.drop_column("links", "proves_address")
    op.drop_column("users", "verified_at")
