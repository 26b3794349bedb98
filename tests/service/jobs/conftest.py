import uuid

import pytest

from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import create_token


@pytest.fixture
async def token(database: Database) -> uuid.UUID:
    return (await create_token(database, "any"))[1].id
