"""What alembic runs.  The caller (`nofx_grpc.store.schema`) has begun the one transaction that all steps share, and
commits it.
"""

from alembic import context

from nofx_grpc.store import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    render_as_batch=True,
    transactional_ddl=False,  # alembic is to begin and commit nothing
)
context.run_migrations()
