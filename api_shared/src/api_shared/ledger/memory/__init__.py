"""The ledger in memory, for unit tests and for the tests of users."""
