"""The catalogue as Apache Iceberg tables: publications, releases, and how they are read."""
