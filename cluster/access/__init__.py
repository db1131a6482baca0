"""Who may send what: API keys and their roles, hosts and origins, limits, and the record of writes."""
