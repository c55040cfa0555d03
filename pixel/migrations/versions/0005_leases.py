"""Leases, by which one of several servers does what is done by the clock; room for the longest e-mail addresses."""

import sqlalchemy as sa
from alembic import op

revision = "0005_leases"
down_revision = "0004_pixel"
branch_labels = None
depends_on = None

#: Columns that name who did something, which may be an e-mail address of 254 characters.
ACTORS = {"api_keys": "created_by", "audit": "actor", "links": "created_by"}


def upgrade():
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.String(length=40), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    _resize(200, 254)


def downgrade():
    _resize(254, 200)
    op.drop_table("leases")


def _resize(before, after):
    for table, column in ACTORS.items():
        with op.batch_alter_table(table) as changed:
            changed.alter_column(
                column, existing_type=sa.String(before), type_=sa.String(after), existing_nullable=False
            )
