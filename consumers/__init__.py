"""What the change log becomes: tables, and everything else materialized from it."""
