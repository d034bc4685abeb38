"""The ledger on MongoDB."""
