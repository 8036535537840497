"""What decisions hold is compressed by LZ4 where PostgreSQL can."""

import pytest
from django.db import connection

pytestmark = pytest.mark.django_db


def test_facts_and_findings_are_compressed_by_lz4():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        )
        if cursor.fetchone() != (True,):
            pytest.skip("this PostgreSQL was built without LZ4")
        cursor.execute(
            "SELECT attname::text, attcompression::text FROM pg_attribute "
            "WHERE attrelid = 'gates_decision'::regclass AND attname IN ('facts', 'findings') ORDER BY 1"
        )
        assert cursor.fetchall() == [("facts", "l"), ("findings", "l")]
