"""A small survey in S3: where it lies, how it is cut, and how to change it."""

from __future__ import annotations

from tests.servers.s3 import S3Server

TILING = {"tiles": "tiles.csv", "sub_tile_grid": [1, 2]}
PREFIX = "surveys/first"


def replace(survey: S3Server, name: str, content: bytes) -> None:
    """Give the one object whose key ends so another content."""
    [key] = [key for key in survey.objects(PREFIX) if key.endswith(name)]
    survey.client().put_object(Bucket=survey.bucket, Key=key, Body=content)
