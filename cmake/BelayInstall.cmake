# Nothing to install yet beyond what the folders say themselves.
