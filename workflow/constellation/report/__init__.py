"""The report of a campaign: one HTML page that needs no network and no server."""
