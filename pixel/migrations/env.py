"""How Alembic reaches the database: through the app, which `flask db` has made."""

from alembic import context

from pixel.database import db, has_model, migration

with migration() as connection:
    context.configure(
        connection=connection, target_metadata=db.metadata, render_as_batch=True, include_object=has_model
    )
    with context.begin_transaction():
        context.run_migrations()
