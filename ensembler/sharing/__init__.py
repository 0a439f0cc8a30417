"""A team's pool of members: shared, listed, pulled, merged."""
