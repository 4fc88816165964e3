"""What everything stands on. Nothing above is imported here."""
